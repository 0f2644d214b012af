"""open-mmlab/mmdetection 3: configs/ssd and configs/pascal_voc."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

from ..specs import BoxCoderSpec, DefaultBoxSpec, LossSpec, MatcherSpec, PostprocessSpec
from ._preset import (
    COCO300_SIZES,
    SSD300_MAPS,
    SSD300_RATIOS,
    SSD300_STEPS,
    SSD512_MAPS,
    SSD512_RATIOS,
    SSD512_STEPS,
    VOC300_SIZES,
    Preset,
)

_VOC512_SIZES = (35, 76, 153, 230, 307, 384, 460, 537)  # mmdetection rounds down to whole pixels
_COCO512_SIZES = (20, 51, 133, 215, 296, 378, 460, 542)


def _mmdet(name: str, side: int, sizes: Sequence[float]) -> Preset:
    """SSDHead. The background is the last column of cls_logits, and boxes are rescaled before NMS.

    The best 1000 pairs of a box and a class per map enter NMS (nms_pre), so heads must be given as a list of levels.
    Default boxes are equal to 1 ulp of a box's largest coordinate.
    """
    ssd512 = side == 512
    boxes = DefaultBoxSpec.from_scales(
        (side, side),
        SSD512_MAPS if ssd512 else SSD300_MAPS,
        scales=[size / side for size in sizes],
        aspect_ratios=SSD512_RATIOS if ssd512 else SSD300_RATIOS,
        steps=SSD512_STEPS if ssd512 else SSD300_STEPS,
        clip_sizes=False,
    )
    limit = math.log(1000 / 16)
    postprocess = PostprocessSpec(
        background=-1,
        score_threshold=0.02,
        top_k=1000,
        top_k_scope="level",
        min_box_size=0,
        keep_top_k=200,
        clip="before_nms",
        rescale="before_nms",
    )
    return Preset(
        name,
        boxes,
        BoxCoderSpec(log_scale_clamp=(-limit, limit)),
        MatcherSpec(),
        LossSpec(background=-1, normalizer="sum_max_one"),
        postprocess,
    )


PRESETS: dict[str, Callable[[str], Preset]] = {
    "mmdet_ssd300_voc": partial(_mmdet, side=300, sizes=VOC300_SIZES),
    "mmdet_ssd300_coco": partial(_mmdet, side=300, sizes=COCO300_SIZES),
    "mmdet_ssd512_voc": partial(_mmdet, side=512, sizes=_VOC512_SIZES),
    "mmdet_ssd512_coco": partial(_mmdet, side=512, sizes=_COCO512_SIZES),
}
