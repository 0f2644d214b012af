"""Hand-written CUDA and CPU kernels for SSD object detection, composed with standard SSD networks in PyTorch."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._backend import build_info, cuda_status
from .detections import Detections
from .ops import (
    batched_nms,
    box_iou,
    decode_boxes,
    default_boxes,
    encode_boxes,
    match,
    multibox_loss,
    nms,
    nms_padded,
    postprocess,
)
from .presets import Preset, list_presets, preset
from .specs import BoxCoderSpec, DefaultBoxSpec, LossSpec, MatcherSpec, PostprocessSpec

if TYPE_CHECKING:
    from . import assets as assets
    from . import compat as compat
    from . import datasets as datasets
    from . import evaluation as evaluation
    from . import images as images
    from . import models as models
    from . import ops as ops
    from . import presets as presets
    from . import reference as reference
    from . import specs as specs
    from . import training as training
    from .compat import ParityReport, compare, patch, patched, unpatch
    from .criterion import SSDCriterion
    from .detector import Detector, load_detector
    from .drawing import draw_detections
    from .drawing_matches import draw_matches

__version__ = "0.1.0"

# What needs a network, an image library or torchvision is imported when it is first asked for, and so are the modules.
_MODULES = (
    "assets",
    "compat",
    "datasets",
    "evaluation",
    "images",
    "models",
    "ops",
    "presets",
    "reference",
    "specs",
    "training",
)
_LAZY = {
    "ParityReport": ".compat",
    "SSDCriterion": ".criterion",
    "compare": ".compat",
    "Detector": ".detector",
    "load_detector": ".detector",
    "draw_detections": ".drawing",
    "draw_matches": ".drawing_matches",
    "patch": ".compat",
    "patched": ".compat",
    "unpatch": ".compat",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f".{name}", __name__)
    if name in _LAZY:
        return getattr(import_module(_LAZY[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_MODULES])


__all__ = [
    "BoxCoderSpec",
    "DefaultBoxSpec",
    "Detections",
    "Detector",
    "LossSpec",
    "MatcherSpec",
    "ParityReport",
    "PostprocessSpec",
    "Preset",
    "SSDCriterion",
    "batched_nms",
    "box_iou",
    "build_info",
    "compare",
    "cuda_status",
    "decode_boxes",
    "default_boxes",
    "draw_detections",
    "draw_matches",
    "encode_boxes",
    "list_presets",
    "load_detector",
    "match",
    "multibox_loss",
    "nms",
    "nms_padded",
    "patch",
    "patched",
    "postprocess",
    "preset",
    "unpatch",
]
