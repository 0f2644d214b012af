"""The executable specification: every op in plain torch, short, slow and meant to be read.

Same names and signatures as `ssd_fast`, CPU or CUDA tensors, float32 throughout, one rounding an operation. The kernels
equal it bit for bit wherever exp and log do not enter (IoU, kept indices, default boxes) and by tolerance elsewhere. It
trusts its arguments: the checks and their messages belong to the ops.
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
