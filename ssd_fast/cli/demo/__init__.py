"""`ssd-fast demo`: pictures of the stages of an SSD, and a comparison with torch and torchvision."""

from .command import demo

__all__ = ["demo"]
