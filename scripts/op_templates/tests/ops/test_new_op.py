"""new_op: bit-equal to the reference on every backend."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ssd_fast
from helpers import inputs
from helpers.checks import assert_numpy_agrees, assert_same_bits, assert_well_registered, specified, unmodified


def check(backend, boxes):
    expected = specified("new_op", boxes)
    boxes = backend.to(boxes)
    with unmodified(boxes):
        actual = ssd_fast.new_op(boxes)
    assert actual.device == boxes.device
    assert_same_bits(actual, expected)


def test_by_hand(backend):
    boxes = torch.tensor([[0.0, 0, 10, 10], [5, 5, 5, 5], [1, 2, 4, 3]])
    expected = torch.tensor([100.0, 0, 3])  # FILL IN: worked out by hand
    assert_same_bits(ssd_fast.new_op(backend.to(boxes)), expected)


@pytest.mark.parametrize("n", inputs.BORDER_SIZES)
def test_sizes(backend, n):
    check(backend, inputs.boxes(n, n))


def test_strange_boxes(backend):
    check(backend, torch.tensor(inputs.STRANGE_BOXES))


@given(seed=st.integers(0, 2**31), n=st.integers(0, 300))
def test_random(backend, seed, n):
    make = (inputs.boxes, inputs.grid_boxes, inputs.strange_boxes)[seed % 3]
    check(backend, make(seed, n))


def test_noncontiguous(backend):
    boxes = backend.to(inputs.boxes(1, 33))
    strided = inputs.noncontiguous(boxes)
    assert not strided.is_contiguous()
    with unmodified(strided):
        assert_same_bits(ssd_fast.new_op(strided), ssd_fast.new_op(boxes))


def test_numpy(backend):
    if backend.name != "cuda":
        assert_numpy_agrees(ssd_fast.new_op, inputs.boxes(1, 33))


def test_registered(backend):
    assert_well_registered(ssd_fast.new_op, backend.to(inputs.boxes(1, 9)))


def test_has_no_gradient(backend):
    boxes = backend.to(inputs.boxes(1, 9)).requires_grad_()
    assert not ssd_fast.new_op(boxes).requires_grad


GOOD = torch.zeros(3, 4)


@pytest.mark.parametrize(
    "boxes, error, message",
    [
        (torch.zeros(3, 5), ValueError, r"new_op: boxes: expected shape \[any, 4\], got \[3, 5\]"),
        (torch.zeros(4), ValueError, r"new_op: boxes: expected shape \[any, 4\], got \[4\]"),
        (GOOD.double(), TypeError, "new_op: boxes: expected float32, got float64 .*convert"),
        (GOOD.long(), TypeError, "new_op: boxes: expected float32, got int64 .*convert"),
        ([[0.0] * 4], TypeError, "new_op: boxes: expected a torch tensor, or a NumPy.* array, got list"),
    ],
)
def test_rejected(backend, boxes, error, message):
    with pytest.raises(error, match=message):
        ssd_fast.new_op(boxes if isinstance(boxes, list) else backend.to(boxes))
