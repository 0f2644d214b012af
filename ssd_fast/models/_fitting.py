"""Fit ssd_tiny to a dataset: its input size to the photos' shape, its default boxes to the ground truths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ..datasets import DetectionDataset

__all__ = ["default_size", "fit_sides"]

_PIXELS = 240 * 320  # pixels of the input, whatever its shape
_MULTIPLE = 16  # the sides are multiples of it
_PER_LEVEL = (3, 2, 2)
_QUANTILES = (0.005, 0.995)
_CLOSEST = 1.1  # neighboring sides differ by at least this factor


def default_size(dataset: DetectionDataset) -> tuple[int, int]:
    """Choose (height, width): about 77,000 pixels in the shape of the dataset's median photo, in multiples of 16."""
    ratio = float(np.median([width / height for height, width in (sample.size for sample in dataset.samples)]))
    height, width = math.sqrt(_PIXELS / ratio), math.sqrt(_PIXELS * ratio)
    return max(round(height / _MULTIPLE), 1) * _MULTIPLE, max(round(width / _MULTIPLE), 1) * _MULTIPLE


def fit_sides(dataset: DetectionDataset, size: tuple[int, int]) -> tuple[tuple[float, ...], ...]:
    """Fit the square default boxes of `ssd_tiny` to a dataset: a ladder of equal steps over the ground truths' sizes.

    Args:
        dataset: the training data; ignored ground truths do not count.
        size: (height, width) of the input.

    Returns:
        Three, two and two sides in pixels of the input, ascending, for the maps of stride 8, 16 and 32. The ladder goes
            from the smallest to the largest ground truth, apart from one in 200 at either end.

    Raises:
        ValueError: the dataset has no ground truth that is not ignored.
    """
    areas = [np.empty(0)]
    for sample in dataset.samples:
        width, height = (sample.boxes[:, 2:] - sample.boxes[:, :2])[~sample.ignored].T
        areas.append(width * height * (size[0] / sample.size[0]) * (size[1] / sample.size[1]))
    sides = np.sqrt(np.concatenate(areas))
    if not len(sides):
        raise ValueError("fit_sides: dataset: expected at least one ground truth that is not ignored, got 0")
    low, high = np.quantile(sides, _QUANTILES).tolist()
    return _ladder(low, high, _PER_LEVEL)


def _ladder(low: float, high: float, per_level: Sequence[int]) -> tuple[tuple[float, ...], ...]:
    count = sum(per_level)
    step = max((high / low) ** (1 / (count - 1)), _CLOSEST)
    middle = math.sqrt(low * high)
    rungs = [max(round(middle * step ** (index - (count - 1) / 2), 1), 1.0) for index in range(count)]
    ends = np.cumsum(per_level).tolist()
    return tuple(tuple(rungs[end - own : end]) for end, own in zip(ends, per_level, strict=True))
