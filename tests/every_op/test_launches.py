"""Launches of kernels: prepared once, in any thread and within captures, and awaited with SSD_FAST_SYNC=1."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import ssd_fast
from helpers import inputs
from helpers.first_calls import CASES, cases, use_torch
from helpers.paths import TESTS
from ssd_fast import BoxCoderSpec, PostprocessSpec


def start(arguments: Sequence[str | Path], **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a new process, in which no kernel has run."""
    path = os.pathsep.join((str(TESTS), *sys.path))
    inherited = {name: value for name, value in os.environ.items() if name != "SSD_FAST_SYNC"}
    settings = inherited | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"} | environment
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=settings, timeout=600)


def test_first_calls_work_in_emulated_capture(emulated):
    """The emulator, too, forbids loading a kernel in a capture, unless the thread's capture mode is relaxed."""
    done = start([TESTS / "helpers" / "first_calls.py", "emulated", *CASES])
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines() == list(CASES)


class Calls(TorchDispatchMode):
    """Records the torch functions that run, and the dtypes of their tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[str, ...]] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        dtypes = [str(x.dtype) for x in args if isinstance(x, torch.Tensor)]
        if str(function).startswith("aten.") and function is not torch.ops.aten.detach.default:  # it runs nothing
            self.seen.add((str(function), *dtypes))
        return function(*args, **(kwargs or {}))


def test_ops_call_no_torch_function_first_in_capture():
    with Calls() as before:
        use_torch("cpu")
    for name, (call, named) in cases("cpu").items():
        if "nms" not in name or "padded" in name:  # nms and batched_nms read and trim, outside of the capture
            with Calls() as within:
                call(*named.values())
            assert within.seen <= before.seen, name


@pytest.mark.parametrize("loading", ["LAZY", "EAGER"])
def test_first_calls_work_in_capture(cuda, loading):
    """Each op is called in its own process, several at a time."""

    def first_call(name: str) -> str:
        done = start([TESTS / "helpers" / "first_calls.py", "cuda", name], CUDA_MODULE_LOADING=loading)
        return "" if done.stdout == f"{name}\n" else f"{name}: status {done.returncode}: {done.stderr[-1500:]}"

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        failures = [failure for failure in pool.map(first_call, CASES) if failure]
    assert failures == []


def test_threads_may_need_different_shared_memory(cuda):
    """No call may change the limit of another.

    95 classes need 48,640 bytes per block beside the kernel's own 1,024, which is more than a kernel gets without
    asking; 81 classes need 41,472.
    """
    default_boxes = inputs.boxes(1, 300).to(cuda)
    call = {"spec": PostprocessSpec(), "coder": BoxCoderSpec()}
    wrong: dict[int, torch.Tensor] = {}

    def work(classes: int) -> None:
        generator = torch.Generator().manual_seed(classes)
        logits = torch.randn(1, 300, classes, generator=generator).to(cuda)
        deltas = torch.randn(1, 300, 4, generator=generator).to(cuda)
        with torch.cuda.stream(torch.cuda.Stream()):
            expected = ssd_fast.postprocess(*(x.cpu() for x in (logits, deltas, default_boxes)), **call)
            expected = [part.to(cuda) for part in expected]
            differing = torch.zeros((), dtype=torch.int64, device=cuda)
            for _ in range(3000):
                found = ssd_fast.postprocess(logits, deltas, default_boxes, **call)
                differing += sum((ours != theirs).sum() for ours, theirs in zip(found, expected, strict=True))
            wrong[classes] = differing.cpu()

    torch.cuda.synchronize()
    threads = [threading.Thread(target=work, args=(classes,)) for classes in (95, 81)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {classes: int(count) for classes, count in wrong.items()} == {95: 0, 81: 0}


COUNT_WAITS = """
import torch
from helpers.op_calls import make_cases
from helpers.unaligned_calls import use_backend
use_backend("emulated")
from ssd_fast import _backend
emulator = _backend.C.emulator
call, named = make_cases()["match"]
call(*named.values())
calls = emulator.calls()
print(calls["launch on device 0"] + calls["cudaMemsetAsync"], calls.get("cudaStreamSynchronize", 0))
emulator.set_capturing(True)
call(*named.values())
print(emulator.calls().get("cudaStreamSynchronize", 0) - calls.get("cudaStreamSynchronize", 0))
emulator.set_capturing(True, stream=1)  # not the stream of the tensors
call(*named.values())
print(emulator.calls().get("cudaStreamSynchronize", 0) - calls.get("cudaStreamSynchronize", 0))
"""


@pytest.mark.parametrize("setting", [None, "0", "1"])
def test_launches_are_awaited_on_request(emulated, setting):
    """Only SSD_FAST_SYNC=1 makes calls wait, for launches and memsets, but not for captured ones."""
    environment = {} if setting is None else {"SSD_FAST_SYNC": setting}
    done = start(["-c", COUNT_WAITS], **environment)
    assert done.returncode == 0, done.stderr[-2000:]
    started, waits, waits_in_capture, waits_beside_capture = map(int, done.stdout.split())
    assert started >= 3
    assert waits == waits_beside_capture == (started if setting == "1" else 0) and waits_in_capture == 0


READ_OUT_OF_BOUNDS = """
import torch
from ssd_fast import _backend

class Pretender:
    def __init__(self, tensor, shape):
        interface = dict(tensor.__cuda_array_interface__)
        self.__cuda_array_interface__ = interface | {"shape": shape, "strides": None}

n = 2**28  # 4 GiB of boxes
boxes, out = torch.rand(4, 4, device="cuda"), torch.empty(n, 1, device="cuda")
torch.cuda.synchronize()
try:
    _backend.C.box_iou(Pretender(boxes, (n, 4)), Pretender(boxes, (1, 4)), Pretender(out, (n, 1)))
except RuntimeError as error:
    print(error, flush=True)
"""


def test_awaited_illegal_access_names_kernel(cuda):
    done = start(["-c", READ_OUT_OF_BOUNDS], SSD_FAST_SYNC="1")
    assert "box_iou_kernel" in done.stdout and "illegal memory access" in done.stdout, done.stdout + done.stderr
