"""The comparator finds every planted difference, and excuses only those that rounding can cause."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from helpers.comparators import Candidates, Limits, assert_same_detections, compare
from ssd_fast.detections import Detections

LIMITS = Limits(score_threshold=0.1, iou_threshold=0.5, keep_top_k=6)

# (label, score, box), far from each other and from every threshold.
ROWS = (
    (1, 0.9, (0.0, 0.0, 10.0, 10.0)),
    (2, 0.8, (0.0, 0.0, 10.0, 10.0)),
    (1, 0.7, (50.0, 50.0, 70.0, 60.0)),
    (3, 0.3, (5.0, 80.0, 25.0, 95.0)),
)


def detections(rows, keep_top_k=6, indices=None) -> Detections:
    """Make the detections of one image, whose indices are the rows' places in `rows` unless given."""
    k = len(rows)
    result = Detections(
        torch.zeros(1, keep_top_k, 4),
        torch.zeros(1, keep_top_k),
        torch.full((1, keep_top_k), -1),
        torch.full((1, keep_top_k), -1),
        torch.tensor([k]),
    )
    for i, (label, score, box) in enumerate(rows):
        result.boxes[0, i] = torch.tensor(box)
        result.scores[0, i] = score
        result.labels[0, i] = label
        result.box_idxs[0, i] = i if indices is None else indices[i]
    return result


def plain(result: Detections) -> list[dict]:
    """Return the detections as torchvision does, without indices."""
    return [{key: value for key, value in image.items() if key != "box_idxs"} for image in result.to_list()]


def changed(row: int, label=None, score=None, box=None):
    rows = list(ROWS)
    old = rows[row]
    rows[row] = (label or old[0], old[1] if score is None else score, box or old[2])
    return rows


def moved(box, by):
    return tuple(corner + by for corner in box)


@pytest.mark.parametrize("form", [lambda d: d, plain], ids=["indices", "no indices"])
def test_equal_detections_have_no_difference(form):
    found = compare(form(detections(ROWS)), form(detections(ROWS)), LIMITS)
    assert found.differences == [] and found.excused == []


@pytest.mark.parametrize("form", [lambda d: d, plain], ids=["indices", "no indices"])
def test_rounding_is_not_a_difference(form):
    rows = [(label, score + 5e-7, moved(box, 5e-5)) for label, score, box in ROWS]
    found = compare(form(detections(rows)), form(detections(ROWS)), LIMITS)
    assert found.differences == [] and found.excused == []


@pytest.mark.parametrize("form", [lambda d: d, plain], ids=["indices", "no indices"])
@pytest.mark.parametrize(
    "rows",
    [
        ROWS[:-1],  # the last is missing
        ROWS[1:],
        (*ROWS, (2, 0.2, (30.0, 0.0, 40.0, 9.0))),  # one too many
        changed(1, label=3),
        changed(2, score=0.7 + 3e-6),
        changed(2, box=moved(ROWS[2][2], 5e-4)),
        changed(2, box=(float("nan"), 50.0, 70.0, 60.0)),
        (ROWS[0], ROWS[2], ROWS[1], ROWS[3]),  # order
        [],
    ],
    ids=["last", "first", "extra", "label", "score", "box", "nan", "order", "empty"],
)
def test_planted_difference_is_reported(form, rows):
    indices = [ROWS.index(row) if row in ROWS else 9 for row in rows]
    actual, expected = form(detections(rows, indices=indices)), form(detections(ROWS))
    assert compare(actual, expected, LIMITS).differences
    assert compare(expected, actual, LIMITS).differences
    with pytest.raises(AssertionError, match=r"differences:\nimage 0: "):
        assert_same_detections(actual, expected, LIMITS)


def test_wrong_index_is_reported():
    found = compare(detections(ROWS, indices=[0, 1, 2, 4]), detections(ROWS), LIMITS)
    assert [("index 4" in text, "index 3" in text) for text in found.differences] == [(True, False), (False, True)]


def test_wrong_index_beside_tie_is_reported():
    """Index 4 has the box of index 3, so it would be a rival, but it has another score."""
    found = compare(detections(ROWS, indices=[0, 1, 2, 4]), detections(ROWS), LIMITS, candidates((*ROWS, ROWS[2])))
    assert len(found.differences) == 3 and "the candidate's score is 0" in found.differences[0]


