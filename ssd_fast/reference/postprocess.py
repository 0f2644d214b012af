"""From head outputs to detections, as defined."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..detections import Detections
from ..specs import BoxCoderSpec, PostprocessSpec
from .box_coder import decode_boxes
from .default_boxes import clip
from .nms import greedy, rank

Sizes = Tensor | Sequence[int] | Sequence[Sequence[int]]


def postprocess(
    cls_logits: Tensor | Sequence[Tensor],
    bbox_regression: Tensor | Sequence[Tensor],
    default_boxes: Tensor,
    spec: PostprocessSpec,
    *,
    coder: BoxCoderSpec,
    image_sizes: Sizes | None = None,
    original_sizes: Sizes | None = None,
) -> Detections:
    """Score, filter, top-k a class, decode, clip, NMS a class, merge, rescale.

    cls_logits [N, P, C] and bbox_regression [N, P, 4], or two lists of raw head maps; default_boxes [P, 4]; image_sizes
    (the clip window) and original_sizes: one (h, w) or [N, 2].
    """
    if image_sizes is None and (spec.clip != "none" or original_sizes is not None):
        raise ValueError("postprocess: image_sizes: expected sizes, which clip and original_sizes need, got None")
    if not isinstance(cls_logits, Tensor):
        assert not isinstance(bbox_regression, Tensor)
        boxes_a_cell = [deltas.shape[1] // 4 for deltas in bbox_regression]
        cls_logits = _rows(cls_logits, boxes_a_cell, spec)
        bbox_regression = _rows(bbox_regression, boxes_a_cell, spec)
    assert isinstance(bbox_regression, Tensor)
    num_images, _, columns = cls_logits.shape
    device = cls_logits.device
    window, scale = _window_and_scale(image_sizes, original_sizes, num_images, device)
    background = columns - 1 if spec.background == -1 else spec.background
    threshold = torch.tensor(spec.score_threshold, dtype=torch.float32, device=device)

    result = Detections(
        boxes=torch.zeros(num_images, spec.keep_top_k, 4, device=device),
        scores=torch.zeros(num_images, spec.keep_top_k, device=device),
        labels=torch.full((num_images, spec.keep_top_k), -1, dtype=torch.int64, device=device),
        box_idxs=torch.full((num_images, spec.keep_top_k), -1, dtype=torch.int64, device=device),
        counts=torch.zeros(num_images, dtype=torch.int64, device=device),
    )
    for n in range(num_images):
        scores = _softmax(cls_logits[n].float()) if spec.activation == "softmax" else _sigmoid(cls_logits[n].float())
        boxes = decode_boxes(bbox_regression[n], default_boxes, coder)
        if spec.clip == "before_nms":
            boxes = clip(boxes, window[n])
        if spec.rescale == "before_nms":
            boxes = boxes * scale[n]

        labels, box_idxs = [], []
        for label in range(columns):
            if label == background:
                continue
            score = scores[:, label]
            candidate = score >= threshold if spec.score_inclusive else score > threshold
            order = rank(score)
            order = order[candidate[order]][: spec.top_k]
            kept = greedy(boxes, order, spec.iou_threshold, inclusive=spec.iou_inclusive)
            labels.append(torch.full_like(kept, label))
            box_idxs.append(kept)
        if not labels:
            continue
        columns_kept, box_idx = torch.cat(labels), torch.cat(box_idxs)
        best = rank(scores[box_idx, columns_kept])[: spec.keep_top_k]  # of equals the lower class, then the lower index
        columns_kept, box_idx = columns_kept[best], box_idx[best]

        boxes = boxes[box_idx]
        if spec.clip == "after_nms":
            boxes = clip(boxes, window[n])
        if spec.rescale == "after_nms":
            boxes = boxes * scale[n]
        count = len(best)
        result.boxes[n, :count] = boxes
        result.scores[n, :count] = scores[box_idx, columns_kept]
        result.labels[n, :count] = columns_kept
        result.box_idxs[n, :count] = box_idx
        result.counts[n] = count
    return result


def _rows(maps: Sequence[Tensor], boxes_a_cell: Sequence[int], spec: PostprocessSpec) -> Tensor:
    """Raw head maps [N, A * C, h, w] as [N, P, C], in the row order of the default boxes."""
    levels = []
    for values, a in zip(maps, boxes_a_cell, strict=True):
        n, channels, h, w = values.shape
        if spec.channel_order == "AC":
            values = values.reshape(n, a, channels // a, h, w)
        else:
            values = values.reshape(n, channels // a, a, h, w).transpose(1, 2)
        order = (0, 3, 4, 1, 2) if spec.row_order == "HWA" else (0, 1, 3, 4, 2)
        levels.append(values.permute(order).reshape(n, a * h * w, channels // a))
    return torch.cat(levels, 1)


def _softmax(logits: Tensor) -> Tensor:
    """Softmax of [P, C] over C, whose sum adds the classes in ascending order into one float32."""
    terms = torch.exp(logits - logits.amax(-1, keepdim=True))
    total = torch.zeros_like(terms[:, 0])
    for term in terms.unbind(-1):
        total = total + term
    return terms / total[:, None]


def _sigmoid(logits: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-logits))


def _window_and_scale(
    image_sizes: Sizes | None, original_sizes: Sizes | None, num_images: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Of each image: the far corner as (w, h, w, h), and the factors to the original as (x, y, x, y): two [N, 4]."""

    def corners(sizes: Sizes) -> Tensor:
        pairs = torch.as_tensor(sizes, device=device).float().expand(num_images, 2)
        return pairs[:, [1, 0, 1, 0]]

    unknown = torch.full((num_images, 4), torch.nan, device=device)  # not asked for, so never used
    window = unknown if image_sizes is None else corners(image_sizes)
    scale = torch.ones_like(window) if original_sizes is None else corners(original_sizes) / window
    return window, scale
