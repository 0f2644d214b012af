"""VOC's average precision, against hand-worked tables and a separate, slow implementation."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from helpers.evaluation_cases import dataset, found, random_case
from ssd_fast.evaluation import Curve, voc07_ap, voc12_ap
from ssd_fast.evaluation._inputs import read_detections, read_ground_truths
from ssd_fast.evaluation.voc import precision_recall

A, B, C, D = (0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 50, 10), (60, 0, 70, 10)
FAR = (200, 200, 240, 230)


def curves_of(data, detections, iou_threshold=0.5) -> dict[int, Curve]:
    labels = range(1, 1 + len(data.classes))
    return precision_recall(read_detections(detections, data), read_ground_truths(data), labels, iou_threshold)


def curve_of(data, *detections) -> Curve:
    (curve,) = curves_of(data, detections).values()
    return curve


def test_curve_by_hand():
    data = dataset([(A, 1), (B, 1), (C, 1)], [(A, 1), (D, 1, True)])
    curve = curve_of(
        data,
        found((A, 1, 0.9), (FAR, 1, 0.8), (A, 1, 0.6), (C, 1, 0.4)),
        found((D, 1, 0.5), (A, 1, 0.7), (D, 1, 0.45)),
    )
    assert curve.num_ground_truths == 4
    assert curve.scores == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.4]), "counts those of a difficult ground truth"
    assert curve.true_positives.tolist() == [True, False, True, False, True]
    assert curve.precision == pytest.approx([1, 1 / 2, 2 / 3, 2 / 4, 3 / 5])
    assert curve.recall == pytest.approx([1 / 4, 1 / 4, 2 / 4, 2 / 4, 3 / 4])
    assert curve.envelope == pytest.approx([1, 2 / 3, 2 / 3, 3 / 5, 3 / 5])
    assert voc12_ap(curve) == pytest.approx((1 + 2 / 3 + 3 / 5) / 4)
    assert voc07_ap(curve) == pytest.approx((3 * 1 + 3 * 2 / 3 + 2 * 3 / 5) / 11)
    best = curve.best_f1()
    assert (best.precision, best.recall, best.score_threshold) == pytest.approx((3 / 5, 3 / 4, 0.4))
    assert best.f1 == pytest.approx(2 * 3 / 5 * 3 / 4 / (3 / 5 + 3 / 4))


def test_voc07_reaches_recalls_despite_rounding():
    """3 of 10 reach the point 0.3, although 3 * 0.1 > 3 / 10 in floating point; likewise 6 and 7."""
    boxes = [(20 * i, 0, 20 * i + 10, 10) for i in range(10)]
    data = dataset([(box, 1) for box in boxes])
    for hits in range(11):
        curve = curve_of(data, found(*((box, 1, 0.9) for box in boxes[:hits]), (FAR, 1, 0.95)))
        precision = hits / (hits + 1)
        assert voc07_ap(curve) == pytest.approx(precision * (hits + 1) / 11)
        assert voc12_ap(curve) == pytest.approx(precision * hits / 10)


def test_better_score_gets_ground_truth():
    data = dataset([(A, 1)])
    worse_box = (0, 0, 10, 8)
    curve = curve_of(data, found((A, 1, 0.3), (worse_box, 1, 0.7)))
    assert curve.scores == pytest.approx([0.7, 0.3]) and curve.true_positives.tolist() == [True, False]


def test_taken_ground_truth_is_not_exchanged_for_another():
    """Both detections choose the first box; that the second fits too (IoU 0.6) counts in COCO but not here."""
    first, second = (0, 0, 10, 10), (2, 0, 12, 10)
    close_to_both = (0.5, 0, 10.5, 10)
    data = dataset([(first, 1), (second, 1)])
    curve = curve_of(data, found((first, 1, 0.9), (close_to_both, 1, 0.8)))
    assert curve.true_positives.tolist() == [True, False]


def test_detection_of_difficult_ground_truth_is_not_counted():
    near_difficult = (1.5, 0, 11.5, 10)
    data = dataset([((0, 0, 10, 10), 1), ((2, 0, 12, 10), 1, True)])
    curve = curve_of(data, found((near_difficult, 1, 0.9)))
    assert curve.num_ground_truths == 1 and len(curve.scores) == 0
    assert voc07_ap(curve) == voc12_ap(curve) == 0


def test_iou_equal_to_threshold_matches():
    data = dataset([((0, 0, 10, 10), 1)])
    for height, matches in ((5, True), (4.99, False)):
        curve = curve_of(data, found(((0, 0, 10, height), 1, 0.9)))
        assert curve.true_positives.tolist() == [matches]


def test_widths_are_not_of_inclusive_pixels():
    """The IoU of [0, 9] x [0, 9] and [0, 9] x [0, 4] is 50/100 by the devkit's inclusive pixels, 36/81 here."""
    curve = curve_of(dataset([((0, 0, 9, 9), 1)]), found(((0, 0, 9, 4), 1, 0.9)))
    assert curve.true_positives.tolist() == [False]


def test_equal_ious_go_to_earlier_ground_truth():
    between = (5, 0, 15, 10)
    for second_ignored in (False, True):
        data = dataset([((0, 0, 20, 10), 1), ((5, -5, 15, 15), 1, second_ignored)])
        assert curve_of(data, found((between, 1, 0.9))).true_positives.tolist() == [True]


