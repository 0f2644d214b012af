"""The training criterion: matching and the MultiBox loss as one module."""

from .criterion import Selection, SSDCriterion

__all__ = ["SSDCriterion", "Selection"]
