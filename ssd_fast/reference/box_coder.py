"""The center-size box code, as defined. torch's autograd can differentiate it."""

from __future__ import annotations

import torch
from torch import Tensor

from ..specs import BoxCoderSpec


def encode_boxes(boxes: Tensor, default_boxes: Tensor, coder: BoxCoderSpec) -> Tensor:
    """Encode boxes [..., P, 4] (xyxy) as offsets [..., P, 4] from default_boxes [P, 4], float32."""
    vx, vy, vw, vh = _variances(coder, boxes.device)
    cx, cy, w, h = _center_size(default_boxes)
    target_cx, target_cy, target_w, target_h = _center_size(boxes)
    tx = ((target_cx - cx) / w) / vx
    ty = ((target_cy - cy) / h) / vy
    tw = torch.log(target_w / w) / vw
    th = torch.log(target_h / h) / vh
    return torch.stack((tx, ty, tw, th) if coder.order == "xy" else (ty, tx, th, tw), -1)


def decode_boxes(deltas: Tensor, default_boxes: Tensor, coder: BoxCoderSpec) -> Tensor:
    """Decode offsets deltas [..., P, 4] from default_boxes [P, 4] into boxes [..., P, 4] (xyxy), float32."""
    vx, vy, vw, vh = _variances(coder, deltas.device)
    cx, cy, w, h = _center_size(default_boxes)
    first, second, third, fourth = deltas.float().unbind(-1)
    tx, ty, tw, th = (first, second, third, fourth) if coder.order == "xy" else (second, first, fourth, third)
    center_x = cx + (tx * vx) * w
    center_y = cy + (ty * vy) * h
    half_w = 0.5 * (torch.exp(_clamp(tw * vw, coder)) * w)
    half_h = 0.5 * (torch.exp(_clamp(th * vh, coder)) * h)
    return torch.stack((center_x - half_w, center_y - half_h, center_x + half_w, center_y + half_h), -1)


def _center_size(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x1, y1, x2, y2 = boxes.unbind(-1)
    w = x2 - x1
    h = y2 - y1
    return x1 + 0.5 * w, y1 + 0.5 * h, w, h


def _clamp(log_scale: Tensor, coder: BoxCoderSpec) -> Tensor:
    low, high = torch.tensor(coder.clamp_limits, dtype=torch.float32, device=log_scale.device)
    return torch.where(log_scale < low, low, torch.where(log_scale > high, high, log_scale))  # NaN stays NaN


def _variances(coder: BoxCoderSpec, device: torch.device) -> Tensor:
    # A tensor, not numbers: on a GPU, torch divides by a number by multiplying by its rounded inverse.
    return torch.tensor(coder.variances, dtype=torch.float32, device=device)
