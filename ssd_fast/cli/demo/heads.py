"""Head outputs like those of a trained SSD, in which rounding cannot change a detection."""

from __future__ import annotations

import torch
from torch import Tensor

from ...ops import box_iou, encode_boxes
from ...specs import BoxCoderSpec

__all__ = ["trained_like_heads"]

_OBJECTS, _BOXES_PER_OBJECT = 10, 16
_LOWEST_SCORE = 0.02


def trained_like_heads(
    num_images: int, num_columns: int, default_boxes: Tensor, coder: BoxCoderSpec, iou_threshold: float
) -> tuple[Tensor, Tensor]:
    """Make head outputs of images with 10 objects, each seen by 16 default boxes, and background elsewhere.

    Different scores of an image differ by at least 0.001, and no two boxes of a class have an IoU within 0.001 of the
    threshold, so two correct detectors must agree on every detection and on the order.

    Args:
        default_boxes: [P, 4] xyxy in pixels.
        coder: the box code of the postprocess that takes the heads.
        iou_threshold: the NMS threshold of that postprocess.

    Returns:
        `(cls_logits, bbox_regression)`, float32 [N, P, C] (column 0 is background) and [N, P, 4].
    """
    generator = torch.Generator().manual_seed(2016)
    images = [_image(num_columns, default_boxes, coder, iou_threshold, generator) for _ in range(num_images)]
    cls_logits, bbox_regression = (torch.stack(parts) for parts in zip(*images, strict=True))
    return cls_logits, bbox_regression


def _image(
    num_columns: int, default_boxes: Tensor, coder: BoxCoderSpec, iou_threshold: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    extent = default_boxes.max()
    num_boxes = len(default_boxes)
    logits = (torch.randn(num_boxes, num_columns, generator=generator, dtype=torch.float32) * 1.2 - 3).clamp(max=2)
    logits[:, 0] = 8 + torch.rand(num_boxes, generator=generator, dtype=torch.float32)
    deltas = torch.randn(num_boxes, 4, generator=generator, dtype=torch.float32) * 0.5

    total = _OBJECTS * _BOXES_PER_OBJECT
    scores = torch.linspace(0.95, _LOWEST_SCORE, total, dtype=torch.float32)[torch.randperm(total, generator=generator)]
    free = torch.ones(num_boxes, dtype=torch.bool)
    for label, share in zip(
        torch.randperm(num_columns - 1, generator=generator)[:_OBJECTS] + 1,
        scores.split(_BOXES_PER_OBJECT),
        strict=True,
    ):
        corner = torch.rand(2, generator=generator, dtype=torch.float32) * 0.6 * extent
        size = (0.1 + 0.3 * torch.rand(2, generator=generator, dtype=torch.float32)) * extent
        thing = torch.cat((corner, corner + size))[None]
        rows = torch.where(free, box_iou(thing, default_boxes)[0], -1.0).topk(_BOXES_PER_OBJECT).indices
        free[rows] = False
        boxes = _spread(thing, iou_threshold, generator)
        deltas[rows] = encode_boxes(boxes, default_boxes[rows], coder)
        others = logits[rows].index_fill(1, label[None], -torch.inf).logsumexp(1)
        logits[rows, label] = share.logit() + others
    return logits, deltas


def _spread(thing: Tensor, iou_threshold: float, generator: torch.Generator) -> Tensor:
    """[16, 4] boxes on and beside a thing, none of them on the border of suppressing another."""
    size = (thing[:, 2:] - thing[:, :2]).repeat(1, 2)
    while True:
        boxes = thing + size * 0.15 * torch.randn(_BOXES_PER_OBJECT, 4, generator=generator, dtype=torch.float32)
        boxes = torch.cat((torch.minimum(boxes[:, :2], boxes[:, 2:] - 4), boxes[:, 2:]), 1).clamp(min=0)
        boxes[:, 2:] = torch.maximum(boxes[:, 2:], boxes[:, :2] + 4)
        if (box_iou(boxes, boxes) - iou_threshold).abs().min() > 1e-3:
            return boxes
