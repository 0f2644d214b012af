"""Run other codebases' models on the kernels of this package. Importing it imports none of those codebases."""

from .torchvision import patch, patch_torchvision_ops, patched, unpatch, unpatch_torchvision_ops
from .torchvision.compare import ParityReport, compare

__all__ = [
    "ParityReport",
    "compare",
    "patch",
    "patch_torchvision_ops",
    "patched",
    "unpatch",
    "unpatch_torchvision_ops",
]
