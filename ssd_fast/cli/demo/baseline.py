"""The detector's postprocess written with torch and torchvision.ops alone, batched where they allow it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...models.network import flatten_maps
from ...presets import Preset
from ...specs import PostprocessSpec

__all__ = ["torch_postprocess"]


def torch_postprocess(
    cls_maps: Sequence[Tensor],
    bbox_maps: Sequence[Tensor],
    default_boxes: Tensor,
    preset: Preset,
    spec: PostprocessSpec,
    original_sizes: Tensor,
) -> list[dict[str, Tensor]]:
    """Detect from the shipped network's raw head maps: sigmoid, threshold, decode, NMS per class, clip, rescale.

    Args:
        cls_maps: list of [N, A * C, h, w].
        bbox_maps: list of [N, A * 4, h, w].
        default_boxes: [P, 4] normalized xyxy.
        preset: the network's.
        spec: the network's postprocess, with a top_k of None.
        original_sizes: int64 [N, 2].

    Returns:
        one dict per image with "boxes" [k, 4], "scores" [k], "labels" [k].
    """
    from torchvision.ops import batched_nms

    boxes_per_cell = bbox_maps[0].shape[1] // 4
    scores = flatten_maps(cls_maps, cls_maps[0].shape[1] // boxes_per_cell).sigmoid()
    boxes = _decode(flatten_maps(bbox_maps, 4), default_boxes, preset)
    detections = []
    for image_scores, image_boxes, (height, width) in zip(scores, boxes, original_sizes.tolist(), strict=True):
        rows, labels = (image_scores[:, 1:] > spec.score_threshold).nonzero(as_tuple=True)
        candidates, chances = image_boxes[rows], image_scores[:, 1:][rows, labels]
        keep = batched_nms(candidates, chances, labels, spec.iou_threshold)[: spec.keep_top_k]
        scale = torch.tensor([width, height, width, height], dtype=torch.float32, device=boxes.device)
        found = candidates[keep].clamp(0, 1) * scale
        detections.append({"boxes": found, "scores": chances[keep], "labels": labels[keep] + 1})
    return detections


def _decode(deltas: Tensor, default_boxes: Tensor, preset: Preset) -> Tensor:
    """[N, P, 4] offsets (ty, tx, th, tw) -> xyxy."""
    x_variance, y_variance, w_variance, h_variance = preset.coder.variances
    size = default_boxes[:, 2:] - default_boxes[:, :2]
    center = default_boxes[:, :2] + size / 2
    ty, tx, th, tw = deltas.unbind(-1)
    moved = center + torch.stack((tx * x_variance, ty * y_variance), -1) * size
    half = torch.stack((tw * w_variance, th * h_variance), -1).exp() * size / 2
    return torch.cat((moved - half, moved + half), -1)
