"""Average precision as PASCAL VOC defines it, in its form of 2007 (11 points) and of 2012 (all points)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..ops import box_iou
from ._inputs import ImageDetections, ImageGroundTruths

__all__ = ["Curve", "OperatingPoint", "precision_recall", "voc07_ap", "voc12_ap"]


@dataclass(frozen=True)
class OperatingPoint:
    """What a score threshold gives: the detections with scores of at least `score_threshold` are kept."""

    f1: float
    precision: float
    recall: float
    score_threshold: float


@dataclass(frozen=True, eq=False)
class Curve:
    """Precision and recall of a class after each of its D detections, best first. Ignored ground truths have no part.

    scores: float64 [D], descending.            precision, recall: float64 [D].
    true_positives: bool [D].                   num_ground_truths: int, not zero.
    """

    scores: np.ndarray
    true_positives: np.ndarray
    num_ground_truths: int

    @property
    def precision(self) -> np.ndarray:
        return np.cumsum(self.true_positives) / np.arange(1, len(self.scores) + 1)

    @property
    def recall(self) -> np.ndarray:
        return np.cumsum(self.true_positives) / self.num_ground_truths

    @property
    def envelope(self) -> np.ndarray:
        """float64 [D]: the highest precision at this or any higher recall."""
        return np.maximum.accumulate(self.precision[::-1])[::-1]

    def best_f1(self) -> OperatingPoint | None:
        """The threshold with the highest F1 (ties: the higher threshold); None without detections.

        No threshold parts detections of equal scores, so only the last of them counts.
        """
        if not len(self.scores):
            return None
        separable = np.flatnonzero(np.append(self.scores[1:] != self.scores[:-1], True))
        # F1 = 2 TP / (detections + ground truths), which needs no division by a precision or recall of 0
        f1 = 2 * np.cumsum(self.true_positives) / (np.arange(1, len(self.scores) + 1) + self.num_ground_truths)
        best = separable[f1[separable].argmax()]
        return OperatingPoint(
            float(f1[best]), float(self.precision[best]), float(self.recall[best]), float(self.scores[best])
        )


def precision_recall(
    detections: Sequence[ImageDetections],
    ground_truths: Sequence[ImageGroundTruths],
    labels: Iterable[int],
    iou_threshold: float = 0.5,
) -> dict[int, Curve]:
    """The curve of each class that has a ground truth which is not ignored.

    Each detection looks at the ground truth of its class and image with the highest IoU. If that is at least
    iou_threshold, then the best detection that looks there is a true positive, the others are false ones; detections
    that look at an ignored (difficult) ground truth count as neither. A detection whose ground truth is taken does not
    turn to another, which COCO's would.

    The VOC devkit takes boxes as inclusive pixels and adds 1 to every width and height. Here a box ends where its
    coordinates say (`ssd_fast.box_iou` in float64), so that results do not depend on the unit; the IoU of two small
    boxes is lower by this, that of large ones the same.

    Ties:
        Equal scores: the earlier image, then the earlier detection; equal IoU: the earlier ground truth.

    Source:
        Everingham et al. 2010, section 4.2, and the devkit's VOCevaldet.m.
    """
    scores = np.concatenate([np.empty(0), *(found.scores for found in detections)])
    found_labels = np.concatenate([np.empty(0, np.int64), *(found.labels for found in detections)])
    true_labels = np.concatenate([np.empty(0, np.int64), *(truths.labels for truths in ground_truths)])
    ignored = np.concatenate([np.empty(0, bool), *(truths.ignored for truths in ground_truths)])
    targets, first = [np.empty(0, np.int64)], 0  # of each detection: which of all ground truths, or -1
    for found, truths in zip(detections, ground_truths, strict=True):
        target = _assign(found, truths, iou_threshold)
        targets.append(np.where(target >= 0, target + first, -1))
        first += len(truths.labels)
    target = np.concatenate(targets)
    counts = dict(zip(*(part.tolist() for part in np.unique(true_labels[~ignored], return_counts=True)), strict=True))
    at_ignored = np.append(ignored, False)[target]  # -1, no target, is the False at the end
    by_class = np.lexsort((-scores, found_labels))  # within a class the best first; stable
    by_class = by_class[~at_ignored[by_class]]
    sorted_labels = found_labels[by_class]
    curves = {}
    for label in labels:
        if label in counts:
            begin, end = np.searchsorted(sorted_labels, (label, label + 1))
            own = by_class[begin:end]
            curves[label] = Curve(scores[own], _first_of_each(target[own]), counts[label])
    return curves


def voc07_ap(curve: Curve) -> float:
    """The mean, over the recalls 0, 0.1, ..., 1, of the highest precision at that or any higher recall.

    Recalls are compared as fractions, so that 3 of 10 reach 0.3, which in floating point they need not.
    """
    found, precision = 10 * np.cumsum(curve.true_positives), curve.precision
    reached = (precision[found >= point * curve.num_ground_truths] for point in range(11))
    return float(sum(values.max(initial=0.0) for values in reached) / 11)


def voc12_ap(curve: Curve) -> float:
    """The area under the curve after each precision is raised to the highest at any higher recall."""
    return float(curve.envelope[curve.true_positives].sum() / curve.num_ground_truths)


def _assign(found: ImageDetections, truths: ImageGroundTruths, iou_threshold: float) -> np.ndarray:
    """int64 [k]: the ground truth that each detection of an image looks at, -1 if its IoU is too low."""
    if not len(found.labels) or not len(truths.labels):
        return np.full(len(found.labels), -1)
    ious = np.where(found.labels[:, None] == truths.labels, box_iou(found.boxes, truths.boxes), -1.0)
    nearest = ious.argmax(1)
    return np.where(ious[np.arange(len(nearest)), nearest] >= iou_threshold, nearest, -1)


def _first_of_each(targets: np.ndarray) -> np.ndarray:
    """bool [D]: this is the first detection of its target, and it has one."""
    first = np.zeros(len(targets), bool)
    first[np.unique(targets, return_index=True)[1]] = True
    return first & (targets >= 0)
