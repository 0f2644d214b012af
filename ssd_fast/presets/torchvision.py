"""torchvision.models.detection: its two SSDs."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ..specs import BoxCoderSpec, DefaultBoxSpec, LossSpec, MatcherSpec, PostprocessSpec
from ._preset import SSD300_MAPS, SSD300_RATIOS, SSD300_STEPS, Preset

_CODER = BoxCoderSpec(log_scale_clamp=(-math.inf, math.log(1000 / 16)))


def _ssd300_vgg16(name: str) -> Preset:
    """ssd300_vgg16. Default boxes are equal to 2 ulp of a box's largest coordinate."""
    boxes = DefaultBoxSpec.from_scales(
        (300, 300),
        SSD300_MAPS,
        scales=(0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05),
        aspect_ratios=SSD300_RATIOS,
        steps=SSD300_STEPS,
    )
    return Preset(name, boxes, _CODER, MatcherSpec(), LossSpec(), PostprocessSpec(clip="before_nms"))


def _ssdlite320_mobilenet_v3_large(name: str) -> Preset:
    """ssdlite320_mobilenet_v3_large. Default boxes are equal to 1 ulp of a box's largest coordinate."""
    boxes = DefaultBoxSpec.from_scales(
        (320, 320),
        (20, 10, 5, 3, 2, 1),
        scales=(*np.linspace(0.2, 0.95, 6).tolist(), 1.0),
        aspect_ratios=((2, 3),) * 6,
    )
    postprocess = PostprocessSpec(
        score_threshold=0.001, top_k=300, iou_threshold=0.55, keep_top_k=300, clip="before_nms"
    )
    return Preset(name, boxes, _CODER, MatcherSpec(), LossSpec(), postprocess)


PRESETS: dict[str, Callable[[str], Preset]] = {
    "torchvision_ssd300_vgg16": _ssd300_vgg16,
    "torchvision_ssdlite320_mobilenet_v3_large": _ssdlite320_mobilenet_v3_large,
}
