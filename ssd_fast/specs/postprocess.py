"""PostprocessSpec: how head outputs become detections."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from .._checks import choice, flag, freeze, integer, is_not_negative, number, require

_UNSET: Any = object()  # of no class of ours: torch.compile traces no other default
_CHOICES = {
    "activation": ("softmax", "sigmoid"),
    "class_mode": ("per_class", "argmax", "agnostic"),
    "top_k_scope": ("class", "level", "image"),
    "clip": ("none", "before_nms", "after_nms"),
    "rescale": ("before_nms", "after_nms"),
    "channel_order": ("AC", "CA"),
    "row_order": ("HWA", "AHW"),
}


@dataclass(frozen=True)
class PostprocessSpec:
    """How head outputs become detections: score, filter, top-k, decode, clip, NMS, merge, rescale.

    Args:
        activation: "softmax" over the columns, or "sigmoid" of each column.
        background: index of the column that is not a class (-1: the last); None: every column is a class. 0 by default
            with softmax. With sigmoid it has no default, since some heads (TensorFlow's) have such a column and most do
            not.
        score_threshold: what a candidate's score must exceed (with score_inclusive, reach), in [0, 1].
        score_inclusive: whether a score equal to the threshold is enough.
        class_mode: which classes of a box are candidates, and which candidates suppress each other:
            "per_class": all classes that pass the threshold; candidates of one class.
            "argmax": only the class of the highest score (of equal ones, the first); candidates of one class.
            "agnostic": only that class; all candidates of an image.
        top_k: how many candidates may enter NMS, best first; None: all.
        top_k_scope: what top_k is counted per: "class" of an image (with class_mode "agnostic", per image); "level":
            feature map, all classes together; "image": image, all classes together.
        min_box_size: what both sides of a box must exceed, at that stage, for it to enter NMS; None: all boxes enter.
        iou_threshold: a better box suppresses boxes whose IoU with it exceeds this (with iou_inclusive, reaches it), in
            [0, 1]; 1 without iou_inclusive turns NMS off.
        iou_inclusive: whether an IoU equal to the threshold suppresses.
        keep_top_k: detections kept per image, over all classes; the K of Detections.
        clip: when boxes are clamped to the image: "before_nms", "after_nms" or "none". If it is not "none", postprocess
            needs image_sizes.
        rescale: when boxes are scaled to original_sizes, if these are given: "before_nms" (after clipping) or
            "after_nms".
        channel_order: channel of box a and column c in raw head maps: "AC": a * C + c; "CA": c * A + a.
        row_order: order of default_boxes within a map, for raw head maps: "HWA" or "AHW".

    Raises:
        ValueError: a field is wrong; the message names it, the expected and the given value.

    Source:
        Liu et al. 2016, section 2.2 (inference); `ssd_fast.presets` has the projects' values.

    Examples:
        >>> import ssd_fast
        >>> ssd_fast.PostprocessSpec().background
        0
        >>> ssd_fast.PostprocessSpec(activation="sigmoid", background=None, score_threshold=0.3).keep_top_k
        200
        >>> ssd_fast.PostprocessSpec(score_threshold=50)
        Traceback (most recent call last):
        ValueError: PostprocessSpec: score_threshold: expected a number in [0, 1], got 50
    """

    activation: Literal["softmax", "sigmoid"] = "softmax"
    background: int | None = _UNSET
    score_threshold: float = 0.01
    score_inclusive: bool = False
    class_mode: Literal["per_class", "argmax", "agnostic"] = "per_class"
    top_k: int | None = 400
    top_k_scope: Literal["class", "level", "image"] = "class"
    min_box_size: float | None = None
    iou_threshold: float = 0.45
    iou_inclusive: bool = False
    keep_top_k: int = 200
    clip: Literal["none", "before_nms", "after_nms"] = "none"
    rescale: Literal["before_nms", "after_nms"] = "after_nms"
    channel_order: Literal["AC", "CA"] = "AC"
    row_order: Literal["HWA", "AHW"] = "HWA"

    def __post_init__(self) -> None:
        name = "PostprocessSpec"
        freeze(
            self, **{field: choice(name, field, getattr(self, field), allowed) for field, allowed in _CHOICES.items()}
        )
        for field in ("score_inclusive", "iou_inclusive"):
            freeze(self, **{field: flag(name, field, getattr(self, field))})
        for field in ("score_threshold", "iou_threshold"):  # scores and IoUs never exceed 1: a 50 is meant as 50%
            value = number(name, field, getattr(self, field), "a number in [0, 1]", lambda x: 0 <= x <= 1)
            freeze(self, **{field: value})
        require(
            not (self.iou_inclusive and self.iou_threshold == 0),
            name,
            "iou_inclusive",
            "iou_threshold > 0 (else boxes that do not touch would suppress each other)",
            self.iou_threshold,
        )
        require(
            (self.clip, self.rescale) != ("after_nms", "before_nms"),
            name,
            "rescale",
            '"after_nms" where clip is "after_nms", since image_sizes are the clip window of boxes before rescaling',
            self.rescale,
        )
        if self.background is _UNSET:
            if self.activation == "sigmoid":
                raise ValueError(
                    'PostprocessSpec: background: expected a value with activation "sigmoid", which has no default: '
                    "a column, -1 (the last) or None (every column is a class), got nothing"
                )
            freeze(self, background=0)
        if self.background is not None:
            freeze(self, background=integer(name, "background", self.background, "a column, -1 or None", -1))
        if self.min_box_size is not None:
            expected = "a finite number >= 0 or None"
            freeze(self, min_box_size=number(name, "min_box_size", self.min_box_size, expected, is_not_negative))
        if self.top_k is not None:
            freeze(self, top_k=integer(name, "top_k", self.top_k, "an int in [1, 2**31) or None", 1))
        freeze(self, keep_top_k=integer(name, "keep_top_k", self.keep_top_k, "an int in [1, 2**31)", 1))


def largest_kept_iou(threshold: float, inclusive: bool) -> float:
    """The float32 that an IoU must exceed to suppress; if inclusive, the largest one below the threshold."""
    return float(np.nextafter(np.float32(threshold), np.float32(-math.inf))) if inclusive else threshold