def test_missing_image_is_reported():
    image = plain(detections(ROWS))
    assert compare(image + image, image, LIMITS).differences == ["2 images, expected 1"]


def candidates(rows, num_labels=4) -> Candidates:
    """Make the candidates; rows[i] has index i."""
    scores = torch.zeros(1, len(rows), num_labels)
    for i, (label, score, _) in enumerate(rows):
        scores[0, i, label] = score
    return Candidates(torch.tensor([[box for _, _, box in rows]]), scores)


def excuse_of(rows, expected_rows, limits=LIMITS, indices=None, expected_indices=None, among=None) -> list[str]:
    """Return the excuses of a pair that must have no other difference in either direction."""
    keep = limits.keep_top_k
    actual, expected = detections(rows, keep, indices), detections(expected_rows, keep, expected_indices)
    backward = compare(expected, actual, limits, among)
    forward = assert_same_detections(actual, expected, limits, among)
    assert backward.differences == [] and len(backward.excused) == len(forward.excused)
    return [text.rsplit("(", 1)[1].rstrip(")") for text in forward.excused]


def test_score_at_threshold_is_excused():
    edge = (2, 0.1 + 5e-7, (30.0, 0.0, 40.0, 9.0))
    assert excuse_of((*ROWS, edge), ROWS) == ["score at the threshold"]
    beside = (2, 0.1 + 5e-6, (30.0, 0.0, 40.0, 9.0))
    assert compare(detections((*ROWS, beside)), detections(ROWS), LIMITS).differences


def test_order_of_score_tie_is_excused_unless_both_tie_exactly():
    a, b = (1, 0.5, (0.0, 0.0, 9.0, 9.0)), (2, 0.5, (0.0, 0.0, 9.0, 9.0))
    assert excuse_of((a, b), (b, a), indices=(0, 1), expected_indices=(1, 0)) == ["score tie"]
    strict = dataclasses.replace(LIMITS, ties_defined=True)
    actual, expected = detections((a, b), indices=(0, 1)), detections((b, a), indices=(1, 0))
    assert compare(actual, expected, strict).differences
    b = (2, 0.5000005, b[2])
    assert excuse_of((a, b), (b, a), strict, indices=(0, 1), expected_indices=(1, 0)) == ["score tie"]


def test_iou_at_threshold_is_excused():
    kept = (1, 0.9, (0.0, 0.0, 10.0, 10.0))
    border = (1, 0.6, (0.0, 0.0, 10.0, 5.0))  # IoU 1/2
    assert excuse_of((kept, border), (kept,)) == ["IoU at the threshold"]
    for height in (4.99, 5.01):
        beside = (1, 0.6, (0.0, 0.0, 10.0, height))
        assert compare(detections((kept, beside)), detections((kept,)), LIMITS).differences
    other_class = (2, 0.6, border[2])
    assert compare(detections((kept, other_class)), detections((kept,)), LIMITS).differences


def test_offset_of_classes_widens_band():
    kept, beside = (1, 0.9, (0.0, 0.0, 10.0, 10.0)), (1, 0.6, (0.0, 0.0, 10.0, 5.001))
    assert compare(detections((kept, beside)), detections((kept,)), LIMITS).differences
    wide = dataclasses.replace(LIMITS, largest_coordinate=90 * 301.0)
    assert excuse_of((kept, beside), (kept,), wide) == ["IoU at the threshold"]


@pytest.mark.parametrize("largest, ulp", [(0.0, 2.0**-20), (90 * 301.0, 2.0**-9)], ids=["boxes", "classes apart"])
@pytest.mark.parametrize("side", [-1, 1])
def test_band_is_4_ulp_of_largest_coordinate(largest, ulp, side):
    """The band is a share of the shortest side, 5, of boxes up to 10; the IoU is height / 10."""
    limits = dataclasses.replace(LIMITS, largest_coordinate=largest)
    kept = (1, 0.9, (0.0, 0.0, 10.0, 10.0))
    inside, outside = ((1, 0.6, (0.0, 0.0, 10.0, 5 + side * share * 8 * ulp)) for share in (0.9, 1.1))
    assert excuse_of((kept, inside), (kept,), limits) == ["IoU at the threshold"]
    assert compare(detections((kept, outside)), detections((kept,)), limits).differences


