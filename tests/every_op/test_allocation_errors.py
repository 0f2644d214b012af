"""A failed allocation raises the error of the array's library, with the op and the number of bytes."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import ssd_fast
from helpers.op_calls import make_cases
from helpers.unaligned_calls import moved_tensor
from ssd_fast.arrays import allocation_error

CASES = make_cases()
OUT_OF_MEMORY = getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError)


class Failing:
    """An allocator that fails at one of its calls."""

    def __init__(self, allocate: Any, error: Exception, at: int) -> None:
        self.allocate, self.error, self.at, self.calls = allocate, error, at, 0

    def __call__(self, *args: Any, **options: Any) -> Any:
        self.calls += 1
        if self.calls == self.at:
            raise self.error
        return self.allocate(*args, **options)


@pytest.mark.parametrize("kind", [OUT_OF_MEMORY, RuntimeError, MemoryError])
@pytest.mark.parametrize("case", CASES)
def test_each_failed_allocation_raises_error_of_library(case, kind, backend, monkeypatch):
    call, named = CASES[case]
    tensors = [backend.to(tensor) for tensor in named.values()]
    failures = 0
    for at in range(1, 20):
        with monkeypatch.context() as patch:
            failing = Failing(torch.empty, kind("no memory"), at)
            patch.setattr(torch, "empty", failing)
            try:
                call(*tensors)
            except kind as error:
                assert type(error) is kind
                assert re.fullmatch(rf"{case.split()[0]}: expected \d+ bytes of memory, got no memory", str(error))
                failures += 1
            else:
                assert failing.calls < at
                break
    assert failures >= 1


def test_failed_numpy_allocation_names_bytes(monkeypatch):
    boxes = np.zeros((5, 4), np.float32)
    failing = Failing(np.empty, np._core._exceptions._ArrayMemoryError((5, 5), np.dtype("f4")), 1)
    monkeypatch.setattr(np, "empty", failing)
    with pytest.raises(MemoryError, match=r"^box_iou: expected 100 bytes of memory, got Unable to allocate") as caught:
        ssd_fast.box_iou(boxes, boxes)
    assert isinstance(caught.value.__cause__, MemoryError)


def test_failed_copy_names_bytes(monkeypatch):
    boxes = torch.rand(5, 4)
    monkeypatch.setattr(torch.Tensor, "clone", Failing(None, OUT_OF_MEMORY("no memory"), 1))
    with pytest.raises(OUT_OF_MEMORY, match=r"^nms: expected 80 bytes of memory, got no memory$"):
        ssd_fast.nms(moved_tensor(boxes, 1), torch.rand(5), 0.5)


def test_allocation_error_keeps_attributes_of_library_error():
    class CupyError(MemoryError):
        def __init__(self, size: int, total: int) -> None:
            super().__init__(f"Out of memory allocating {size} bytes (allocated so far: {total} bytes).")
            self.size = size

    again = allocation_error("nms", CupyError(7, 8), 7)
    assert type(again) is CupyError and again.size == 7
    assert str(again).startswith("nms: expected 7 bytes of memory, got Out of memory allocating 7 bytes")


def test_failed_allocation_in_kernel_names_op(monkeypatch):
    extension = SimpleNamespace(box_iou=Failing(None, MemoryError("std::bad_alloc"), 1))
    monkeypatch.setattr("ssd_fast._backend.C", extension)
    with pytest.raises(MemoryError, match=r"^box_iou: expected more memory, got std::bad_alloc$"):
        ssd_fast.box_iou(torch.rand(5, 4), torch.rand(5, 4))
