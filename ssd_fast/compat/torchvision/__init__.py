"""Run torchvision's SSD and SSDlite on the kernels of this package: same calls, same dicts, same order."""

from .patch import patch, patched, unpatch
from .patch_ops import patch_torchvision_ops, unpatch_torchvision_ops

__all__ = ["patch", "patch_torchvision_ops", "patched", "unpatch", "unpatch_torchvision_ops"]
