"""weiliu89/caffe (branch ssd), as its layers compute, and OpenCV's DNN module, which runs its models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from ..specs import BoxCoderSpec, DefaultBoxSpec, LossSpec, MatcherSpec, PostprocessSpec
from ._preset import (
    COCO300_SIZES,
    COCO512_SIZES,
    SSD300_MAPS,
    SSD300_RATIOS,
    SSD300_STEPS,
    SSD512_MAPS,
    SSD512_RATIOS,
    SSD512_STEPS,
    VOC300_SIZES,
    VOC512_SIZES,
    Preset,
)


def _caffe(name: str, default_boxes: DefaultBoxSpec, postprocess: PostprocessSpec | None = None) -> Preset:
    matcher = MatcherSpec(rule="bipartite", minimum_forced_iou=1e-6)
    return Preset(name, default_boxes, BoxCoderSpec(), matcher, LossSpec(), postprocess or PostprocessSpec())


def _ssd300(name: str, sizes: Sequence[float], maps: tuple[int, ...] = SSD300_MAPS) -> Preset:
    """SSD300 of examples/ssd."""
    boxes = DefaultBoxSpec.from_min_max(
        (300, 300),
        maps,
        min_sizes=sizes[:-1],
        max_sizes=sizes[1:],
        aspect_ratios=SSD300_RATIOS,
        steps=SSD300_STEPS,
    )
    return _caffe(name, boxes)


def _ssd512(name: str, sizes: Sequence[float]) -> Preset:
    """SSD512. Caffe's PriorBox cuts its sizes to whole pixels; OpenCV's does not."""
    sizes = [int(size) for size in sizes]
    boxes = DefaultBoxSpec.from_min_max(
        (512, 512),
        SSD512_MAPS,
        min_sizes=sizes[:-1],
        max_sizes=sizes[1:],
        aspect_ratios=SSD512_RATIOS,
        steps=SSD512_STEPS,
    )
    return _caffe(name, boxes)


def _mobilenet(name: str) -> Preset:
    """chuanqi305/MobileNet-SSD (deploy.prototxt): it gives no steps, and no second square on the first map."""
    boxes = DefaultBoxSpec.from_min_max(
        (300, 300),
        (19, 10, 5, 3, 2, 1),
        min_sizes=(60, 105, 150, 195, 240, 285),
        max_sizes=(None, 150, 195, 240, 285, 300),
        aspect_ratios=((2,), (2, 3), (2, 3), (2, 3), (2, 3), (2, 3)),
    )
    return _caffe(name, boxes, PostprocessSpec(score_threshold=0.25, top_k=100, keep_top_k=100))


def _opencv_res10(name: str) -> Preset:
    """OpenCV's face detector (res10_300x300_ssd). Its last two maps are 5x5, so many boxes lie outside the image."""
    return _ssd300(name, VOC300_SIZES, (38, 19, 10, 5, 5, 5))


PRESETS: dict[str, Callable[[str], Preset]] = {
    "caffe_ssd300_voc": partial(_ssd300, sizes=VOC300_SIZES),
    "caffe_ssd300_coco": partial(_ssd300, sizes=COCO300_SIZES),
    "caffe_ssd512_voc": partial(_ssd512, sizes=VOC512_SIZES),
    "caffe_ssd512_coco": partial(_ssd512, sizes=COCO512_SIZES),
    "caffe_mobilenet_ssd_voc": _mobilenet,
    "opencv_res10": _opencv_res10,
}
