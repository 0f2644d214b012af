"""Intersection over union, as defined."""

from __future__ import annotations

import torch
from torch import Tensor


def box_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Compute the IoU of every box of boxes1 [n, 4] with every box of boxes2 [m, 4] (xyxy): [n, m] in the boxes' dtype.

    It is 0 where it is undefined: degenerate and NaN boxes, and boxes so large that an area overflows, touch nothing.

    Examples:
        >>> import torch
        >>> from ssd_fast import reference
        >>> reference.box_iou(torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[1.0, 0.0, 3.0, 2.0]]))
        tensor([[0.3333]])
    """
    shared = _intersection(boxes1, boxes2)
    union = (_area(boxes1)[:, None] + _area(boxes2)[None]) - shared
    return _or_zero(shared / union)


def coverage(boxes: Tensor, others: Tensor) -> Tensor:
    """Compute the share of each box of boxes [n, 4] that each of others [m, 4] covers: [n, m]; 0 where undefined."""
    return _or_zero(_intersection(boxes, others) / _area(boxes)[:, None])


def _area(boxes: Tensor) -> Tensor:
    x1, y1, x2, y2 = boxes.unbind(-1)
    return (x2 - x1) * (y2 - y1)


def _intersection(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    ax1, ay1, ax2, ay2 = boxes1[:, None].unbind(-1)  # [n, 1]
    bx1, by1, bx2, by2 = boxes2[None].unbind(-1)  # [1, m]
    width = (torch.minimum(ax2, bx2) - torch.maximum(ax1, bx1)).clamp(min=0)
    height = (torch.minimum(ay2, by2) - torch.maximum(ay1, by1)).clamp(min=0)
    return width * height


def _or_zero(quotient: Tensor) -> Tensor:
    return torch.where(quotient > 0, quotient, torch.zeros_like(quotient))