def test_rival_with_same_score_is_excused():
    a, b = (1, 0.5, (0.0, 0.0, 10.0, 10.0)), (1, 0.5, (1.0, 0.0, 11.0, 10.0))
    among = candidates((a, b))
    excuses = excuse_of((a,), (b,), indices=(0,), expected_indices=(1,), among=among)
    assert excuses == ["score tie with the box kept instead"] * 2
    assert compare(detections((a,), indices=(0,)), detections((b,), indices=(1,)), LIMITS).differences
    assert compare(plain(detections((a,))), plain(detections((b,))), LIMITS, among).differences
    apart = (1, 0.5, (8.0, 0.0, 18.0, 10.0))  # both would have been kept
    actual, expected = detections((a,), indices=(0,)), detections((apart,), indices=(1,))
    assert compare(actual, expected, LIMITS, candidates((a, apart))).differences


def test_boxes_suppressed_by_excused_box_are_excused():
    kept = (1, 0.9, (0.0, 0.0, 10.0, 10.0))
    border = (1, 0.6, (0.0, 0.0, 10.0, 5.0))
    follower = (1, 0.4, (0.0, 1.0, 10.0, 5.0))  # IoU with border 0.8, with kept 0.4
    excuses = excuse_of((kept, border), (kept, follower), indices=(0, 1), expected_indices=(0, 2))
    assert sorted(excuses) == ["IoU at the threshold", "suppressed by an excused box"]


def test_end_of_full_list_is_excused():
    limits = dataclasses.replace(LIMITS, keep_top_k=3)
    a, b = (1, 0.3, (0.0, 0.0, 10.0, 10.0)), (2, 0.3, (0.0, 0.0, 10.0, 10.0))
    excuses = excuse_of((*ROWS[:2], a), (*ROWS[:2], b), limits, indices=(0, 1, 2), expected_indices=(0, 1, 3))
    assert set(excuses) == {"beyond keep_top_k, or tied with the last"}
    better = (2, 0.4, b[2])
    actual = detections((*ROWS[:2], a), 3, indices=(0, 1, 2))
    assert compare(actual, detections((*ROWS[:2], better), 3, indices=(0, 1, 3)), limits).differences


@pytest.mark.parametrize("form", [lambda d: d, plain], ids=["indices", "no indices"])
def test_more_detections_than_keep_top_k_are_reported(form):
    """They are reported in either result, although the other result, being full, excuses each of them."""
    limits = dataclasses.replace(LIMITS, keep_top_k=3)
    full, more = form(detections(ROWS[:3])), form(detections(ROWS))
    assert compare(more, full, limits).differences == ["image 0: actual: 4 detections, keep_top_k is 3"]
    assert compare(full, more, limits).differences == ["image 0: expected: 4 detections, keep_top_k is 3"]
    assert len(compare(more, more, limits).differences) == 2


def test_score_at_cut_of_top_k_is_excused():
    a, b, c = ((1, score, (20.0 * i, 0.0, 20.0 * i + 9, 9.0)) for i, score in enumerate((0.8, 0.5, 0.5)))
    two = dataclasses.replace(LIMITS, top_k=2)
    excuses = excuse_of((a, b), (a, c), two, expected_indices=(0, 2), among=candidates((a, b, c)))
    assert excuses == ["score at the cut of top_k"] * 2
    actual, expected = detections((a, b)), detections((a, c), indices=(0, 2))
    for top_k in (1, 3, None):  # 3: the cut lets all in
        limits = dataclasses.replace(LIMITS, top_k=top_k)
        assert compare(actual, expected, limits, candidates((a, b, c))).differences


def test_last_candidate_of_top_k_is_not_excused_without_tie():
    a, b, c = ((1, score, (20.0 * i, 0.0, 20.0 * i + 9, 9.0)) for i, score in enumerate((0.8, 0.5, 0.49)))
    two = dataclasses.replace(LIMITS, top_k=2)
    for rows in ((a,), (a, b, c)):  # one too few, one too many
        assert compare(detections(rows), detections((a, b)), two, candidates((a, b, c))).differences


def test_band_compares_candidates():
    kept, border = (1, 0.9, (0.0, 0.0, 10.0, 10.0)), (1, 0.6, (0.0, 0.0, 10.0, 4.0))  # clipped: its IoU was 1/2
    unclipped = candidates((kept, (1, 0.6, (0.0, 0.0, 10.0, 5.0))))
    assert compare(detections((kept, border)), detections((kept,)), LIMITS).differences
    assert excuse_of((kept, border), (kept,), among=unclipped) == ["IoU at the threshold"]
