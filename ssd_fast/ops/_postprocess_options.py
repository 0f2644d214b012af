"""Options of postprocess, by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..specs import BoxCoderSpec, PostprocessSpec

STAGES = {"none": 0, "before_nms": 1, "after_nms": 2}
_CLASS_MODES = {"per_class": 0, "argmax": 1, "agnostic": 2}
_TOP_K_SCOPES = {"class": 0, "level": 1, "image": 2}


class PostprocessOptions(NamedTuple):
    """A PostprocessSpec and a BoxCoderSpec as the op and C++'s PostprocessOptions take them."""

    sigmoid: bool
    background: int
    score_threshold: float
    score_inclusive: bool
    class_mode: int
    top_k: int
    top_k_scope: int
    min_box_size: float | None
    iou_threshold: float
    iou_inclusive: bool
    keep_top_k: int
    clip: int
    rescale: int
    anchor_major: bool
    ahw: bool
    variances: Sequence[float]
    log_scale_low: float
    log_scale_high: float
    yx: bool


def pack_options(spec: PostprocessSpec, coder: BoxCoderSpec, columns: int) -> PostprocessOptions:
    """Return the options of the two specs for this many columns."""
    background = -1 if spec.background is None else spec.background % max(columns, 1)
    if spec.background is not None and spec.background >= columns:
        background = spec.background  # out of range: the op refuses it
    low, high = coder.clamp_limits
    return PostprocessOptions(
        sigmoid=spec.activation == "sigmoid",
        background=background,
        score_threshold=spec.score_threshold,
        score_inclusive=spec.score_inclusive,
        class_mode=_CLASS_MODES[spec.class_mode],
        top_k=spec.top_k or 0,
        top_k_scope=_TOP_K_SCOPES[spec.top_k_scope],
        min_box_size=spec.min_box_size,
        iou_threshold=spec.iou_threshold,
        iou_inclusive=spec.iou_inclusive,
        keep_top_k=spec.keep_top_k,
        clip=STAGES[spec.clip],
        rescale=STAGES[spec.rescale],
        anchor_major=spec.channel_order == "AC",
        ahw=spec.row_order == "AHW",
        variances=list(coder.variances),
        log_scale_low=low,
        log_scale_high=high,
        yx=coder.order == "yx",
    )
