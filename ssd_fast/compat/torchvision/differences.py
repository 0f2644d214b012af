"""Check that two detectors agree wherever rounding leaves no choice.

Scores and boxes may differ by a rounding error, which can change a decision at a border: a score at the threshold, two
scores that tie, an IoU at the threshold. `compare_detections` pairs the detections of two runs and excuses only those
differences. Consequences of an excused difference (a box that an excused box suppresses) are excused too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ...detections import Detections
from .tolerances import Limits, Rows, excuses_of, ulp

__all__ = ["Candidates", "Comparison", "Limits", "compare_detections"]


class Candidates(NamedTuple):
    """The candidates of both runs by the reference: boxes [N, P, 4] as NMS sees them, scores [N, P, C]."""

    boxes: Any
    scores: Any


@dataclass
class Comparison:
    """Differences and excused ones, one line each with the excuse in brackets; pairs and their largest distances."""

    differences: list[str] = field(default_factory=list)
    excused: list[str] = field(default_factory=list)
    pairs: int = 0
    largest_score_difference: float = 0.0
    largest_box_difference: float = 0.0


def compare_detections(
    actual: Any, expected: Any, limits: Limits, candidates: Candidates | None = None, *, first_image: int = 0
) -> Comparison:
    """Compare two batches of detections, each a Detections or torchvision's list of dicts.

    Without candidates, IoUs are those of the resulting boxes, and only ties of order are excused: only candidates can
    distinguish a rival with the same score from the right detection with a wrong box.

    Args:
        actual: the detections to check.
        expected: the detections to compare with.
        limits: the thresholds of both runs, and the tolerances.
        candidates: the candidates of both runs.
        first_image: the number of the first image in the lines that name differences.
    """
    comparison = Comparison()
    ours, theirs = _rows_of_images(actual, "actual", candidates), _rows_of_images(expected, "expected", candidates)
    if len(ours) != len(theirs):
        comparison.differences.append(f"{len(ours)} images, expected {len(theirs)}")
    for n, (a, b) in enumerate(zip(ours, theirs, strict=False)):
        scores = None if candidates is None else np.asarray(candidates.scores[n], np.float64)
        image = f"image {first_image + n}"
        pairs = _pair(a, b, limits)
        comparison.pairs += len(pairs)
        for i, j in pairs:
            comparison.largest_score_difference = max(
                comparison.largest_score_difference, float(abs(a.scores[i] - b.scores[j]))
            )
            comparison.largest_box_difference = max(
                comparison.largest_box_difference, float(np.abs(a.boxes[i] - b.boxes[j]).max())
            )
        for text, excuse in _compare_image(a, b, pairs, limits, scores):
            if excuse is None:
                comparison.differences.append(f"{image}: {text}")
            else:
                comparison.excused.append(f"{image}: {text} ({excuse})")
    return comparison


def _rows_of_images(detections: Any, name: str, candidates: Candidates | None) -> list[Rows]:
    images = detections.to_list() if isinstance(detections, Detections) else detections
    rows = []
    for n, image in enumerate(images):
        fields = {key: np.asarray(value.cpu() if hasattr(value, "cpu") else value) for key, value in image.items()}
        boxes, indices = fields["boxes"].astype(np.float64), fields.get("box_idxs")
        seen = boxes
        if candidates is not None and indices is not None:
            seen = np.asarray(candidates.boxes[n], np.float64)[indices]
        rows.append(Rows(name, boxes, fields["scores"].astype(np.float64), fields["labels"], indices, seen))
    return rows


def _compare_image(
    a: Rows, b: Rows, pairs: Sequence[tuple[int, int]], limits: Limits, scores: np.ndarray | None
) -> list[tuple[str, str | None]]:
    """Find every difference of an image, with its excuse or None."""
    found: list[tuple[str, str | None]] = [
        (f"{rows.name}: {len(rows.scores)} detections, keep_top_k is {limits.keep_top_k}", None)
        for rows in (a, b)
        if len(rows.scores) > limits.keep_top_k
    ]
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

    unmatched = [(a, i, b) for i in sorted(set(range(len(a.scores))) - {i for i, _ in pairs})]
    unmatched += [(b, j, a) for j in sorted(set(range(len(b.scores))) - {j for _, j in pairs})]
    excuses = excuses_of(unmatched, limits, scores)
    for mine, i, other in unmatched:
        found.append((f"{mine.describe(i)}: not in {other.name}", excuses.get((mine.name, i))))
    return found


def _pair(a: Rows, b: Rows, limits: Limits) -> list[tuple[int, int]]:
    """Pair the detections of a and b by label and index, or by label and values where a side has no indices."""
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
    first, second = np.nonzero(np.triu(j[:, None] > j[None, :]))  # in this order in a, in the opposite order in b
    tolerance = 2 * limits.score
    excused = (np.abs(sa[first] - sa[second]) <= tolerance) & (np.abs(sb[first] - sb[second]) <= tolerance)
    if limits.ties_defined:
        excused &= (sa[first] != sa[second]) | (sb[first] != sb[second])
    return [
        (f"{a.describe(i[x])} comes before {a.describe(i[y])}, not after as expected", "score tie" if ok else None)
        for x, y, ok in zip(first, second, excused, strict=True)
    ]


def _close(x: np.ndarray, y: np.ndarray, tolerance: float) -> bool:
    with np.errstate(invalid="ignore"):
        return bool(np.all((np.abs(x - y) <= tolerance) | (x == y) | (np.isnan(x) & np.isnan(y))))


def _box_tolerance(box: np.ndarray, limits: Limits) -> float:
    return max(limits.box, 4 * ulp(np.abs(box).max()))
