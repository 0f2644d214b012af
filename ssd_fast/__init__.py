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
    from .compat import (
        ParityReport,
        compare,
        patch,
        patch_torchvision_ops,
        patched,
        unpatch,
        unpatch_torchvision_ops,
    )
    from .criterion import SSDCriterion
    from .detector import Detector, load_detector
    from .drawing import draw_detections, draw_matches

__version__ = "0.1.0"

# Names that need a network, an image library or torchvision are imported on first use: each with the module that has
# it, or None if the name is a module itself.
_LAZY = {
    "Detector": "detector",
    "ParityReport": "compat",
    "SSDCriterion": "criterion",
    "assets": None,
    "compare": "compat",
    "compat": None,
    "datasets": None,
    "draw_detections": "drawing",
    "draw_matches": "drawing",
    "evaluation": None,
    "images": None,
    "load_detector": "detector",
    "models": None,
    "ops": None,
    "patch": "compat",
    "patch_torchvision_ops": "compat",
    "patched": "compat",
    "presets": None,
    "reference": None,
    "specs": None,
    "training": None,
    "unpatch": "compat",
    "unpatch_torchvision_ops": "compat",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f".{_LAZY[name] or name}", __name__)
    return module if _LAZY[name] is None else getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*__all__, *_LAZY})


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
    "patch_torchvision_ops",
    "patched",
    "postprocess",
    "preset",
    "unpatch",
    "unpatch_torchvision_ops",
]
