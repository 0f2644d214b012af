"""box_iou equals the reference bit for bit on every backend."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ssd_fast
from helpers import inputs
from helpers.checks import assert_numpy_agrees, assert_same_bits, assert_well_registered, specified, unmodified
from ssd_fast import reference


def check(backend, boxes1, boxes2):
    expected = specified("box_iou", boxes1, boxes2)
    boxes1, boxes2 = backend.to((boxes1, boxes2))
    with unmodified(boxes1, boxes2):
        actual = ssd_fast.box_iou(boxes1, boxes2)
    assert actual.device == boxes1.device
    assert_same_bits(actual, expected)


def test_by_hand(backend):
    a = torch.tensor([[0.0, 0, 10, 10], [5, 5, 5, 5], [10, 10, 0, 0]])
    b = torch.tensor([[0.0, 0, 10, 5], [5, 0, 15, 10], [10, 0, 20, 10], [0, 0, 10, 10]])
    expected = torch.tensor([[0.5, 1 / 3, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]])
    assert_same_bits(ssd_fast.box_iou(backend.to(a), backend.to(b)), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", inputs.BORDER_SIZES)
def test_border_sizes_equal_reference(backend, n, dtype):
    for m in (0, 1, 33, n):
        check(backend, inputs.boxes(n, n).to(dtype), inputs.boxes(m + 7, m).to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_strange_boxes_equal_reference(backend, dtype):
    strange = torch.tensor(inputs.STRANGE_BOXES, dtype=dtype)
    check(backend, strange, strange)


@given(seed=st.integers(0, 2**31), n=st.integers(0, 70), m=st.integers(0, 70), double=st.booleans())
def test_random_boxes_equal_reference(backend, seed, n, m, double):
    make = (inputs.boxes, inputs.grid_boxes, inputs.strange_boxes)[seed % 3]
    dtype = torch.float64 if double else torch.float32
    check(backend, make(seed, n).to(dtype), make(seed + 9, m).to(dtype))


coordinate = st.floats(width=32) | st.sampled_from([0.0, -0.0, 1.0, 10.0, 1e-40, inputs.INF, inputs.NAN, inputs.HUGE])


@given(st.lists(st.tuples(coordinate, coordinate, coordinate, coordinate), max_size=8))
def test_any_floats_equal_reference(backend, rows):
    boxes = torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)
    check(backend, boxes, boxes)


def test_full_size_equals_reference(backend):
    default = reference.default_boxes(ssd_fast.preset("torchvision_ssd300_vgg16").default_boxes)
    check(backend, inputs.boxes(3, 20), default)


def test_noncontiguous_arrays_give_same_ious(backend):
    boxes = backend.to(inputs.boxes(1, 33))
    strided = inputs.noncontiguous(boxes)
    assert not strided.is_contiguous()
    with unmodified(strided):
        assert_same_bits(ssd_fast.box_iou(strided, boxes.T.contiguous().T), ssd_fast.box_iou(boxes, boxes))


def test_numpy_arrays_give_same_ious(backend):
    if backend.name != "cuda":
        assert_numpy_agrees(ssd_fast.box_iou, inputs.boxes(1, 33), inputs.boxes(2, 5))
        assert_numpy_agrees(ssd_fast.box_iou, inputs.boxes(1, 33).double(), inputs.boxes(2, 5).double())


def test_op_is_well_registered(backend):
    assert_well_registered(ssd_fast.box_iou, backend.to(inputs.boxes(1, 9)), backend.to(inputs.boxes(2, 5)))


def test_ious_have_no_gradient(backend):
    boxes = backend.to(inputs.boxes(1, 9)).requires_grad_()
    assert not ssd_fast.box_iou(boxes, boxes).requires_grad


GOOD = torch.zeros(3, 4)


@pytest.mark.parametrize(
    "boxes1, boxes2, error, message",
    [
        (GOOD, torch.zeros(3, 5), ValueError, r"box_iou: boxes2: expected shape \[any, 4\], got \[3, 5\]"),
        (torch.zeros(4), GOOD, ValueError, r"box_iou: boxes1: expected shape \[any, 4\], got \[4\]"),
        (torch.zeros(1, 3, 4), GOOD, ValueError, r"box_iou: boxes1: expected shape \[any, 4\], got \[1, 3, 4\]"),
        (GOOD, GOOD.double(), TypeError, "box_iou: boxes2: expected float32, got float64 .*convert"),
        (GOOD.half(), GOOD.half(), TypeError, "box_iou: boxes1: expected float32 or float64, got float16 .*convert"),
        (GOOD.long(), GOOD, TypeError, "box_iou: boxes1: expected float32 or float64, got int64 .*convert"),
        ([[0.0] * 4], GOOD, TypeError, "box_iou: boxes1: expected a torch tensor, or a NumPy.* array, got list"),
    ],
)
def test_rejected_arguments(backend, boxes1, boxes2, error, message):
    with pytest.raises(error, match=message):
        ssd_fast.box_iou(boxes1 if isinstance(boxes1, list) else backend.to(boxes1), backend.to(boxes2))
