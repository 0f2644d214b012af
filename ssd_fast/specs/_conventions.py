"""Compute box sizes by the conventions of other projects, for the classmethods of DefaultBoxSpec."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable
from typing import Any

import numpy as np

from .._checks import is_positive, number, one_per_map, positive_numbers, require, row

Pair = tuple[float, float]
Levels = tuple[tuple[Pair, ...], ...]


def as_maps(owner: str, feature_maps: object) -> tuple[Any, ...]:
    """Return (height, width) per map, where one number may stand for both. The spec checks that they are sizes."""
    given = row(owner, "feature_maps", feature_maps, "one (height, width) per map, or one number for both")
    return tuple((cells, cells) if isinstance(cells, numbers.Number) else cells for cells in given)


def square_steps(owner: str, steps: object) -> tuple[Pair, ...] | None:
    """Return (vertical, horizontal) steps, the same in both directions, from one number per map."""
    return None if steps is None else tuple((step, step) for step in positive_numbers(owner, "steps", steps))


def min_max_sizes(owner: str, maps: int, min_sizes: object, max_sizes: object, aspect_ratios: object) -> Levels:
    """Caffe's sizes in float32: min, sqrt(min * max) unless max is None, each ratio and its inverse, as in OpenCV."""
    lows = positive_numbers(owner, "min_sizes", one_per_map(owner, "min_sizes", min_sizes, maps))
    levels = []
    for low, high, ratios in zip(
        lows, one_per_map(owner, "max_sizes", max_sizes, maps), ratio_rows(owner, aspect_ratios, maps), strict=True
    ):
        low32 = np.float32(low)
        sides: list[tuple[Any, Any]] = [(low32, low32)]
        if high is not None:
            high = number(owner, "max_sizes", high, "finite positive numbers or None", is_positive)
            with np.errstate(over="ignore"):
                mean = np.sqrt(low32 * np.float32(high))
            sides.append((mean, mean))
        for ratio in (value for r in ratios for value in (np.float32(r), np.float32(1) / np.float32(r))):
            root = np.sqrt(ratio)
            sides.append((low32 * root, low32 / root))
        levels.append(_as_pairs(sides))
    return tuple(levels)


def scaled_sizes(
    owner: str, image_size: tuple[int, int], maps: int, scales: object, aspect_ratios: object, clip_sizes: bool
) -> Levels:
    """torchvision's sizes, from shares of the image: s_k, sqrt(s_k * s_k+1), then each ratio both ways."""
    shares = positive_numbers(owner, "scales", row(owner, "scales", scales, "a tuple of numbers"))
    require(len(shares) == maps + 1, owner, "scales", "one per map and one more", scales)
    height, width = image_size
    limit = 1.0 if clip_sizes else math.inf
    levels = []
    for share, following, ratios in zip(shares[:-1], shares[1:], ratio_rows(owner, aspect_ratios, maps), strict=True):
        mean = math.sqrt(share * following)
        sides = [(share, share), (mean, mean)]
        for ratio in ratios:
            long, short = share * math.sqrt(ratio), share / math.sqrt(ratio)
            sides += [(long, short), (short, long)]
        levels.append(_as_pairs((min(w, limit) * width, min(h, limit) * height) for w, h in sides))
    return tuple(levels)


def ratio_rows(owner: str, aspect_ratios: object, maps: int) -> tuple[tuple[float, ...], ...]:
    """Return a row of positive ratios per map."""
    rows = one_per_map(owner, "aspect_ratios", aspect_ratios, maps)
    return tuple(positive_numbers(owner, "aspect_ratios", ratios) for ratios in rows)


def _as_pairs(sides: Iterable[tuple[float, float]]) -> tuple[Pair, ...]:
    return tuple((float(w), float(h)) for w, h in sides)
