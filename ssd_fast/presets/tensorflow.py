"""TensorFlow's object detection API, and the programs that run its models: TFLite's op and TF.js' coco-ssd."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import Literal

from ..specs import BoxCoderSpec, DefaultBoxSpec, MatcherSpec, PostprocessSpec
from ._preset import Preset


def _anchors() -> DefaultBoxSpec:
    """Anchors of ssd_mobilenet and ssdlite_mobilenet v1 and v2 at 300x300: linspace(0.2, 0.95, 6), mean square last."""
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
    """ssdlite_mobilenet_v2_coco; ssd_mobilenet_v1_coco and v2 have the same values. Anchors are equal to 2 ulp.

    The loss is None: the original finds hard examples by NMS and sums sigmoid cross-entropies. Detections that clipping
    leaves without area are kept, as its combined NMS does; the API's own NMS drops them.
    """
    postprocess = PostprocessSpec(
        activation="sigmoid",
        background=0,
        score_threshold=1e-8,
        top_k=None,
        iou_threshold=0.6,
        keep_top_k=100,
        clip="after_nms",
    )
    return _preset(name, postprocess)


def _tflite(name: str, class_mode: Literal["agnostic", "per_class"]) -> Preset:
    """TFLite_Detection_PostProcess with the defaults of export_tflite_ssd_graph.py, with and without use_regular_nms.

    Without it each box has one class, and one NMS runs over all classes. A score equal to the threshold passes, and
    boxes are not clipped. It is trained in TensorFlow; the loss is None.
    """
    postprocess = PostprocessSpec(
        activation="sigmoid",
        background=0,
        score_threshold=1e-8,
        score_inclusive=True,
        class_mode=class_mode,
        top_k=None,
        iou_threshold=0.6,
        keep_top_k=10,
    )
    return _preset(name, postprocess)


def _tfjs_coco_ssd(name: str) -> Preset:
    """@tensorflow-models/coco-ssd: one class per box, and one NMS over all classes, where an equal IoU suppresses.

    Its minScore is the threshold for scores, which must exceed it, and for IoUs. Anchors, training: TensorFlow's.
    """
    postprocess = PostprocessSpec(
        activation="sigmoid",
        background=0,
        score_threshold=0.5,
        class_mode="agnostic",
        top_k=None,
        iou_threshold=0.5,
        iou_inclusive=True,
        keep_top_k=20,
    )
    return _preset(name, postprocess)


PRESETS: dict[str, Callable[[str], Preset]] = {
    "tf_ssdlite_mobilenet_v2": _ssdlite_mobilenet_v2,
    "tflite_ssd_mobilenet": partial(_tflite, class_mode="agnostic"),
    "tflite_ssd_mobilenet_regular": partial(_tflite, class_mode="per_class"),
    "tfjs_coco_ssd": _tfjs_coco_ssd,
}
