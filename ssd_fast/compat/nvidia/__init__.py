"""NVIDIA DeepLearningExamples, PyTorch/Detection/SSD: DefaultBoxes, Encoder and Loss, by the kernels of this package.

Change the imports and leave the calls: `from ssd_fast.compat.nvidia import Encoder, Loss, dboxes300_coco`.
"""

from .default_boxes import DefaultBoxes, dboxes300_coco
from .encoder import Encoder
from .loss import Loss

__all__ = ["DefaultBoxes", "Encoder", "Loss", "dboxes300_coco"]
