"""How a network's heads are trained, and so how they are read ever after: its preset, fitted to loss and data."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from ..datasets import DetectionDataset
from ..presets import Preset
from ..specs import LossSpec
from .config import Loss

__all__ = ["fit_sides", "training_preset"]

_SCORE_THRESHOLD = 0.01
_PER_LEVEL = (3, 2, 2)
_QUANTILES = (0.005, 0.995)
_CLOSEST = 1.1  # neighbouring sides differ by this factor at least


def training_preset(preset: Preset, loss: Loss) -> Preset:
    """A preset to train a network with whose heads were read by `preset`: the same boxes and box code.

    Args:   loss: "softmax": the columns are a softmax's and column 0 is the background; "focal": sigmoids.
    """
    softmax = loss == "softmax"
    # The focal loss mines nothing, so what a dialect says of mining is left behind.
    kept = ("beta", "normalizer", *(("negatives_per_positive", "min_negatives") if softmax else ()))
    options = {} if preset.loss is None else {field: getattr(preset.loss, field) for field in kept}
    threshold = max(preset.postprocess.score_threshold, _SCORE_THRESHOLD)
    return dataclasses.replace(
        preset,
        loss=LossSpec(classification=loss, background=0, **options),
        postprocess=dataclasses.replace(
            preset.postprocess, activation="softmax" if softmax else "sigmoid", background=0, score_threshold=threshold
        ),
    )


def fit_sides(dataset: DetectionDataset, size: tuple[int, int]) -> tuple[tuple[float, ...], ...]:
    """Sides of square default boxes for `ssd_tiny`: a ladder of equal steps over the ground truths' sizes.

    Args:    dataset: what is trained on; ignored ground truths do not count. size: (height, width) of the input.
    Returns: for the maps of stride 8, 16 and 32 three, two and two sides in pixels of the input, ascending. The
             ladder goes from the smallest to the largest ground truth, apart from one in 200 at either end.
    Raises:  ValueError: there is not one ground truth.
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
