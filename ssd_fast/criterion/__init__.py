"""The training criterion: matching and the MultiBox loss as one module."""

from .criterion import SSDCriterion
from .parts import Selection

__all__ = ["SSDCriterion", "Selection"]
