"""Other codebases' models, running on the kernels of this package. Importing it imports none of those codebases."""

from .parity import ParityReport, compare
from .torchvision import patch, patched, unpatch

__all__ = ["ParityReport", "compare", "patch", "patched", "unpatch"]
