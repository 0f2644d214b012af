"""Hand-written CUDA and CPU kernels for SSD object detection, composed with standard SSD networks in PyTorch."""

from ._backend import build_info, cuda_status
from .detections import Detections
from .ops import (
    batched_nms,
    box_iou,
    decode_boxes,
    default_boxes,
    encode_boxes,
    nms,
    nms_padded,
    postprocess,
)
from .presets import Preset, list_presets, preset
from .specs import BoxCoderSpec, DefaultBoxSpec, PostprocessSpec

__version__ = "0.1.0"

__all__ = [
    "BoxCoderSpec",
    "DefaultBoxSpec",
    "Detections",
    "PostprocessSpec",
    "Preset",
    "batched_nms",
    "box_iou",
    "build_info",
    "cuda_status",
    "decode_boxes",
    "default_boxes",
    "encode_boxes",
    "list_presets",
    "nms",
    "nms_padded",
    "postprocess",
    "preset",
]
