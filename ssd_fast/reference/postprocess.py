"""postprocess as defined: from head outputs to detections."""

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
    """Score, filter, top-k, decode, clip, NMS, merge, rescale.

    Args:
        cls_logits: [N, P, C], or a list of levels, rows or raw head maps.
        bbox_regression: [N, P, 4], or the list of levels.
        default_boxes: [P, 4].
        spec: what to do.
        coder: how bbox_regression encodes boxes.
        image_sizes: the clip window: one (h, w), or [N, 2].
        original_sizes: likewise, the sizes that boxes are scaled to.
    """
    if image_sizes is None and (spec.clip != "none" or original_sizes is not None):
        raise ValueError("postprocess: image_sizes: expected sizes, which clip and original_sizes need, got None")
    level_sizes = [len(default_boxes)]
    if not isinstance(cls_logits, Tensor):
        assert not isinstance(bbox_regression, Tensor)
        boxes_per_cell = [deltas.shape[1] // 4 for deltas in bbox_regression]
        rows = [_rows(level, a, spec) for level, a in zip(cls_logits, boxes_per_cell, strict=True)]
        level_sizes = [level.shape[1] for level in rows]
        cls_logits = torch.cat(rows, 1)
        bbox_regression = torch.cat(
            [_rows(level, a, spec) for level, a in zip(bbox_regression, boxes_per_cell, strict=True)], 1
        )
    elif spec.top_k is not None and spec.top_k_scope == "level":
        raise ValueError(
            'postprocess: cls_logits: expected a list of levels, since spec.top_k_scope is "level", got one array'
        )
    assert isinstance(bbox_regression, Tensor)
    num_images, _, columns = cls_logits.shape
    device = cls_logits.device
    window, scale = _window_and_scale(image_sizes, original_sizes, num_images, device)
    background = columns - 1 if spec.background == -1 else spec.background

    result = Detections(
        boxes=torch.zeros(num_images, spec.keep_top_k, 4, dtype=torch.float32, device=device),
        scores=torch.zeros(num_images, spec.keep_top_k, dtype=torch.float32, device=device),
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

        pairs = _best_pairs(scores, spec, background, level_sizes)
        if spec.class_mode == "agnostic":
            segments = [pairs]
        else:
            segments = [pairs[pairs[:, 1] == label] for label in range(columns)]
        detections = torch.cat([_suppress(boxes, segment, spec) for segment in segments])
        # Of equal scores, the lower class, then the lower default box; with all classes in one segment, in its order.
        detections = detections[rank(scores[detections[:, 0], detections[:, 1]])[: spec.keep_top_k]]
        box_idx, label = detections.unbind(1)

        boxes = boxes[box_idx]
        if spec.clip == "after_nms":
            boxes = clip(boxes, window[n])
        if spec.rescale == "after_nms":
            boxes = boxes * scale[n]
        count = len(detections)
        result.boxes[n, :count] = boxes
        result.scores[n, :count] = scores[box_idx, label]
        result.labels[n, :count] = label
        result.box_idxs[n, :count] = box_idx
        result.counts[n] = count
    return result


def _best_pairs(scores: Tensor, spec: PostprocessSpec, background: int | None, level_sizes: Sequence[int]) -> Tensor:
    """Return the candidates as (default box, class) [k, 2], best first.

    Of equal ones, the lower default box comes first, then the lower class. Those of a level or an image are limited to
    top_k here if that is its scope.
    """
    threshold = torch.tensor(spec.score_threshold, dtype=torch.float32, device=scores.device)
    candidate = scores >= threshold if spec.score_inclusive else scores > threshold
    if background is not None:
        candidate[:, background] = False
    if spec.class_mode != "per_class" and len(scores):
        best = scores.where(candidate, -1.0).argmax(1, keepdim=True)  # of equals, the first
        candidate &= torch.zeros_like(candidate).scatter_(1, best, True)
    order = rank(scores.flatten())
    order = order[candidate.flatten()[order]]
    pairs = torch.stack((order // scores.shape[1], order % scores.shape[1]), 1)
    if spec.top_k_scope == "class" or spec.top_k is None:
        return pairs

    scopes = level_sizes if spec.top_k_scope == "level" else [len(scores)]
    sizes = torch.tensor(scopes, dtype=torch.int64, device=scores.device)
    scope = torch.arange(len(sizes), device=scores.device).repeat_interleave(sizes)[pairs[:, 0]]
    place = torch.zeros_like(scope)  # rank among the pairs of its scope
    for index in range(len(sizes)):
        place[scope == index] = torch.arange(int((scope == index).sum()), device=scores.device)
    return pairs[place < spec.top_k]


def _suppress(boxes: Tensor, segment: Tensor, spec: PostprocessSpec) -> Tensor:
    """Return what NMS keeps of the pairs [k, 2] of a segment, best first; a segment has no default box twice."""
    if spec.top_k_scope == "class":
        segment = segment[: spec.top_k]
    if spec.min_box_size is not None:
        sides = (boxes[:, 2:] - boxes[:, :2])[segment[:, 0]]
        segment = segment[(sides > torch.tensor(spec.min_box_size, dtype=torch.float32, device=boxes.device)).all(1)]
    kept = greedy(boxes, segment[:, 0], spec.iou_threshold, inclusive=spec.iou_inclusive)
    return segment[torch.isin(segment[:, 0], kept)]


def _rows(level: Tensor, boxes_per_cell: int, spec: PostprocessSpec) -> Tensor:
    """Convert a level's raw map [N, A * C, h, w] to [N, A * h * w, C], in the row order of the default boxes."""
    if level.ndim == 3:
        return level
    n, channels, h, w = level.shape
    a, columns = boxes_per_cell, channels // boxes_per_cell
    if spec.channel_order == "AC":
        level = level.reshape(n, a, columns, h, w)
    else:
        level = level.reshape(n, columns, a, h, w).transpose(1, 2)
    order = (0, 3, 4, 1, 2) if spec.row_order == "HWA" else (0, 1, 3, 4, 2)
    return level.permute(order).reshape(n, a * h * w, columns)


def _softmax(logits: Tensor) -> Tensor:
    """Compute the softmax of [P, C] over C, whose sum adds the classes in ascending order into one float32."""
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
    """Return per image the far corner (w, h, w, h) and the factors to the original (x, y, x, y): two [N, 4]."""

    def corners(sizes: Sizes) -> Tensor:
        pairs = torch.as_tensor(sizes, dtype=torch.float32, device=device).reshape(-1, 2).expand(num_images, 2)
        return pairs[:, [1, 0, 1, 0]]

    unknown = torch.full((num_images, 4), torch.nan, dtype=torch.float32, device=device)  # unused
    window = unknown if image_sizes is None else corners(image_sizes)
    scale = torch.ones_like(window) if original_sizes is None else corners(original_sizes) / window
    return window, scale
