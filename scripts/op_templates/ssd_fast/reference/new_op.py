"""FILL IN: the areas of boxes, which stand in for the op's definition."""

from __future__ import annotations

from torch import Tensor


def new_op(boxes: Tensor) -> Tensor:
    """FILL IN: the area of every box of boxes [n, 4] (xyxy): [n]."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return (x2 - x1) * (y2 - y1)
