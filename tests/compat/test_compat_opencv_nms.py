"""OpenCV's NMSBoxes and NMSBoxesBatched: the same indices as OpenCV's own."""

from __future__ import annotations

import numpy as np
import pytest

from ssd_fast.compat.opencv import nms_boxes, nms_boxes_batched

cv2 = pytest.importorskip("cv2", reason="OpenCV, which is compared with, is not installed")


def pixels(n: int, seed: int, fractions: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return boxes (x, y, w, h), in whole pixels or not, whose IoUs meet thresholds exactly; many scores are equal."""
    rng = np.random.default_rng(seed)
    boxes = np.concatenate((rng.integers(0, 40, (n, 2)), rng.integers(1, 21, (n, 2))), 1).astype(np.float64)
    if fractions:
        boxes += rng.integers(0, 1024, (n, 4)) / 1024
    return boxes, (rng.integers(0, 200, n) / 200).astype(np.float32)


@pytest.mark.parametrize("fractions", [False, True])
@pytest.mark.parametrize("threshold", [0.1, 0.2, 0.25, 0.3, 1 / 3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.75, 0.9, 1.0, 0.0])
def test_nms_boxes_equals_opencv(threshold, fractions):
    kept = 0
    for seed in range(4):
        boxes, scores = pixels(300, seed, fractions)
        expected = cv2.dnn.NMSBoxes(boxes.tolist(), scores.tolist(), 0.25, threshold)
        actual = nms_boxes(boxes, scores, 0.25, threshold)
        assert actual.dtype == np.int32
        np.testing.assert_array_equal(actual, expected)
        kept += len(actual)
    assert 40 < kept < 4 * 300


@pytest.mark.parametrize("top_k", [0, 1, 17, 1000])
def test_nms_boxes_obeys_top_k(top_k):
    boxes, scores = pixels(300, 9, False)
    expected = cv2.dnn.NMSBoxes(boxes.tolist(), scores.tolist(), 0.1, 0.4, top_k=top_k)
    np.testing.assert_array_equal(nms_boxes(boxes.tolist(), scores.tolist(), 0.1, 0.4, top_k=top_k), expected)


def test_nms_boxes_rounds_as_opencv():
    """OpenCV rounds IoUs near a threshold from float64 to float32 before it compares them."""
    for threshold in (0.3, 0.45, 0.5, 0.7):
        answers = set()
        for step in np.linspace(-3e-7, 3e-7, 41):
            boxes = [[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, threshold + step, 1.0]]
            expected = cv2.dnn.NMSBoxes(boxes, [0.9, 0.8], 0.1, threshold)
            actual = nms_boxes(boxes, [0.9, 0.8], 0.1, threshold)
            np.testing.assert_array_equal(actual, expected)
            answers.add(len(actual))
        assert answers == {1, 2}


def test_nms_boxes_of_nothing_is_empty():
    for boxes, scores in (([], []), ([[0, 0, 1, 1]], [0.1])):
        kept = nms_boxes(boxes, scores, 0.5, 0.5)
        assert kept.shape == (0,) and kept.dtype == np.int32


def test_nms_boxes_excludes_score_equal_to_threshold():
    boxes = [[0, 0, 1, 1], [5, 5, 1, 1]]
    for scores in ([0.3, 0.4], [0.30000001, 0.2]):
        np.testing.assert_array_equal(
            nms_boxes(boxes, scores, 0.3, 0.5), cv2.dnn.NMSBoxes(boxes, scores, 0.3, 0.5) or []
        )


def test_nms_boxes_rejects_arguments():
    with pytest.raises(ValueError, match=r"nms_boxes: eta: expected 1, got 0.5"):
        nms_boxes([[0, 0, 1, 1]], [1], 0.5, 0.5, eta=0.5)
    with pytest.raises(ValueError, match=r"nms_boxes: scores: expected shape \[1\], got \[2\]"):
        nms_boxes([[0, 0, 1, 1]], [1, 2], 0.5, 0.5)
    with pytest.raises(ValueError, match=r"nms_boxes: bboxes: expected \[n, 4\] numbers, got \[1, 3\]"):
        nms_boxes([[0, 0, 1]], [1], 0.5, 0.5)
    for wrong in ([[0, 0, 1], [0, 0, 1, 1]], [list("text")]):
        with pytest.raises(ValueError, match="nms_boxes: bboxes: expected numbers in rows of one length, got "):
            nms_boxes(wrong, [0.5], 0.5, 0.5)
    with pytest.raises(ValueError, match=r"nms_boxes: scores: expected numbers in rows of one length, got .*'high'"):
        nms_boxes([[0, 0, 1, 1]], ["high"], 0.5, 0.5)
    with pytest.raises(ValueError, match=r"nms_boxes: bboxes: expected \[n, 4\] numbers, got \[\]"):
        nms_boxes(3, [0.5], 0.5, 0.5)
    with pytest.raises(ValueError, match="nms_boxes: nms_threshold: expected a number >= 0"):
        nms_boxes([[0, 0, 1, 1]], [1], 0.5, -0.5)
    with pytest.raises(ValueError, match=r"nms_boxes: top_k: expected an int in \[-2\*\*31, 2\*\*31\), got 2"):
        nms_boxes([[0, 0, 1, 1]], [1], 0.5, 0.5, top_k=2**31)
    with pytest.raises(ValueError, match="nms_boxes: scores: expected an array without a mask, got a MaskedArray"):
        nms_boxes([[0, 0, 1, 1]], np.ma.masked_array([1], [True]), 0.5, 0.5)


def test_failed_allocation_is_no_wrong_argument():
    boxes = np.broadcast_to(np.float32(1), (2**45, 4))  # their copy in float64 takes a petabyte
    with pytest.raises(MemoryError, match=r"^nms_boxes: expected more memory, got Unable to allocate "):
        nms_boxes(boxes, [1], 0.5, 0.5)


@pytest.mark.parametrize("top_k", [0, 40])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 1 / 3, 0.5, 0.7])
def test_nms_boxes_batched_equals_opencv(threshold, top_k):
    for seed in range(4):
        boxes, scores = pixels(300, seed, seed % 2 == 0)
        ids = np.random.default_rng(seed).integers(0, 5, 300)
        expected = cv2.dnn.NMSBoxesBatched(boxes, scores, ids.astype(np.int32), 0.25, threshold, 1.0, top_k)
        for given in (ids, ids.tolist(), ids.astype(np.uint8)):
            actual = nms_boxes_batched(boxes, scores, given, 0.25, threshold, top_k=top_k)
            assert actual.dtype == np.int32 and len(actual) > 10
            np.testing.assert_array_equal(actual, expected)
    assert len(nms_boxes_batched([], [], [], 0.5, 0.5)) == 0


def test_nms_boxes_batched_keeps_negative_boxes_of_two_classes_apart():
    boxes, scores = [[0, 0, 10, 10], [-11, -11, 10, 10]], [0.9, 0.8]
    assert cv2.dnn.NMSBoxesBatched(boxes, scores, [0, 1], 0.1, 0.5).tolist() == [0]
    assert nms_boxes_batched(boxes, scores, [0, 1], 0.1, 0.5).tolist() == [0, 1]


def test_boxes_without_area_are_the_only_difference():
    """OpenCV keeps the best of them alone."""
    for seed in range(20):
        boxes, scores = pixels(100, seed, False)
        boxes[::3, 2 + seed % 2] = 0
        ours = nms_boxes(boxes, scores, 0.1, 0.5)
        flat = (boxes[ours, 2:] == 0).any(1)
        assert flat.sum() > 10
        np.testing.assert_array_equal(ours[~flat | (flat.cumsum() == 1)], cv2.dnn.NMSBoxes(boxes, scores, 0.1, 0.5))


def test_nms_boxes_batched_rejects_classes():
    boxes, scores = [[0, 0, 1, 1]], [0.5]
    for wrong in ([0.5], [True], ["a"], None):
        with pytest.raises(ValueError, match="nms_boxes_batched: class_ids: expected integers, got ") as error:
            nms_boxes_batched(boxes, scores, wrong, 0.1, 0.5)
        assert str(error.value).endswith(f"got {wrong!r}")
    for misshaped in ([1, 2], [[1]], 1, []):
        with pytest.raises(ValueError, match=r"nms_boxes_batched: class_ids: expected shape \[1\], got \["):
            nms_boxes_batched(boxes, scores, misshaped, 0.1, 0.5)
    with pytest.raises(ValueError, match="nms_boxes_batched: class_ids: expected numbers in rows of one length, got "):
        nms_boxes_batched(boxes, scores, [[1], [1, 2]], 0.1, 0.5)
    with pytest.raises(ValueError, match=r"nms_boxes_batched: eta: expected 1, got 0\.5"):
        nms_boxes_batched(boxes, scores, [1], 0.1, 0.5, eta=0.5)
