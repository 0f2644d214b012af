"""Frozen specs that say which SSD dialect an op speaks. Each is checked when it is made, so ops need not check it."""

from .box_coder import BoxCoderSpec
from .default_boxes import DefaultBoxSpec
from .loss import LossSpec
from .matcher import MatcherSpec
from .postprocess import PostprocessSpec

__all__ = ["BoxCoderSpec", "DefaultBoxSpec", "LossSpec", "MatcherSpec", "PostprocessSpec"]
