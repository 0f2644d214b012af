"""new_op: FILL IN: the area of every box, which stands in for the op."""

from __future__ import annotations

from typing import Any

import torch

from .. import _backend, arrays
from ..arrays import Array
from ._arguments import call
from ._fakes import check_fake
from ._library import register


def new_op(boxes: Array) -> Array:
    """Compute FILL IN: the area of every box.

    Args:
        boxes: [n, 4] xyxy, float32: a torch tensor, or a NumPy, CuPy or Numba device array.

    Returns:
        [n] float32.

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
        FILL IN: the paper or the code that defines the op.

    Specification:
        ssd_fast.reference.new_op

    Examples:
        >>> import ssd_fast, torch
        >>> ssd_fast.new_op(torch.tensor([[0.0, 0.0, 2.0, 3.0], [1.0, 1.0, 2.0, 2.0]]))
        tensor([6., 1.])
    """
    return call(_op, {"boxes": boxes})


def _new_op(boxes: Any) -> Any:
    boxes = arrays.contiguous(boxes, "new_op", "boxes", arrays.BOX_BYTES)
    out = arrays.empty((arrays.dimension(boxes, 0),), "float32", boxes, "new_op")
    _backend.C.new_op(boxes, out)
    return out


def _fake(boxes: torch.Tensor) -> torch.Tensor:
    check_fake("new_op", "boxes", boxes, (None, 4), (torch.float32,), boxes)
    return boxes.new_empty(boxes.shape[0])


_op = register("new_op(Tensor boxes) -> Tensor", _new_op, _fake)