def test_equal_scores_keep_order_of_images_and_detections():
    data = dataset([(A, 1)], [(B, 1)])
    curve = curve_of(data, found((FAR, 1, 0.5), (A, 1, 0.5)), found((B, 1, 0.5), (FAR, 1, 0.5)))
    assert curve.true_positives.tolist() == [False, True, True, False]
    best = curve.best_f1()
    assert (best.precision, best.recall) == (0.5, 1), "a threshold parts equal scores"


def test_equal_f1_takes_higher_threshold():
    data = dataset([(A, 1), (B, 1), (C, 1)])
    curve = curve_of(data, found((A, 1, 0.9), (FAR, 1, 0.8), (FAR, 1, 0.7), (FAR, 1, 0.6), (FAR, 1, 0.5), (B, 1, 0.4)))
    assert 2 * 1 / (1 + 3) > 2 * 2 / (6 + 3)
    assert curve.best_f1().score_threshold == pytest.approx(0.9)
    curve = curve_of(data, found((A, 1, 0.9), (FAR, 1, 0.8), (FAR, 1, 0.7), (FAR, 1, 0.6), (B, 1, 0.5)))
    assert 2 * 1 / (1 + 3) == 2 * 2 / (5 + 3)
    assert curve.best_f1().score_threshold == pytest.approx(0.9)


def test_classes_and_images_are_kept_apart():
    data = dataset([(A, 1)], [(A, 2)])
    curves = curves_of(data, [found((A, 2, 0.9)), found((A, 1, 0.9))])
    assert {label: curve.true_positives.tolist() for label, curve in curves.items()} == {1: [False], 2: [False]}
    assert all(voc12_ap(curve) == 0 for curve in curves.values())


def test_classes_without_counting_ground_truths_have_no_curve():
    data = dataset([(A, 1), (B, 2, True)])
    assert set(curves_of(data, [found((B, 2, 0.9), (C, 3, 0.9))])) == {1}


@pytest.mark.parametrize("seed", range(12))
def test_curve_equals_slow_implementation(seed):
    data, detections = random_case(seed, images=12, ignored=0.2)
    curves = curves_of(data, detections)
    hits = 0
    for label in (1, 2, 3):
        expected = slow_curve(data, detections, label)
        if expected is None:
            assert label not in curves
            continue
        scores, outcomes, count = expected
        curve = curves[label]
        hits += sum(outcomes)
        assert curve.num_ground_truths == count
        assert curve.scores.tolist() == scores and curve.true_positives.tolist() == outcomes
        assert voc07_ap(curve) == pytest.approx(float(slow_ap(outcomes, count, 2007)), abs=1e-12)
        assert voc12_ap(curve) == pytest.approx(float(slow_ap(outcomes, count, 2012)), abs=1e-12)
    assert hits > 10


def slow_curve(data, detections, label):
    """Return scores and outcomes in order, and the number of ground truths, from a loop over everything."""
    ranked = []
    for image, detection in enumerate(detections):
        for box, score, other in zip(detection["boxes"], detection["scores"], detection["labels"], strict=True):
            if other == label:
                ranked.append((float(score), image, [float(x) for x in box]))
    ranked.sort(key=lambda item: -item[0])
    truths = {
        (image, index): (box.tolist(), bool(ignored))
        for image, sample in enumerate(data.samples)
        for index, (box, other, ignored) in enumerate(zip(sample.boxes, sample.labels, sample.ignored, strict=True))
        if other == label
    }
    count = sum(not ignored for _, ignored in truths.values())
    if count == 0:
        return None
    taken, scores, outcomes = set(), [], []
    for score, image, box in ranked:
        best, which = Fraction(-1), None
        for (other, index), (truth, _) in truths.items():
            if other == image and slow_iou(box, truth) > best:
                best, which = slow_iou(box, truth), (other, index)
        if which is not None and best >= Fraction(1, 2):
            if truths[which][1]:
                continue
            outcomes.append(which not in taken)
            taken.add(which)
        else:
            outcomes.append(False)
        scores.append(score)
    return scores, outcomes, count


def slow_iou(a, b) -> Fraction:
    a, b = [Fraction(x) for x in a], [Fraction(x) for x in b]
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(w, Fraction(0)) * max(h, Fraction(0))
    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return both / (area - both)


def slow_ap(outcomes, count, year) -> Fraction:
    """Return the mean, over the recalls that count, of the highest precision at or beyond each recall."""
    pairs = [(Fraction(sum(outcomes[:n]), count), Fraction(sum(outcomes[:n]), n)) for n in range(1, len(outcomes) + 1)]
    points = [Fraction(k, 10) for k in range(11)] if year == 2007 else [Fraction(k, count) for k in range(1, count + 1)]
    return sum((max((p for r, p in pairs if r >= point), default=Fraction(0)) for point in points), Fraction(0)) / len(
        points
    )


def test_slow_implementation_by_hand():
    """The table of the oracle: TP, FP, TP of 4 ground truths."""
    assert slow_ap([True, False, True], 4, 2012) == Fraction(1, 4) * (1 + Fraction(2, 3))
    assert slow_ap([True, False, True], 4, 2007) == (3 + 3 * Fraction(2, 3)) / 11
    assert slow_iou((0, 0, 2, 2), (1, 0, 3, 2)) == Fraction(1, 3)


def test_dtypes_of_empty_curve():
    curve = curve_of(dataset([(A, 1)]), found())
    assert curve.scores.dtype == np.float64 and curve.true_positives.dtype == bool
    assert curve.best_f1() is None and len(curve.precision) == len(curve.recall) == len(curve.envelope) == 0
