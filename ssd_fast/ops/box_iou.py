"""box_iou: the intersection over union of every pair of boxes from two sets."""

from __future__ import annotations

from typing import Any

import torch

from .. import _backend, arrays
from ..arrays import Array
from ._arguments import call
from ._fakes import check_fake
from ._library import register


def box_iou(boxes1: Array, boxes2: Array) -> Array:
    """Compute the IoU of every box of one set with every box of another, like torchvision.ops.box_iou.

    Args:
        boxes1: [n, 4] xyxy, float32 or float64: a torch tensor, or a NumPy, CuPy or Numba device array.
        boxes2: [m, 4] xyxy, of the same dtype and device.

    Returns:
        [n, m] of the boxes' dtype; 0 where the IoU is undefined: degenerate, NaN and overflowing boxes (torchvision
            gives NaN there).

    Ties:
        None.

    Grad:
        None.

    Syncs:
        Never.

    Raises:
        ValueError: wrong shape or device.
        TypeError: wrong dtype (convert with .float()), or not an array.
        RuntimeError: forward-mode differentiation.

    Source:
        Everingham et al. 2010 (PASCAL VOC).

    Specification:
        ssd_fast.reference.box_iou

    Examples:
        >>> import ssd_fast, torch
        >>> box = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
        >>> others = torch.tensor([[0.0, 0.0, 2.0, 2.0], [1.0, 0.0, 3.0, 2.0], [5.0, 5.0, 6.0, 6.0]])
        >>> ssd_fast.box_iou(box, others)
        tensor([[1.0000, 0.3333, 0.0000]])
    """
    return call(_op, {"boxes1": boxes1, "boxes2": boxes2})


def _box_iou(boxes1: Any, boxes2: Any) -> Any:
    boxes1 = arrays.contiguous(boxes1, "box_iou", "boxes1", arrays.BOX_BYTES)
    boxes2 = arrays.contiguous(boxes2, "box_iou", "boxes2", arrays.BOX_BYTES)
    dtype = "float64" if arrays.dtype_name(boxes1) == "float64" else "float32"
    shape = arrays.dimension(boxes1, 0), arrays.dimension(boxes2, 0)
    out = arrays.empty(shape, dtype, boxes1, "box_iou")
    _backend.C.box_iou(boxes1, boxes2, out)
    return out


def _fake(boxes1: torch.Tensor, boxes2: torch.Tensor) -> torch.Tensor:
    check_fake("box_iou", "boxes1", boxes1, (None, 4), (torch.float32, torch.float64), boxes1)
    check_fake("box_iou", "boxes2", boxes2, (None, 4), (boxes1.dtype,), boxes1)
    return boxes1.new_empty(boxes1.shape[0], boxes2.shape[0])


_op = register("box_iou(Tensor boxes1, Tensor boxes2) -> Tensor", _box_iou, _fake)
