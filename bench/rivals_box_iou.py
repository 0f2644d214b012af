"""Rivals of box_iou."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from rivals import absent, as_numpy, compiled, cupy, from_torchvision, numba, torchvision
from timing import Implementation
from torch import Tensor

from ssd_fast import reference


def box_iou(device: torch.device) -> list[Implementation]:
    cuda = device.type == "cuda"
    rivals = [
        from_torchvision(lambda: Implementation("torchvision", torchvision.ops.box_iou, capturable=cuda)),
        Implementation("eager torch", reference.box_iou, capturable=cuda),
        compiled("torch.compile", reference.box_iou, device),
    ]
    if numba is None:
        rivals.append(absent("numba"))
    elif cuda:
        rivals.append(Implementation("numba", _numba_cuda_iou))
    else:
        rivals.append(Implementation("numba", _numba_iou(), as_numpy))
    if not cuda:
        rivals.append(absent("cupy", "needs a GPU"))
    elif cupy is None:
        rivals.append(absent("cupy"))
    else:
        rivals.append(Implementation("cupy", _cupy_iou, lambda *boxes: tuple(map(cupy.asarray, boxes))))
    return rivals


@functools.cache
def _numba_iou() -> Callable[..., Any]:
    import numpy as np

    @numba.njit(parallel=True)  # type: ignore[union-attr]
    def iou(a: Any, b: Any) -> Any:
        out = np.empty((a.shape[0], b.shape[0]), np.float32)
        for i in numba.prange(a.shape[0]):  # type: ignore[union-attr]
            area = (a[i, 2] - a[i, 0]) * (a[i, 3] - a[i, 1])
            for j in range(b.shape[0]):
                w = max(min(a[i, 2], b[j, 2]) - max(a[i, 0], b[j, 0]), np.float32(0))
                h = max(min(a[i, 3], b[j, 3]) - max(a[i, 1], b[j, 1]), np.float32(0))
                other = (b[j, 2] - b[j, 0]) * (b[j, 3] - b[j, 1])
                out[i, j] = w * h / (area + other - w * h)
        return out

    return iou


@functools.cache
def _numba_cuda_kernel() -> Any:
    from numba import cuda

    @cuda.jit
    def kernel(a: Any, b: Any, out: Any) -> None:
        j, i = cuda.grid(2)
        if i < out.shape[0] and j < out.shape[1]:
            w = max(min(a[i, 2], b[j, 2]) - max(a[i, 0], b[j, 0]), 0)
            h = max(min(a[i, 3], b[j, 3]) - max(a[i, 1], b[j, 1]), 0)
            area = (a[i, 2] - a[i, 0]) * (a[i, 3] - a[i, 1])
            other = (b[j, 2] - b[j, 0]) * (b[j, 3] - b[j, 1])
            out[i, j] = w * h / (area + other - w * h)

    return kernel


def _numba_cuda_iou(a: Tensor, b: Tensor) -> Tensor:
    from numba import cuda

    out = torch.empty(len(a), len(b), device=a.device)
    grid = (-(-len(b) // 32), -(-len(a) // 8))
    stream = cuda.external_stream(torch.cuda.current_stream().cuda_stream)
    _numba_cuda_kernel()[grid, (32, 8), stream](*map(cuda.as_cuda_array, (a, b, out)))
    return out


def _cupy_iou(a: Any, b: Any) -> Any:
    with cupy.cuda.ExternalStream(torch.cuda.current_stream().cuda_stream):  # type: ignore[union-attr]
        corner = cupy.minimum(a[:, None, 2:], b[None, :, 2:]) - cupy.maximum(a[:, None, :2], b[None, :, :2])  # type: ignore[union-attr]
        intersection = cupy.maximum(corner, 0).prod(-1)  # type: ignore[union-attr]
        area_a, area_b = (x[:, 2:] - x[:, :2] for x in (a, b))
        return intersection / (area_a.prod(-1)[:, None] + area_b.prod(-1)[None] - intersection)
