"""Run torchvision's SSD, SSDlite and NMS on the kernels of this package: same calls, same results, same order."""

from .patch import patch, patched, unpatch
from .patch_ops import patch_torchvision_ops, unpatch_torchvision_ops

__all__ = ["patch", "patch_torchvision_ops", "patched", "unpatch", "unpatch_torchvision_ops"]
