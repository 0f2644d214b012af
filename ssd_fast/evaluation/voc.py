"""Average precision as PASCAL VOC defines it, in the versions of 2007 (11 points) and 2012 (all points)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..ops import box_iou
from ._inputs import ImageDetections, ImageGroundTruths

__all__ = ["Curve", "OperatingPoint", "precision_recall", "voc07_ap", "voc12_ap"]


@dataclass(frozen=True)
class OperatingPoint:
    """The figures at a score threshold, when detections with scores of at least `score_threshold` are kept."""

    f1: float
    precision: float
    recall: float
    score_threshold: float


@dataclass(frozen=True, eq=False)
class Curve:
    """Precision and recall of a class after each of its D detections, best first, without ignored ground truths.

    Attributes:
        scores: float64 [D], descending.
        true_positives: bool [D].
        num_ground_truths: int, not zero.

    Examples:
        >>> import numpy as np
        >>> from ssd_fast.evaluation import Curve
        >>> curve = Curve(np.array([0.9, 0.5]), np.array([True, False]), num_ground_truths=2)
        >>> curve.precision.tolist(), curve.recall.tolist(), curve.best_f1().score_threshold
        ([1.0, 0.5], [0.5, 0.5], 0.9)
    """

    scores: np.ndarray
    true_positives: np.ndarray
    num_ground_truths: int

    @property
    def precision(self) -> np.ndarray:
        """The precision after each detection, float64 [D]."""
        return np.cumsum(self.true_positives) / np.arange(1, len(self.scores) + 1)

    @property
    def recall(self) -> np.ndarray:
        """The recall after each detection, float64 [D]."""
        return np.cumsum(self.true_positives) / self.num_ground_truths

    @property
    def envelope(self) -> np.ndarray:
        """The highest precision at this or any higher recall, float64 [D]."""
        return np.maximum.accumulate(self.precision[::-1])[::-1]

    def best_f1(self) -> OperatingPoint | None:
        """Find the threshold with the highest F1 (ties: the higher threshold); None without detections.

        No threshold separates detections with equal scores, so only the last of them counts.
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
    """Compute the curve of each class that has a ground truth which is not ignored.

    Each detection is assigned to the ground truth of its class and image with the highest IoU. If that is at least
    iou_threshold, the best detection assigned there is a true positive and the others are false positives; detections
    assigned to an ignored (difficult) ground truth count as neither. A detection whose ground truth is taken does not
    turn to another, as COCO's would.

    The VOC devkit treats boxes as inclusive pixels and adds 1 to every width and height. Here a box ends at its
    coordinates (`ssd_fast.box_iou` in float64), so that results do not depend on the unit; this lowers the IoU of two
    small boxes and hardly changes that of large ones.

    Ties:
        Equal scores: the earlier image, then the earlier detection; equal IoU: the earlier ground truth.

    Source:
        Everingham et al. 2010, section 4.2, and the devkit's VOCevaldet.m.
    """
    scores = np.concatenate([np.empty(0), *(found.scores for found in detections)])
    found_labels = np.concatenate([np.empty(0, np.int64), *(found.labels for found in detections)])
    true_labels = np.concatenate([np.empty(0, np.int64), *(truths.labels for truths in ground_truths)])
    ignored = np.concatenate([np.empty(0, bool), *(truths.ignored for truths in ground_truths)])
    targets, first = [np.empty(0, np.int64)], 0  # for each detection, the index among all ground truths, or -1
    for found, truths in zip(detections, ground_truths, strict=True):
        target = _assign(found, truths, iou_threshold)
        targets.append(np.where(target >= 0, target + first, -1))
        first += len(truths.labels)
    target = np.concatenate(targets)
    counts = dict(zip(*(part.tolist() for part in np.unique(true_labels[~ignored], return_counts=True)), strict=True))
    at_ignored = np.append(ignored, False)[target]  # -1 (no target) selects the False at the end
    by_class = np.lexsort((-scores, found_labels))  # by class, the best first; stable
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
    """Average the highest precision at this or any higher recall over the recalls 0, 0.1, ..., 1.

    Recalls are compared as fractions, so that 3 of 10 reach 0.3, which they need not in floating point.

    Examples:
        >>> import numpy as np
        >>> from ssd_fast.evaluation import Curve, voc07_ap
        >>> round(voc07_ap(Curve(np.array([0.9, 0.5]), np.array([True, False]), num_ground_truths=2)), 4)
        0.5455
    """
    found, precision = 10 * np.cumsum(curve.true_positives), curve.precision
    reached = (precision[found >= point * curve.num_ground_truths] for point in range(11))
    return float(sum(values.max(initial=0.0) for values in reached) / 11)


def voc12_ap(curve: Curve) -> float:
    """Compute the area under the curve after raising each precision to the highest at any higher recall.

    Examples:
        >>> import numpy as np
        >>> from ssd_fast.evaluation import Curve, voc12_ap
        >>> voc12_ap(Curve(np.array([0.9, 0.5]), np.array([True, False]), num_ground_truths=2))
        0.5
    """
    return float(curve.envelope[curve.true_positives].sum() / curve.num_ground_truths)


def _assign(found: ImageDetections, truths: ImageGroundTruths, iou_threshold: float) -> np.ndarray:
    """Assign each detection of an image to a ground truth, int64 [k]; -1 if the IoU is too low."""
    if not len(found.labels) or not len(truths.labels):
        return np.full(len(found.labels), -1)
    ious = np.where(found.labels[:, None] == truths.labels, box_iou(found.boxes, truths.boxes), -1.0)
    nearest = ious.argmax(1)
    return np.where(ious[np.arange(len(nearest)), nearest] >= iou_threshold, nearest, -1)


def _first_of_each(targets: np.ndarray) -> np.ndarray:
    """Whether each detection is the first one of its target, bool [D]; False without a target."""
    first = np.zeros(len(targets), bool)
    first[np.unique(targets, return_index=True)[1]] = True
    return first & (targets >= 0)
