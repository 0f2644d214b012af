"""lufficc/SSD: its PriorBox, SSDTargetTransform, MultiBoxLoss and PostProcessor, by the kernels of this package.

Change the imports and leave the calls, for example in ssd/modeling/box_head/box_head.py:
`from ssd_fast.compat.lufficc import MultiBoxLoss, PostProcessor, PriorBox`. A cfg is any object with the
original's attributes, such as its yacs configuration.
"""

from .default_boxes import PriorBox
from .loss import MultiBoxLoss, SSDTargetTransform
from .post_processor import Container, PostProcessor

__all__ = ["Container", "MultiBoxLoss", "PostProcessor", "PriorBox", "SSDTargetTransform"]
