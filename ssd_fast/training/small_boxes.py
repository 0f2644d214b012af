"""Warn about ground truths that are too small for the input size, which training leaves out."""

from __future__ import annotations

import warnings

import numpy as np

from ..datasets import DetectionDataset
from ..ground_truth import GroundTruthWarning
from .transforms import LEAST_SIDE

__all__ = ["report_small_boxes"]


def report_small_boxes(dataset: DetectionDataset, size: tuple[int, int]) -> None:
    """Report how many ground truths have a side below LEAST_SIDE at an input of the size (height, width).

    Raises:
        ValueError: all of them do.

    Warns:
        GroundTruthWarning: some of them do.
    """
    small, total, first = 0, 0, ""
    for sample in dataset.samples:
        boxes = sample.boxes[~sample.ignored]
        scale = np.array([size[1] / sample.size[1], size[0] / sample.size[0]])
        own = int(((boxes[:, 2:] - boxes[:, :2]) * scale < LEAST_SIDE).any(1).sum())
        small, total, first = small + own, total + len(boxes), first or (sample.name if own else "")
    if not small:
        return
    found = (
        f"{small} of {total} ground truths, the first in {first}, are smaller than {LEAST_SIDE:g} pixels at the "
        f"network's input of {size[0]} x {size[1]}"
    )
    if small == total:
        raise ValueError(f"training: dataset: {found}: choose a larger input")
    warnings.warn(f"training: {found}, and are left out", GroundTruthWarning, stacklevel=3)
