"""A failed allocation raises the error of the array's library, with the op and the number of bytes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
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


def test_failed_allocation_on_cpu_names_op_and_bytes():
    """The process may use 48 MB more than its inputs: enough for the outputs, not for what the ops keep beside them."""
    script = """
        import json, resource
        import torch
        from ssd_fast import BoxCoderSpec, LossSpec, MatcherSpec, PostprocessSpec
        from ssd_fast import box_iou, match, multibox_loss, postprocess
        torch.set_num_threads(1)
        P, CODER, SPEC = 4_000_000, BoxCoderSpec(), PostprocessSpec(score_threshold=1e-6, top_k=9, top_k_scope="image")
        boxes, logits, deltas = torch.rand(P, 4), torch.rand(1, P, 3), torch.rand(1, P, 4)
        matched, truth, labels = torch.zeros(4, P // 4, dtype=torch.int64), [boxes[:2]], [torch.tensor([1, 1])]
        images = logits.view(4, -1, 3), deltas.view(4, -1, 4)
        calls = {
            "box_iou": lambda n: box_iou(boxes[:1], boxes[:n]),
            "match": lambda n: match(truth, boxes[:n], MatcherSpec()),
            "multibox_loss": lambda n: multibox_loss(
                *(x[:, : n // 4] for x in images), truth * 4, labels * 4, matched[:, : n // 4], boxes[: n // 4],
                coder=CODER, loss=LossSpec()
            )["classification"],
            "postprocess": lambda n: postprocess(logits[:, :n], deltas[:, :n], boxes[:n], SPEC, coder=CODER).scores,
        }
        seen = {}
        for name, call in calls.items():
            expected = call(50)
            used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + 48_000_000, resource.RLIM_INFINITY))
            try:
                call(P)
            except MemoryError as error:
                seen[name] = str(error)
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            assert torch.equal(call(50), expected)
        print(json.dumps(seen))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        # Every large array has memory of its own, which it gives back.
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "MALLOC_MMAP_THRESHOLD_": "65536"},
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    # Tiles have 81 floats per 4 default boxes.
    assert seen.pop("box_iou") == "box_iou: expected 80000000 bytes of memory, got none"
    assert seen.pop("match") == "match: expected 81000000 bytes of memory, got none"
    assert seen.pop("multibox_loss") == "multibox_loss: expected 16000000 bytes of memory, got none"
    assert re.fullmatch(r"postprocess: expected [1-9][0-9]{7} bytes of memory, got none", seen.pop("postprocess"))
    assert seen == {}
