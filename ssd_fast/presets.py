"""Named SSD dialects: data only. A preset is here only if a test compares it with the project it is named after."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

from .specs import BoxCoderSpec, DefaultBoxSpec, LossSpec, MatcherSpec, PostprocessSpec
from .specs._plain import from_plain, to_plain


@dataclass(frozen=True)
class Preset:
    """The specs of one SSD dialect, to be handed to default_boxes, encode_boxes, match, multibox_loss and postprocess.

    loss is None where the original's loss cannot be expressed; to train such a network, choose one.
    """

    name: str
    default_boxes: DefaultBoxSpec
    coder: BoxCoderSpec
    matcher: MatcherSpec
    loss: LossSpec | None
    postprocess: PostprocessSpec

    def to_dict(self) -> dict[str, Any]:
        """Everything in it as JSON can hold it, so that a weight file can say how its network is read."""
        specs = {field: getattr(self, field) for field in _SPECS}
        return {"name": self.name, **{field: None if spec is None else to_plain(spec) for field, spec in specs.items()}}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Preset:
        """The preset that `to_dict` took apart. Raises: ValueError: a field is missing, unknown or wrong."""
        if missing := [field for field in ("name", *_SPECS) if field not in fields]:
            raise ValueError(f"Preset: expected the fields name, {', '.join(_SPECS)}; missing: {', '.join(missing)}")
        specs = {
            field: fields[field] if fields[field] is None else from_plain(kind, fields[field])
            for field, kind in _SPECS.items()
        }
        return cls(str(fields["name"]), **specs)


_SPECS: dict[str, type] = {
    "default_boxes": DefaultBoxSpec,
    "coder": BoxCoderSpec,
    "matcher": MatcherSpec,
    "loss": LossSpec,
    "postprocess": PostprocessSpec,
}


_SSD300_MAPS = (38, 19, 10, 5, 3, 1)
_SSD300_STEPS = (8, 16, 32, 64, 100, 300)
_SSD300_RATIOS = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))


def _torchvision_ssd300_vgg16(name: str) -> Preset:
    """torchvision.models.detection.ssd300_vgg16."""
    return Preset(
        name,
        DefaultBoxSpec.from_scales(
            (300, 300),
            _SSD300_MAPS,
            scales=(0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05),
            aspect_ratios=_SSD300_RATIOS,
            steps=_SSD300_STEPS,
        ),
        BoxCoderSpec(log_scale_clamp=(-math.inf, math.log(1000 / 16))),
        MatcherSpec(),
        LossSpec(),
        PostprocessSpec(clip="before_nms"),
    )


def _caffe_ssd300(name: str, feature_maps: tuple[int, ...]) -> Preset:
    """SSD300 by Caffe's layers with the box sizes of PASCAL VOC."""
    return Preset(
        name,
        DefaultBoxSpec.from_min_max(
            (300, 300),
            feature_maps,
            min_sizes=(30, 60, 111, 162, 213, 264),
            max_sizes=(60, 111, 162, 213, 264, 315),
            aspect_ratios=_SSD300_RATIOS,
            steps=_SSD300_STEPS,
        ),
        BoxCoderSpec(),
        MatcherSpec(rule="bipartite", minimum_forced_iou=1e-6),
        LossSpec(),
        PostprocessSpec(),
    )


def _caffe_ssd300_voc(name: str) -> Preset:
    """weiliu89/caffe, SSD300 on PASCAL VOC (deploy.prototxt), as OpenCV's DNN module runs it."""
    return _caffe_ssd300(name, _SSD300_MAPS)


def _opencv_res10(name: str) -> Preset:
    """OpenCV's face detector (res10_300x300_ssd). Its last two maps are 5x5, so many boxes lie outside the image."""
    return _caffe_ssd300(name, (38, 19, 10, 5, 5, 5))


def _tf_ssdlite_mobilenet_v2(name: str) -> Preset:
    """TensorFlow object detection's ssdlite_mobilenet_v2_coco. Its loss mines by NMS, which LossSpec cannot say."""
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
    return Preset(
        name,
        DefaultBoxSpec(
            image_size=(side, side),
            feature_maps=tuple((size, size) for size in (19, 10, 5, 3, 2, 1)),
            box_sizes=tuple(levels),
            normalized=True,
        ),
        BoxCoderSpec(order="yx"),
        MatcherSpec(claimed_twice="first"),
        None,
        PostprocessSpec(
            activation="sigmoid",
            score_threshold=1e-8,
            top_k=None,
            iou_threshold=0.6,
            keep_top_k=100,
            clip="after_nms",
        ),
    )


_PRESETS = {
    "torchvision_ssd300_vgg16": _torchvision_ssd300_vgg16,
    "caffe_ssd300_voc": _caffe_ssd300_voc,
    "opencv_res10": _opencv_res10,
    "tf_ssdlite_mobilenet_v2": _tf_ssdlite_mobilenet_v2,
}


def list_presets() -> list[str]:
    """The names that `preset` knows."""
    return list(_PRESETS)


def preset(name: str) -> Preset:
    """The specs of a named SSD dialect.

    Args:    name: one of list_presets().
    Raises:  ValueError: an unknown name; the message lists the known ones.
    """
    if name not in _PRESETS:
        raise ValueError(f"preset: name: expected one of {', '.join(_PRESETS)}, got {name!r}")
    return _PRESETS[name](name)
