"""Default boxes as (cx, cy, w, h) in shares of the image, the form that Caffe's PyTorch ports use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from .._checks import integer, one_per_map, positive_numbers
from ..specs import DefaultBoxSpec
from ..specs._conventions import as_maps, ratio_rows, square_steps


def square_spec(
    op: str,
    side: int,
    feature_maps: Sequence[int],
    *,
    min_sizes: Sequence[float],
    max_sizes: Sequence[float],
    aspect_ratios: Sequence[Sequence[float]],
    steps: Sequence[float],
    clip: bool,
    row_order: Literal["HWA", "AHW"] = "HWA",
) -> DefaultBoxSpec:
    """Make a square network's boxes: min, sqrt(min * max), then each aspect ratio and its inverse; sizes in pixels.

    Args:
        op: the caller's name for messages.
        side: side of the image.
        feature_maps: cells per side of each map.
        min_sizes: one per map.
        max_sizes: one per map.
        aspect_ratios: one list per map.
        steps: one per map.
        clip: clamp centers and sizes to the image, as the ports do, but not the corners.
        row_order: the order of the rows within a map.

    Raises:
        ValueError: a number of entries that differs from the maps, more than 8 maps, or sizes or steps that are not
            positive numbers.
    """
    side = integer(op, "image_size", side, "an int >= 1", 1)
    maps = as_maps(op, feature_maps)
    lows, highs, strides = (
        positive_numbers(op, field, one_per_map(op, field, values, len(maps)))
        for field, values in (("min_sizes", min_sizes), ("max_sizes", max_sizes), ("steps", steps))
    )
    levels = []
    for low, high, ratios in zip(lows, highs, ratio_rows(op, aspect_ratios, len(maps)), strict=True):
        mean = math.sqrt(low * high)
        sides = [(low, low), (mean, mean)]
        for root in map(math.sqrt, ratios):
            sides += [(low * root, low / root), (low / root, low * root)]
        limit = side if clip else math.inf
        levels.append(tuple((float(min(w, limit)), float(min(h, limit))) for w, h in sides))
    return DefaultBoxSpec(
        image_size=(side, side),
        feature_maps=maps,
        box_sizes=tuple(levels),
        steps=square_steps(op, strides),
        clip_centers=clip,
        normalized=True,
        row_order=row_order,
    )


def center_form(spec: DefaultBoxSpec) -> Tensor:
    """Compute [P, 4] float32 (cx, cy, w, h) in shares of the image, in double and rounded once, as the ports do.

    ssd_fast.default_boxes returns the corners of the same boxes; centers from those would be off by a rounding.
    """
    height, width = spec.image_size
    levels = []
    for (rows, columns), sizes, (step_y, step_x) in zip(
        spec.feature_maps, spec.box_sizes, spec.level_steps, strict=True
    ):
        cx = (torch.arange(columns, dtype=torch.float64) + spec.offset) / (width / step_x)
        cy = (torch.arange(rows, dtype=torch.float64) + spec.offset) / (height / step_y)
        image = torch.tensor([width, height], dtype=torch.float64)
        w, h = (torch.tensor(sizes, dtype=torch.float64) / image).unbind(-1)
        boxes = torch.stack(torch.broadcast_tensors(cx[None, :, None], cy[:, None, None], w, h), -1)
        levels.append((boxes.permute(2, 0, 1, 3) if spec.row_order == "AHW" else boxes).reshape(-1, 4))
    boxes = torch.cat(levels).float()
    return boxes.clamp(0, 1) if spec.clip_centers else boxes


def corner_form(boxes: Tensor) -> Tensor:
    """Convert (cx, cy, w, h) to xyxy in float32, as the ports do, so that matching sees exactly their boxes."""
    centers, halves = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat((centers - halves, centers + halves), -1)
