"""What others offer for the same: torchvision, plain and compiled torch, Numba, CuPy, OpenCV, if they are here."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from timing import QUICK, Implementation
from torch import Tensor


def module(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except (ImportError, OSError):
        return None


torchvision: Any = module("torchvision")
numba: Any = module("numba")
cupy: Any = module("cupy")
cv2: Any = module("cv2")


def absent(name: str, why: str | None = None) -> Implementation:
    return Implementation(name, absent=why or "not installed")


def from_torchvision(run: Callable[[], Implementation]) -> Implementation:
    return run() if torchvision is not None else absent("torchvision")


def compiled(name: str, function: Callable[..., Any], device: torch.device, **options: Any) -> Implementation:
    """torch.compile of a plain torch function, for the shapes at hand."""
    if QUICK or os.environ.get("SSD_FAST_BENCH_COMPILE", "1") == "0":
        return absent(name, "left out: compiling takes long (quick run, or SSD_FAST_BENCH_COMPILE=0)")
    torch.compiler.reset()
    return Implementation(name, torch.compile(function, dynamic=False), capturable=device.type == "cuda", **options)


def as_numpy(*tensors: Tensor) -> tuple[Any, ...]:
    return tuple(tensor.numpy() for tensor in tensors)
