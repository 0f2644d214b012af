"""Rivals where installed: torchvision, plain and compiled torch, Numba, CuPy, OpenCV and ONNX Runtime."""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import machine
import torch
from timing import QUICK, Implementation
from torch import Tensor

COMPILE = os.environ.get("SSD_FAST_BENCH_COMPILE", "0" if QUICK else "1")  # 0: none, 1: all, only: no other rivals


def module(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except (ImportError, OSError):
        return None


torchvision: Any = module("torchvision")
numba: Any = module("numba")
cupy: Any = module("cupy")
cv2: Any = module("cv2")
onnx: Any = module("onnx")
onnxruntime: Any = module("onnxruntime")


def absent(name: str, why: str | None = None) -> Implementation:
    return Implementation(name, absent=why or "not installed")


def from_torchvision(run: Callable[[], Implementation]) -> Implementation:
    return run() if torchvision is not None else absent("torchvision")


def compiled(name: str, function: Callable[..., Any], device: torch.device, **options: Any) -> Implementation:
    """torch.compile of a plain torch function, for the shapes at hand."""
    if COMPILE == "0":
        return absent(name, "left out: compiling takes long (quick run, or SSD_FAST_BENCH_COMPILE=0)")
    torch.compiler.reset()
    run = torch.compile(function, dynamic=False)
    return Implementation(name, run, capturable=device.type == "cuda", compiled=True, **options)


def as_numpy(*tensors: Tensor) -> tuple[Any, ...]:
    return tuple(tensor.numpy() for tensor in tensors)


def choose(rivals: Sequence[Implementation], free_memory: int) -> list[Implementation]:
    """The rivals; those that are not to be timed here say why.

    free_memory: bytes that a call may take.
    """
    return [
        rival if rival.absent or (why := _unfit(rival, free_memory)) is None else absent(rival.name, why)
        for rival in rivals
    ]


def _unfit(rival: Implementation, free_memory: int) -> str | None:
    if COMPILE == "only" and not rival.compiled:
        return "left out: torch.compile alone (SSD_FAST_BENCH_COMPILE=only)"
    if rival.memory > free_memory:
        return f"takes about {rival.memory / 2**30:.1f} GiB, of {free_memory / 2**30:.1f} GiB that are free"
    return None


def free_memory(device: torch.device) -> int:
    """Bytes that can still be allocated."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    found = re.search(r"MemAvailable:\s*(\d+)", machine.read("/proc/meminfo"))
    return int(found[1]) << 10 if found else sys.maxsize
