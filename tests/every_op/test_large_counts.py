"""More boxes, problems or outputs than the kernels count are refused before anything is copied or allocated."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import ssd_fast

MANY = 2**31


def too_many_boxes(kind: str) -> Any:
    """Return boxes, scores and classes of more boxes than the ops take, with no memory behind them."""
    if kind == "numpy":
        shapes = ((1, 4), np.float32), ((1,), np.float32), ((1,), np.int64)
        return tuple(np.broadcast_to(np.zeros(*x), (MANY, *x[0][1:])) for x in shapes)
    zeros: Any = torch.zeros(1, 4), torch.zeros(1), torch.zeros(1, dtype=torch.int64)
    if kind == "meta":
        zeros = tuple(x.to("meta") for x in zeros)
    return tuple(x.expand(MANY, *x.shape[1:]) for x in zeros)


@pytest.mark.parametrize("kind", ["torch", "numpy", "meta"])
def test_too_many_boxes_are_refused_before_allocation(kind, monkeypatch):
    def allocate(*_: Any, **__: Any) -> None:
        pytest.fail("an array is copied or allocated")

    boxes, scores, idxs = too_many_boxes(kind)
    one_image = boxes[None], scores[None]
    for place, name in ((torch, "empty"), (torch.Tensor, "clone"), (np, "empty"), (np, "array")):
        monkeypatch.setattr(place, name, allocate)
    message = rf"boxes: expected at most 2147479551 elements, got {MANY}$"
    with pytest.raises(ValueError, match=f"^nms: {message}"):
        ssd_fast.nms(boxes, scores, 0.5)
    with pytest.raises(ValueError, match=f"^batched_nms: {message}"):
        ssd_fast.batched_nms(boxes, scores, idxs, 0.5)
    with pytest.raises(ValueError, match=f"^nms_padded: {message}"):
        ssd_fast.nms_padded(*one_image, 0.5, 10)


@pytest.mark.parametrize("max_output", [0, 2**31 - 1, 2**62])
@pytest.mark.parametrize("kind", ["torch", "numpy"])
def test_max_output_is_checked_before_inputs_are_copied(kind, max_output, monkeypatch):
    def copy(*_: Any, **__: Any) -> None:
        pytest.fail("an array is copied")

    boxes, scores = (x[None, : 2**28] for x in too_many_boxes(kind)[:2])
    for place, name in ((torch.Tensor, "clone"), (np, "array")):
        monkeypatch.setattr(place, name, copy)
    expected = "at least 1" if max_output == 0 else "at most 2147479551 elements"
    with pytest.raises(ValueError, match=rf"^nms_padded: max_output: expected {expected}, got {max_output}$"):
        ssd_fast.nms_padded(boxes, scores, 0.5, max_output)


def test_problems_beyond_32_bits_are_refused_before_allocation(monkeypatch):
    boxes, scores = torch.zeros(1, 1, 4), torch.zeros(1, 1, 1).expand(1, MANY, 1)
    monkeypatch.setattr(torch.Tensor, "clone", lambda *_: pytest.fail("an array is copied"))
    with pytest.raises(ValueError, match=rf"^nms_padded: scores: expected at most 2147479551 elements, got {MANY}$"):
        ssd_fast.nms_padded(boxes, scores, 0.5, 1)
