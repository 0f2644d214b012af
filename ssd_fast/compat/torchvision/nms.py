"""Run torchvision's nms and batched_nms on this package's kernels, where these keep the same boxes."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ... import _backend
from ...ops import batched_nms, nms
from ...ops._direct import are_plain, is_traced

__all__ = ["KEY", "dispatched_nms", "exact_batched_nms"]

# The dispatcher comes here below autograd, autocast and tracing, and above every device's own kernel. torchvision
# registers nothing here, so nothing is overridden, and its kernels stay within reach.
KEY = "BackendSelect"


def dispatched_nms(keyset: Any, dets: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Compute torchvision::nms here, or hand it over to torchvision's kernel for the device.

    Args:
        keyset: the dispatch keys of this call.
        dets: the boxes; named as in torchvision's schema.
        scores: their scores.
        iou_threshold: as for torchvision.ops.nms.
    """
    if _is_served(dets, scores, iou_threshold):
        return nms(dets, scores, _compared(iou_threshold, dets.dtype, dets.device.type))
    below = keyset.remove(getattr(torch._C.DispatchKey, KEY))
    return torch.ops.torchvision.nms.default.redispatch(below, dets, scores, iou_threshold)


def exact_batched_nms(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Make the function that stands in for one of the two that torchvision.ops.batched_nms chooses from.

    torch.jit.script and torch.compile look at the attributes that `wraps` copies, and compile torchvision's own.
    """

    @functools.wraps(original)
    def stand_in(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
        if is_traced() or not _are_classes(idxs, boxes) or not _is_served(boxes, scores, iou_threshold):
            return original(boxes, scores, idxs, iou_threshold)
        threshold = _compared(iou_threshold, boxes.dtype, boxes.device.type)
        return batched_nms(boxes, scores, idxs.to(torch.int64), threshold)

    return stand_in


def _is_served(boxes: Tensor, scores: Tensor, iou_threshold: float) -> bool:
    """Return whether our kernels take these arguments, and torchvision's mean the same by them.

    A NaN score is the best of all to torchvision; here it would be no candidate.
    """
    return (
        are_plain((boxes, scores), boxes.device, differentiable=False)
        and boxes.dtype in (torch.float32, torch.float64)
        and boxes.dtype == scores.dtype
        and boxes.ndim == 2
        and boxes.shape[1] == 4
        and scores.shape == boxes.shape[:1]
        and 0 < len(scores) < 2**31
        and isinstance(iou_threshold, (int, float))
        and 0 <= iou_threshold <= 1
        and (boxes.device.type == "cpu" or _has_cuda_kernels())
        and not math.isnan(scores.detach().max())
    )


def _are_classes(idxs: Tensor, boxes: Tensor) -> bool:
    """Return whether these are whole numbers, one for each box."""
    return (
        are_plain((idxs,), boxes.device, differentiable=False)
        and idxs.shape == boxes.shape[:1]
        and not idxs.is_floating_point()
        and not idxs.is_complex()
    )


@functools.cache
def _has_cuda_kernels() -> bool:
    return _backend.cuda_status().startswith("available")


@functools.lru_cache(maxsize=64)
def _compared(threshold: float, dtype: torch.dtype, device: str) -> float:
    """Return the number of the boxes' dtype that divides the IoUs as torchvision's comparison does.

    Its CPU kernel compares with a double: a float exceeds it if it exceeds the next float at or below it. Its CUDA
    kernel rounds the threshold to float32, also for float64 boxes.
    """
    if device == "cpu" and dtype == torch.float64:
        return float(threshold)
    nearest = float(np.float32(threshold))
    if device != "cpu" or nearest <= threshold:
        return nearest
    return float(np.nextafter(np.float32(nearest), np.float32(0)))
