"""Other codebases' models, running on the kernels of this package. Importing it imports none of those codebases."""

from .torchvision import patch, patched, unpatch

__all__ = ["patch", "patched", "unpatch"]
