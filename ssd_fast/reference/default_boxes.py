"""Default boxes, as defined."""

from __future__ import annotations

import torch
from torch import Tensor

from ..specs import DefaultBoxSpec


def default_boxes(spec: DefaultBoxSpec, *, device: torch.device | str | None = None) -> Tensor:
    """Make the default boxes of all maps, float32 [P, 4] xyxy, in pixels or, if normalized, in shares of the image."""
    levels = []
    steps = zip(spec.feature_maps, spec.box_sizes, spec.level_steps, strict=True)
    for (rows, columns), sizes, (step_y, step_x) in steps:
        half_w, half_h = (_float32(sizes) * 0.5).unbind(-1)  # [A]
        cx = ((torch.arange(columns, dtype=torch.float32) + _float32(spec.offset)) * _float32(step_x))[None, :, None]
        cy = ((torch.arange(rows, dtype=torch.float32) + _float32(spec.offset)) * _float32(step_y))[:, None, None]
        if spec.clip_centers:
            height, width = spec.image_size
            cx, cy = clip(cx, _float32(width)), clip(cy, _float32(height))
        corners = torch.broadcast_tensors(cx - half_w, cy - half_h, cx + half_w, cy + half_h)
        boxes = torch.stack(corners, -1)  # [rows, columns, A, 4]
        if spec.row_order == "AHW":
            boxes = boxes.permute(2, 0, 1, 3)
        levels.append(boxes.reshape(-1, 4))
    boxes = torch.cat(levels)

    if spec.normalized:
        height, width = spec.image_size
        boxes = boxes / _float32((width, height, width, height))
    if spec.clip:
        height, width = spec.extent
        boxes = clip(boxes, _float32((width, height, width, height)))
    return boxes.to(device)


def clip(boxes: Tensor, far: Tensor) -> Tensor:
    """Clamp between 0 and far, for corners (w, h, w, h); NaN stays NaN."""
    return torch.where(boxes < 0, 0, torch.where(boxes > far, far, boxes))


def _float32(value: object) -> Tensor:
    return torch.tensor(value, dtype=torch.float32)
