"""Excuses for differences between two runs of a detector: decisions at a border that rounding can change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Limits:
    """The thresholds of both runs, and how far rounding may move a number.

    Attributes:
        score_threshold: the score threshold.
        iou_threshold: the IoU threshold.
        keep_top_k: the most detections per image.
        top_k: the most candidates per class that enter NMS; None for all.
        score: the largest difference of scores.
        box: the largest difference of corners, in the units of the boxes (at least 4 ulp of the box).
        largest_coordinate: of the boxes that NMS saw, if it exceeds the output's (torchvision's class offset).
        ties_defined: both runs order equal scores by class, then index, so orders may differ only at unequal scores.
    """

    score_threshold: float
    iou_threshold: float
    keep_top_k: int
    top_k: int | None = None
    score: float = 1e-6
    box: float = 1e-4
    largest_coordinate: float = 0.0
    ties_defined: bool = False


@dataclass(frozen=True)
class Rows:
    """The detections of an image. nms_boxes: the boxes as NMS saw them; indices: None if the detector returns none."""

    name: str
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    indices: np.ndarray | None
    nms_boxes: np.ndarray

    def describe(self, i: int) -> str:
        index = "" if self.indices is None else f" index {self.indices[i]}"
        corners = ", ".join(f"{corner:.6g}" for corner in self.boxes[i])
        return f"{self.name}[{i}] label {self.labels[i]}{index} score {self.scores[i]:.9g} box ({corners})"


def excuses_of(
    unmatched: Sequence[tuple[Rows, int, Rows]], limits: Limits, scores: np.ndarray | None
) -> dict[tuple[str, int], str]:
    """Find excuses for detections missing from the other run. Excused ones excuse others, hence the loop."""
    excuses: dict[tuple[str, int], str] = {}
    while True:
        new = {}
        for mine, i, other in unmatched:
            if (mine.name, i) not in excuses:
                rivals = [r for rows, r, _ in unmatched if rows is other]
                excuse = _excuse(mine, i, other, rivals, excuses, limits, scores)
                if excuse:
                    new[mine.name, i] = excuse
        if not new:
            return excuses
        excuses |= new


def _excuse(
    mine: Rows,
    i: int,
    other: Rows,
    rivals: Sequence[int],
    excuses: dict[tuple[str, int], str],
    limits: Limits,
    scores: np.ndarray | None,
) -> str | None:
    score, label = mine.scores[i], mine.labels[i]
    if abs(score - limits.score_threshold) <= limits.score:
        return "score at the threshold"
    top_k = limits.top_k
    if scores is not None and top_k is not None:
        last, next_one = _scores_at_the_cut(scores[:, label], top_k, limits)
        if last - next_one <= 2 * limits.score and next_one - limits.score <= score <= last + limits.score:
            return "score at the cut of top_k"
    if len(other.scores) == limits.keep_top_k and score <= other.scores[-1] + limits.score:
        return "beyond keep_top_k, or tied with the last"

    iou, band = _iou(mine.nms_boxes[i], other.nms_boxes), _iou_band(mine.nms_boxes[i], other.nms_boxes, limits)
    stronger = (other.labels == label) & (other.scores >= score - limits.score)
    if (stronger & (np.abs(iou - limits.iou_threshold) <= band)).any():
        return "IoU at the threshold"
    for rival in rivals:
        if stronger[rival] and iou[rival] > limits.iou_threshold - band[rival]:
            known = scores is not None and mine.indices is not None and other.indices is not None
            if known and abs(other.scores[rival] - score) <= limits.score:
                return "score tie with the box kept instead"
            if (other.name, rival) in excuses:
                return "suppressed by an excused box"
    return None


def _scores_at_the_cut(scores: np.ndarray, top_k: int, limits: Limits) -> tuple[float, float]:
    """The scores of the last candidate inside top_k and the first outside, which may tie; NaN if none is outside."""
    candidates = np.sort(scores[scores > limits.score_threshold])[::-1]
    return (candidates[top_k - 1], candidates[top_k]) if len(candidates) > top_k else (np.nan, np.nan)


def ulp(value: float) -> float:
    return float(np.spacing(np.float32(value))) if np.isfinite(value) else 0.0


def _iou(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
        intersection = np.maximum(sides, 0).prod(-1)
        union = (box[2:] - box[:2]).prod() + (boxes[:, 2:] - boxes[:, :2]).prod(-1) - intersection
        return np.nan_to_num(intersection / union, nan=0.0, posinf=0.0, neginf=0.0)


def _iou_band(box: np.ndarray, boxes: np.ndarray, limits: Limits) -> np.ndarray:
    """How far rounding can move an IoU: 4 ulp of the largest coordinate, relative to the shortest side."""
    largest = max(limits.largest_coordinate, np.abs(box).max(), np.abs(boxes).max(initial=0))
    with np.errstate(all="ignore"):
        shortest = np.minimum((box[2:] - box[:2]).min(), (boxes[:, 2:] - boxes[:, :2]).min(-1))
        return np.nan_to_num(4 * ulp(largest) / shortest, nan=0.0, posinf=0.0)
