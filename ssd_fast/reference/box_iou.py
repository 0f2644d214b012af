"""Intersection over union, as defined."""

from __future__ import annotations

import torch
from torch import Tensor


def box_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """IoU of every box of boxes1 [n, 4] with every box of boxes2 [m, 4] (xyxy): [n, m], in the dtype of the boxes.

    0 where it is undefined: degenerate and NaN boxes, and boxes so large that an area overflows, touch nothing.
    """
    ax1, ay1, ax2, ay2 = boxes1[:, None].unbind(-1)  # [n, 1]
    bx1, by1, bx2, by2 = boxes2[None].unbind(-1)  # [1, m]
    area_a = (ax2 - ax1) * (ay2 - ay1)
    area_b = (bx2 - bx1) * (by2 - by1)
    width = (torch.minimum(ax2, bx2) - torch.maximum(ax1, bx1)).clamp(min=0)
    height = (torch.minimum(ay2, by2) - torch.maximum(ay1, by1)).clamp(min=0)
    intersection = width * height
    union = (area_a + area_b) - intersection
    quotient = intersection / union
    return torch.where(quotient > 0, quotient, torch.zeros_like(quotient))
