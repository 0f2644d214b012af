"""Run torchvision's SSD and SSDlite on the kernels of this package: same calls, same dicts, same order."""

from .patch import patch, patched, unpatch

__all__ = ["patch", "patched", "unpatch"]
