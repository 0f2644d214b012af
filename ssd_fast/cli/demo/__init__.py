"""`ssd-fast demo`: pictures of SSD's stages, and the kernels beside torch and torchvision."""

from .command import demo

__all__ = ["demo"]
