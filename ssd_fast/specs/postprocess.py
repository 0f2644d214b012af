"""PostprocessSpec: how head outputs become detections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from .._checks import choice, flag, freeze, integer, is_not_negative, number, require

_UNSAID: Any = object()
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
        activation: "softmax" over the columns, or "sigmoid" of each.
        background: column that is no class: its index (-1: the last), None: every column is a class. 0 with softmax;
            with sigmoid it must be said, since some heads then have such a column (TensorFlow's) and most have none.
        score_threshold: a candidate's score exceeds it (score_inclusive: or equals it).
        class_mode: which classes of a box are candidates, and which candidates suppress each other.
            "per_class": all that pass the threshold; those of one class.
            "argmax": the class of the highest score alone (of equals the first); those of one class.
            "agnostic": that class alone; all of an image.
        top_k: candidates that may enter NMS, best first; None: all.
        top_k_scope: of what each these are taken: "class" of an image (with class_mode "agnostic": the image); "level":
            the default boxes of one feature map, all classes together; "image": likewise of the image.
        min_box_size: boxes enter NMS only if both sides, as they are then, exceed it; None: all do.
        iou_threshold: a better box with a larger IoU suppresses (iou_inclusive: or an equal one).
        keep_top_k: detections kept an image, over all classes; the K of Detections.
        clip: clamp boxes to the image: "before_nms", "after_nms" or "none".
        rescale: when boxes are scaled to original_sizes, if given: "before_nms" (after clipping) or "after_nms".
        channel_order: of raw head maps: "AC": channel a * C + c; "CA": c * A + a.
        row_order: of default_boxes within a map when raw head maps are given: "HWA" or "AHW".

    Raises:
        ValueError: the message names the field, what was expected and what was given.

    Source:
        Liu et al. 2016, section 2.2 (inference); `ssd_fast.presets` has the projects' values.
    """

    activation: Literal["softmax", "sigmoid"] = "softmax"
    background: int | None = _UNSAID
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
        for field in ("score_threshold", "iou_threshold"):
            value = number(name, field, getattr(self, field), "a finite number >= 0", is_not_negative)
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
            '"after_nms" where clip is, since image_sizes are the window of boxes not yet rescaled',
            self.rescale,
        )
        if self.background is _UNSAID:
            if self.activation == "sigmoid":
                raise ValueError(
                    "PostprocessSpec: background: expected a column, -1 or None (every column is a class), "
                    "which sigmoid leaves open, got nothing"
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
