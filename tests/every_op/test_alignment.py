"""Arrays at any address give the same bits as a copy, without a load that is misaligned for their elements."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

import ssd_fast
from helpers.op_calls import make_boxes, make_cases
from helpers.paths import TESTS
from helpers.unaligned_calls import moved_array, moved_tensor, packed_field
from ssd_fast import _backend

PROGRAM = TESTS / "helpers" / "unaligned_calls.py"


@pytest.mark.parametrize("name", ["cpu", "emulated", "cuda"])
def test_every_op_takes_arrays_at_any_address(name, request):
    if name != "cpu":
        request.getfixturevalue(name)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(TESTS), *sys.path)), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, PROGRAM, name], capture_output=True, text=True, env=environment, timeout=900)
    assert done.returncode == 0, f"status {done.returncode}\n{done.stdout}\n{done.stderr[-2000:]}"
    for library in ("torch",) if name == "cuda" else ("torch", "numpy"):
        checked = {line.removesuffix(f" {library}") for line in done.stdout.splitlines() if line.endswith(library)}
        assert checked == {case for case in make_cases() if library == "torch" or "bfloat16" not in case}


def test_kernels_refuse_unaligned_arrays(backend):
    """Callers of ssd_fast.ops never see this error, since Python copies such arrays."""
    boxes, out = make_boxes(5), torch.empty(5, 5)
    message = "^box_iou: boxes2: expected memory aligned to 16 bytes, got an unaligned array"
    with pytest.raises(ValueError, match=message):
        _backend.C.box_iou(backend.to(boxes), moved_tensor(backend.to(boxes), 1), backend.to(out))


def test_kernels_refuse_elements_at_odd_addresses():
    boxes, out = make_boxes(5).numpy(), np.empty((5, 5), np.float32)
    for odd in (moved_array(boxes, 1), packed_field(boxes)):
        with pytest.raises(ValueError, match=r"^box_iou: boxes1: expected memory aligned for its elements"):
            _backend.C.box_iou(odd, boxes, out)


class DeviceArray:
    """An array as CuPy and Numba describe it; nothing reads its memory before the checks."""

    def __init__(self, address: int, strides: tuple[int, int]) -> None:
        fields = {"shape": (5, 4), "typestr": "<f4", "data": (address, False), "strides": strides, "version": 3}
        self.__cuda_array_interface__ = fields


@pytest.mark.parametrize(
    ("address", "strides", "expected"),
    [
        (4096, (17, 4), "memory aligned for its elements"),
        (4096, (16, 5), "memory aligned for its elements"),
        (4097, (16, 4), "memory aligned for its elements"),
        (4100, (16, 4), "memory aligned to 16 bytes"),
        (4096, (32, 4), "a contiguous array"),
    ],
)
def test_kernels_refuse_addresses_and_strides_of_cuda_arrays(address, strides, expected):
    """Strides in bytes were once divided by the item size without a check of the remainder."""
    array = DeviceArray(address, strides)
    with pytest.raises(ValueError, match=f"^box_iou: boxes1: expected {expected}, got "):
        _backend.C.box_iou(array, array, array)


def test_aligned_arrays_are_not_copied(monkeypatch):
    def refuse(*_):
        raise AssertionError("copied")

    monkeypatch.setattr(ssd_fast.arrays.allocation, "_copy", refuse)
    for call, named in make_cases().values():
        call(*named.values())
        if not any(tensor.dtype == torch.bfloat16 for tensor in named.values()):
            call(*(tensor.numpy() for tensor in named.values()))


def test_arrays_too_large_to_copy_implicitly_are_refused():
    expanded = torch.rand(1, 4).expand(2**30, 4)
    with pytest.raises(
        ValueError, match=r"^nms: boxes: expected a contiguous, aligned array, .*, got shape \[1073741824"
    ):
        ssd_fast.nms(expanded, torch.rand(1), 0.5)
