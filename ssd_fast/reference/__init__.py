"""The executable specification: every op in plain torch, short, slow and meant to be read.

Same names and signatures as in `ssd_fast`, on CPU or CUDA tensors, in float32 throughout, with one rounding per
operation. The kernels equal it bit for bit wherever exp and log do not enter (IoU, kept indices, default boxes) and
within a tolerance elsewhere. It trusts its arguments: the checks and their messages belong to the ops.

Examples:
    >>> import ssd_fast, torch
    >>> boxes, scores = torch.rand(50, 4).cumsum(1), torch.rand(50)
    >>> kept = ssd_fast.nms(boxes, scores, 0.5)
    >>> torch.equal(kept, ssd_fast.reference.nms(boxes, scores, 0.5))
    True
"""

from .box_coder import decode_boxes, encode_boxes
from .box_iou import box_iou
from .default_boxes import default_boxes
from .match import match
from .multibox_loss import multibox_loss
from .nms import batched_nms, nms, nms_padded
from .postprocess import postprocess

__all__ = [
    "batched_nms",
    "box_iou",
    "decode_boxes",
    "default_boxes",
    "encode_boxes",
    "match",
    "multibox_loss",
    "nms",
    "nms_padded",
    "postprocess",
]
