"""Random valid specs over all their options."""

from __future__ import annotations

import math
import random
from typing import Any

from ssd_fast.specs import BoxCoderSpec, DefaultBoxSpec, LossSpec, MatcherSpec, PostprocessSpec

from .calls import Spec


def coder(rng: random.Random) -> Spec:
    return Spec(
        BoxCoderSpec,
        {
            "variances": rng.choice(((0.1, 0.1, 0.2, 0.2), (1.0, 1.0, 1.0, 1.0), (0.125, 0.1, 0.25, 0.2))),
            "order": rng.choice(("xy", "yx")),
            "log_scale_clamp": rng.choice((None, None, (-2.0, 4.135166556742356), (-math.inf, 4.0), (-1000, 1000))),
        },
    )


def matcher(rng: random.Random) -> Spec:
    positive = rng.choice((0.5, 0.5, 1 / 3, 0.55, 1.0, 0.0, 4e-38))
    fields: dict[str, Any] = {
        "rule": rng.choice(("forced", "bipartite", "threshold")),
        "positive_threshold": positive,
        "positive_inclusive": positive > 0 and rng.random() < 0.5,
        "claimed_twice": rng.choice(("last", "first")),
        "minimum_forced_iou": rng.choice((None, None, 0, 1e-6, 1 / 3, 2.0)),
        "ignored_coverage": rng.choice((0.5, 1 / 3, 4e-38, 1.0)),
    }
    if fields["rule"] != "bipartite":
        fields["negative_threshold"] = rng.choice((None, positive, positive / 2, 0.0))
    return Spec(MatcherSpec, fields)


def loss(rng: random.Random, columns: int) -> Spec:
    fields: dict[str, Any] = {
        "background": rng.choice((0, 0, -1, rng.randrange(columns))),
        "beta": rng.choice((1.0, 0.0, 1 / 9, 0.5, 4e-38)),
        "normalizer": rng.choice(("positives", "positives_per_image", "sum_max_one")),
    }
    if rng.random() < 0.4:
        fields["classification"] = "focal"
        fields["focal_alpha"] = rng.choice((0.25, None, 0.999))
        fields["focal_gamma"] = rng.choice((2.0, 0.0, 1.5, 40.0))
        if rng.random() < 0.4 or columns < 2:
            fields["background"] = None
    else:
        fields["negatives_per_positive"] = rng.choice((3.0, 0.0, 0.5, 1.5, 1e9))
        fields["min_negatives"] = rng.choice((0, 0, 1, 7, 2**31 - 1))
    return Spec(LossSpec, fields)


def postprocess(rng: random.Random, columns: int, levels: bool) -> Spec:
    clip = rng.choice(("none", "none", "before_nms", "after_nms"))
    fields: dict[str, Any] = {
        "activation": "softmax",
        "background": rng.choice((0, 0, -1, rng.randrange(columns))),
        "score_threshold": rng.choice((0.05, 0.3, 0.01, 0.0)),
        "score_inclusive": rng.random() < 0.3,
        "class_mode": rng.choice(("per_class", "per_class", "argmax", "agnostic")),
        "top_k": rng.choice((None, 1, 3, 50, 2**31 - 1)),
        "top_k_scope": rng.choice(("class", "class", "level", "image") if levels else ("class", "class", "image")),
        "min_box_size": rng.choice((None, None, 0, 0.0, 2.0, 1e30)),
        "iou_threshold": rng.choice((0.45, 0.5, 1 / 3, 0.0, 1.0, 1 - 2**-24)),
        "keep_top_k": rng.choice((1, 2, 5, 9, 33)),
        "clip": clip,
        "rescale": "after_nms" if clip == "after_nms" else rng.choice(("before_nms", "after_nms")),
        "channel_order": rng.choice(("AC", "CA")),
        "row_order": rng.choice(("HWA", "AHW")),
    }
    fields["iou_inclusive"] = fields["iou_threshold"] > 0 and rng.random() < 0.3
    if rng.random() < 0.4 or columns < 2:
        fields["activation"] = "sigmoid"
        if rng.random() < 0.5 or columns < 2:
            fields["background"] = None
    return Spec(PostprocessSpec, fields)


def default_boxes(rng: random.Random) -> Spec:
    levels = rng.choice((1, 1, 2, 3, 8))
    image_size = rng.choice(((300, 300), (96, 64), (1, 1), (513, 7)))
    most = 40 if rng.random() < 0.02 else 4
    sides = (16.0, 30.0, 21.213203, 4e-38, 1e30, 7, 0.1)
    return Spec(
        DefaultBoxSpec,
        {
            "image_size": image_size,
            "feature_maps": tuple((rng.randint(1, most), rng.randint(1, most)) for _ in range(levels)),
            "box_sizes": tuple(
                tuple((rng.choice(sides), rng.choice(sides)) for _ in range(rng.randint(1, 4))) for _ in range(levels)
            ),
            "steps": rng.choice((None, tuple((rng.uniform(0.5, 99), rng.choice(sides)) for _ in range(levels)))),
            "offset": rng.choice((0.5, 0.0, 1, -3.25)),
            "clip": rng.random() < 0.4,
            "normalized": rng.random() < 0.4,
            "row_order": rng.choice(("HWA", "AHW")),
            "clip_centers": rng.random() < 0.4,
        },
    )
