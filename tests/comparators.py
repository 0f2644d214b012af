"""Do two detectors agree wherever rounding leaves no choice?

Scores and boxes may differ by a rounding error, and such an error can turn a decision that sits on a border: a score at
the threshold, two scores that tie, an IoU at the threshold. `compare` pairs the detections of two runs, and reports
every difference but those. What follows from an excused difference (a box that an excused box suppresses) is excused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ssd_fast.detections import Detections


@dataclass(frozen=True)
class Limits:
    """The decisions that both runs took, and how far rounding may move a number.

    score, box: largest differences of a score and, in the unit of the boxes, of a corner (at least 4 ulp of the box).
    largest_coordinate: of the boxes that NMS saw, if it exceeds the output's (torchvision's class offset).
    ties_defined: both order exactly equal scores by class, then index, so an order may differ only on unequal scores.
    """

    score_threshold: float
    iou_threshold: float
    keep_top_k: int
    top_k: int | None = None
    score: float = 1e-6
    box: float = 1e-4
    largest_coordinate: float = 0.0
    ties_defined: bool = False


class Candidates(NamedTuple):
    """What both runs chose from, as the reference computes it: boxes [N, P, 4] as NMS sees them, scores [N, P, C]."""

    boxes: Any
    scores: Any


@dataclass
class Comparison:
    differences: list[str] = field(default_factory=list)
    excused: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Rows:
    """The detections of an image. nms_boxes: the boxes as NMS saw them; indices: None where the detector gives none."""

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


def assert_same_detections(
    actual: Any, expected: Any, limits: Limits, candidates: Candidates | None = None
) -> Comparison:
    """Asserts that `compare` finds no difference; returns what it excused, to be counted by the test."""
    comparison = compare(actual, expected, limits, candidates)
    shown = "\n".join(comparison.differences[:10])
    assert not comparison.differences, f"{len(comparison.differences)} differences:\n{shown}"
    return comparison


def compare(actual: Any, expected: Any, limits: Limits, candidates: Candidates | None = None) -> Comparison:
    """Compares two batches of detections, each a Detections or torchvision's list of dicts.

    Without candidates, IoUs are those of the resulting boxes, and no tie is excused but one of order: only they tell a
    rival with the same score from the right detection with a wrong box.
    """
    comparison = Comparison()
    ours, theirs = _rows_of_images(actual, "actual", candidates), _rows_of_images(expected, "expected", candidates)
    if len(ours) != len(theirs):
        comparison.differences.append(f"{len(ours)} images, expected {len(theirs)}")
    for n, (a, b) in enumerate(zip(ours, theirs, strict=False)):
        scores = None if candidates is None else np.asarray(candidates.scores[n], np.float64)
        for text, excuse in _compare_image(a, b, limits, scores):
            if excuse is None:
                comparison.differences.append(f"image {n}: {text}")
            else:
                comparison.excused.append(f"image {n}: {text} ({excuse})")
    return comparison


def _rows_of_images(detections: Any, name: str, candidates: Candidates | None) -> list[Rows]:
    images = detections.to_list() if isinstance(detections, Detections) else detections
    rows = []
    for n, image in enumerate(images):
        fields = {key: np.asarray(value.cpu() if hasattr(value, "cpu") else value) for key, value in image.items()}
        boxes, indices = fields["boxes"].astype(np.float64), fields.get("box_idxs")
        known = candidates is not None and indices is not None
        seen = np.asarray(candidates.boxes[n], np.float64)[indices] if known else boxes
        rows.append(Rows(name, boxes, fields["scores"].astype(np.float64), fields["labels"], indices, seen))
    return rows


def _compare_image(a: Rows, b: Rows, limits: Limits, scores: np.ndarray | None) -> list[tuple[str, str | None]]:
    """Every difference of an image with its excuse, or None."""
    found: list[tuple[str, str | None]] = []
    pairs = _pair(a, b, limits)
    for i, j in pairs:
        if not _close(a.scores[i], b.scores[j], limits.score):
            found.append((f"{a.describe(i)}: score of {b.describe(j)}", None))
        if not _close(a.boxes[i], b.boxes[j], _box_tolerance(b.boxes[j], limits)):
            found.append((f"{a.describe(i)}: box of {b.describe(j)}", None))
    found += _order_differences(a, b, pairs, limits)
    for rows in (a, b):
        if scores is not None and rows.indices is not None:
            for i, score in enumerate(scores[rows.indices, rows.labels]):
                if not _close(rows.scores[i], score, limits.score):
                    found.append((f"{rows.describe(i)}: the candidate's score is {score:.9g}", None))

    lonely = [(a, i, b) for i in sorted(set(range(len(a.scores))) - {i for i, _ in pairs})]
    lonely += [(b, j, a) for j in sorted(set(range(len(b.scores))) - {j for _, j in pairs})]
    excuses = _excuses(lonely, limits, scores)
    for mine, i, other in lonely:
        found.append((f"{mine.describe(i)}: not in {other.name}", excuses.get((mine.name, i))))
    return found


def _pair(a: Rows, b: Rows, limits: Limits) -> list[tuple[int, int]]:
    """Which detection of a is which of b: by label and index, or by label and values where a side has no indices."""
    free = np.ones(len(b.scores), dtype=bool)
    pairs = []
    for i in range(len(a.scores)):
        same = free & (b.labels == a.labels[i])
        if a.indices is not None and b.indices is not None:
            same &= b.indices == a.indices[i]
        else:
            same &= np.abs(b.scores - a.scores[i]) <= limits.score
            same &= (np.abs(b.boxes - a.boxes[i]) <= _box_tolerance(a.boxes[i], limits)).all(-1)
        candidates = same.nonzero()[0]
        if len(candidates):
            free[candidates[0]] = False
            pairs.append((i, int(candidates[0])))
    return pairs


def _order_differences(
    a: Rows, b: Rows, pairs: Sequence[tuple[int, int]], limits: Limits
) -> list[tuple[str, str | None]]:
    if len(pairs) < 2:
        return []
    i, j = np.asarray(pairs).T
    sa, sb = a.scores[i], b.scores[j]
    first, second = np.nonzero(np.triu(j[:, None] > j[None, :]))  # in this order in a, in the other in b
    tolerance = 2 * limits.score
    excused = (np.abs(sa[first] - sa[second]) <= tolerance) & (np.abs(sb[first] - sb[second]) <= tolerance)
    if limits.ties_defined:
        excused &= (sa[first] != sa[second]) | (sb[first] != sb[second])
    return [
        (f"{a.describe(i[x])} comes before {a.describe(i[y])}, not after as expected", "score tie" if ok else None)
        for x, y, ok in zip(first, second, excused, strict=True)
    ]


def _excuses(
    lonely: Sequence[tuple[Rows, int, Rows]], limits: Limits, scores: np.ndarray | None
) -> dict[tuple[str, int], str]:
    """Why a detection may be missing from the other run. Excused ones excuse others, hence the loop."""
    excuses: dict[tuple[str, int], str] = {}
    while True:
        new = {}
        for mine, i, other in lonely:
            if (mine.name, i) not in excuses:
                rivals = [r for rows, r, _ in lonely if rows is other]
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
    if scores is not None and limits.top_k is not None and abs(score - _cut(scores[:, label], limits)) <= limits.score:
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


def _cut(scores: np.ndarray, limits: Limits) -> float:
    """The score of the last candidate that top_k lets in; NaN if it lets all in."""
    candidates = np.sort(scores[scores > limits.score_threshold])[::-1]
    return candidates[limits.top_k - 1] if len(candidates) > limits.top_k else np.nan


def _close(x: np.ndarray, y: np.ndarray, tolerance: float) -> bool:
    with np.errstate(invalid="ignore"):
        return bool(np.all((np.abs(x - y) <= tolerance) | (x == y) | (np.isnan(x) & np.isnan(y))))


def _box_tolerance(box: np.ndarray, limits: Limits) -> float:
    return max(limits.box, 4 * _ulp(np.abs(box).max()))


def _ulp(value: float) -> float:
    return float(np.spacing(np.float32(value))) if np.isfinite(value) else 0.0


def _iou(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
        intersection = np.maximum(sides, 0).prod(-1)
        union = (box[2:] - box[:2]).prod() + (boxes[:, 2:] - boxes[:, :2]).prod(-1) - intersection
        return np.nan_to_num(intersection / union, nan=0.0, posinf=0.0, neginf=0.0)


def _iou_band(box: np.ndarray, boxes: np.ndarray, limits: Limits) -> np.ndarray:
    """How far rounding can move an IoU: 4 ulp of the largest coordinate, as a share of the shortest side."""
    largest = max(limits.largest_coordinate, np.abs(box).max(), np.abs(boxes).max(initial=0))
    with np.errstate(all="ignore"):
        shortest = np.minimum((box[2:] - box[:2]).min(), (boxes[:, 2:] - boxes[:, :2]).min(-1))
        return np.nan_to_num(4 * _ulp(largest) / shortest, nan=0.0, posinf=0.0)
