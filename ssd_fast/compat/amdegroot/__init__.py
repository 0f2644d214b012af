"""amdegroot/ssd.pytorch: its PriorBox, MultiBoxLoss and Detect, by the kernels of this package.

Change the imports and leave the calls: `from ssd_fast.compat.amdegroot import Detect, MultiBoxLoss, PriorBox`.
"""

from .default_boxes import PriorBox
from .detect import Detect
from .loss import MultiBoxLoss

__all__ = ["Detect", "MultiBoxLoss", "PriorBox"]
