"""The checks of ground truth: the faults they name, and the boxes that each policy leaves."""

import math
import warnings

import pytest
import torch

from ssd_fast.ground_truth.faults import (
    Fault,
    GroundTruthError,
    GroundTruthWarning,
    describe,
    fault_mask,
    find_faults,
    warn,
)
from ssd_fast.ground_truth.policy import apply_policy

GOOD = (10.0, 20.0, 30.0, 40.0)
RULES = {"num_columns": 4, "background": 0, "size": (100, 200)}

FAULTY = {  # box, label, a word of the reason
    "NaN": ((math.nan, 0, 1, 1), 1, "not finite"),
    "infinite": ((0, 0, math.inf, 1), 1, "not finite"),
    "no width": ((10, 20, 10, 40), 1, "no width"),
    "crossed": ((30, 20, 10, 40), 1, "no width"),
    "no height": ((10, 40, 30, 40), 1, "no height"),
    "left": ((-1.5, 0, 9, 9), 1, "reaches out of the image, which is 200 wide and 100 high"),
    "above": ((0, -1.5, 9, 9), 1, "reaches out"),
    "right": ((0, 0, 201.5, 9), 1, "reaches out"),
    "below": ((0, 0, 9, 101.5), 1, "reaches out"),
    "sliver": ((200, 0, 200.5, 9), 1, "lies beside"),
    "high label": (GOOD, 4, "the label is not in [0, 4)"),
    "negative label": (GOOD, -1, "the label is not in [0, 4)"),
    "background": (GOOD, 0, "the label is the background's"),
}


def tensors(*items):
    boxes = torch.tensor([box for box, _ in items], dtype=torch.float32).reshape(-1, 4)
    return boxes, torch.tensor([label for _, label in items], dtype=torch.int64)


@pytest.mark.parametrize("case", FAULTY)
def test_find_faults_names_index_and_values(case):
    box, label, reason = FAULTY[case]
    boxes, labels = tensors((GOOD, 1), (box, label), (GOOD, 3))
    (fault,) = find_faults(boxes, labels, **RULES)
    assert (fault.index, fault.label) == (1, label)
    assert torch.tensor(fault.box).allclose(boxes[1], equal_nan=True)
    assert reason in fault.reason
    assert fault_mask(boxes, labels, **RULES).tolist() == [False, True, False]
    with pytest.raises(GroundTruthError, match=r"photo\.jpg: ground truth 1 \[") as raised:
        apply_policy(boxes, labels, "raise", "photo.jpg", **RULES)
    assert fault.reason in str(raised.value) and f"label {label}" in str(raised.value)


def test_find_faults_accepts_sound_boxes():
    edges = ((0, 0, 200, 100), (-1, -1, 201, 101), (199, 99, 200.9, 100.9))  # within a pixel
    boxes, labels = tensors(*((box, 3) for box in edges))
    assert find_faults(boxes, labels, **RULES) == []
    assert find_faults(*tensors(), **RULES) == []
    assert len(find_faults(boxes, labels, **RULES, slack=0.5)) == 2
    assert find_faults(*tensors(((-50, -50, 500, 500), 99))) == []  # without an image and a number of classes
    assert len(find_faults(*tensors((GOOD, -1)))) == 1


def test_drop_keeps_other_boxes_unchanged():
    boxes, labels = tensors((GOOD, 1), ((5, 5, 5, 9), 1), ((-0.5, 0, 9, 9), 2), ((-9, 0, 9, 9), 2))
    kept, keep, faults = apply_policy(boxes, labels, "drop", "x", **RULES)
    assert keep.tolist() == [0, 2] and torch.equal(kept, boxes[[0, 2]])
    assert [fault.index for fault in faults] == [1, 3]


def test_clip_keeps_boxes_partly_in_image():
    boxes, labels = tensors(
        ((-9, -9, 9, 9), 1),
        ((-9, 0, -3, 9), 1),
        ((150, 50, 999, 999), 2),
        ((-9, 0, 9, 9), 7),
        ((-0.5, 0, 9, 9), 2),
        ((5, 5, math.inf, 9), 2),
    )
    kept, keep, faults = apply_policy(boxes, labels, "clip", "x", **RULES)
    assert keep.tolist() == [0, 2, 4]
    assert kept.tolist() == [[0, 0, 9, 9], [150, 50, 200, 100], [-0.5, 0, 9, 9]]  # the last is within the slack
    assert [fault.index for fault in faults] == [0, 1, 2, 3, 5]
    kept, keep, _ = apply_policy(*tensors((GOOD, 1), ((3, 3, 3, 3), 1)), "clip", "x")  # no size to clip at
    assert keep.tolist() == [0]


def test_unknown_policy_is_refused():
    with pytest.raises(ValueError, match="'raise' or 'drop' or 'clip', got 'ignore'"):
        apply_policy(*tensors((GOOD, 1)), "ignore", "x")


def test_messages_show_first_few_faults():
    faults = [Fault(i, GOOD, 1, "odd") for i in range(8)]
    text = describe(faults, "a.jpg")
    assert text.startswith("a.jpg: ground truth 0 [10, 20, 30, 40] with label 1: odd; ground truth 1")
    assert text.endswith("; and 3 more") and "ground truth 5" not in text
    with pytest.warns(GroundTruthWarning, match=r"a\.jpg: .* \(left out\)"):
        warn(faults, "a.jpg", "left out")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn([], "a.jpg", "left out")
