"""TensorFlow's object detection API, and TFLite's op for its models."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

from ..specs import BoxCoderSpec, DefaultBoxSpec, MatcherSpec, PostprocessSpec
from ._preset import Preset


def _anchors() -> DefaultBoxSpec:
    """Of ssd_mobilenet and ssdlite_mobilenet, v1 and v2, at 300x300: linspace(0.2, 0.95, 6), the mean square last."""
    scales = (0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.0)
    side = 300
    levels = []
    for index, (scale, following) in enumerate(itertools.pairwise(scales)):
        if index == 0:
            shapes = [(0.1, 1.0), (scale, 2.0), (scale, 0.5)]
        else:
            shapes = [(scale, ratio) for ratio in (1.0, 2.0, 0.5, 3.0, 0.3333)]
            shapes.append((math.sqrt(scale * following), 1.0))
        levels.append(tuple((side * s * math.sqrt(ratio), side * s / math.sqrt(ratio)) for s, ratio in shapes))
    return DefaultBoxSpec(
        image_size=(side, side),
        feature_maps=tuple((size, size) for size in (19, 10, 5, 3, 2, 1)),
        box_sizes=tuple(levels),
        normalized=True,
    )


def _preset(name: str, postprocess: PostprocessSpec) -> Preset:
    return Preset(name, _anchors(), BoxCoderSpec(order="yx"), MatcherSpec(claimed_twice="first"), None, postprocess)


def _ssdlite_mobilenet_v2(name: str) -> Preset:
    """ssdlite_mobilenet_v2_coco; ssd_mobilenet_v1_coco and v2 have the same values. Anchors equal to 2 ulp.

    The loss is None: it finds hard examples by NMS, and sums sigmoid cross-entropies.
    """
    postprocess = PostprocessSpec(
        activation="sigmoid",
        score_threshold=1e-8,
        top_k=None,
        iou_threshold=0.6,
        keep_top_k=100,
        clip="after_nms",
    )
    return _preset(name, postprocess)


def _tflite_ssd_mobilenet(name: str) -> Preset:
    """TFLite_Detection_PostProcess with use_regular_nms and export_tflite_ssd_graph.py's other defaults.

    A score equal to the threshold is in, and boxes are not clipped. The op's default, one NMS over all classes, no
    PostprocessSpec can say: docs/dialects.md shows how to compose it. Training is TensorFlow's; the loss is None.
    """
    postprocess = PostprocessSpec(
        activation="sigmoid",
        score_threshold=1e-8,
        score_inclusive=True,
        top_k=None,
        iou_threshold=0.6,
        keep_top_k=10,
    )
    return _preset(name, postprocess)


PRESETS: dict[str, Callable[[str], Preset]] = {
    "tf_ssdlite_mobilenet_v2": _ssdlite_mobilenet_v2,
    "tflite_ssd_mobilenet": _tflite_ssd_mobilenet,
}
