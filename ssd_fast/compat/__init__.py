"""Run other codebases' models on the kernels of this package. Importing it imports none of those codebases."""

from .torchvision import patch, patched, unpatch
from .torchvision.compare import ParityReport, compare

__all__ = ["ParityReport", "compare", "patch", "patched", "unpatch"]
