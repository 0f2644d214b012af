"""The ops: each checks its arguments, allocates its result like its input, and calls one kernel family."""

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
