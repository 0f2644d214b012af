"""No op reads memory that it has not written or leaves a part of its outputs unwritten."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import ssd_fast
from helpers.filling import filled
from helpers.op_calls import Case, make_cases
from helpers.unaligned_calls import as_bytes
from ssd_fast import _backend, arrays

DEFAULT_BOXES = ssd_fast.preset("torchvision_ssd300_vgg16").default_boxes
SWITCH = "SSD_FAST_TEST_FILL"  # read by conftest.py


def depends_on_fresh_memory(case: Case, to: Any) -> bool:
    call, named = case
    results = []
    for byte in (0x00, 0xFF, 0xCD):
        with filled(byte):
            results.append(as_bytes(call(*(to(tensor) for tensor in named.values()))))
    return results.count(results[0]) != 3


def test_ops_do_not_depend_on_fresh_memory(backend):
    cases = make_cases() | {"default_boxes": (lambda: ssd_fast.default_boxes(DEFAULT_BOXES, device=backend.device), {})}
    assert [name for name, case in cases.items() if depends_on_fresh_memory(case, backend.to)] == []


@pytest.mark.parametrize("library", ["torch", "numpy"])
def test_unwritten_output_is_found(monkeypatch, library):
    box_iou, nms, nms_workspace = _backend.C.box_iou, _backend.C.nms, _backend.C.nms_workspace
    extension = SimpleNamespace(
        box_iou=lambda boxes1, boxes2, out: box_iou(boxes1[:-1], boxes2, out[:-1]), nms=nms, nms_workspace=nms_workspace
    )
    monkeypatch.setattr(_backend, "C", extension)
    cases, to = make_cases(), (lambda tensor: tensor.numpy() if library == "numpy" else tensor)
    assert depends_on_fresh_memory(cases["box_iou float32"], to)
    assert not depends_on_fresh_memory(cases["nms float32"], to)


def test_filled_sets_every_byte_of_every_dtype():
    before = arrays.empty
    with filled(0xA5):
        for dtype in ("float32", "float16", "bfloat16", "int64", "uint8", "bool"):
            (memory,) = as_bytes(arrays.empty((2, 3), dtype, like=torch.empty(0), op="nms"))
            assert set(memory) == {0xA5} and len(memory) == 6 * getattr(torch, dtype).itemsize
        assert arrays.empty((), "uint8", like=torch.empty(0), op="nms").item() == 0xA5
        assert arrays.empty((2, 0), "float32", like=np.empty(0), op="nms").shape == (2, 0)
        assert arrays.empty((2, 3), "uint8", like=np.empty(0), op="nms").tolist() == [[0xA5] * 3] * 2
    assert arrays.empty is before


def test_environment_variable_fills_memory_in_test_run():
    if byte := os.environ.get(SWITCH):
        assert arrays.empty((3,), "uint8", like=np.empty(0), op="nms").tolist() == [int(byte, 0)] * 3
        return
    command = [sys.executable, "-m", "pytest", "-q", f"{__file__}::test_environment_variable_fills_memory_in_test_run"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {SWITCH: "0x5A"})
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout
