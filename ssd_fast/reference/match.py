"""match in plain torch: the matrix of IoUs that the kernels never make, and the rules applied to it in turn."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from ..specs import MatcherSpec
from .box_iou import box_iou, coverage


def match(
    gt_boxes: Sequence[Tensor] | tuple[Tensor, Tensor],
    default_boxes: Tensor,
    matcher: MatcherSpec,
    *,
    gt_ignored: Sequence[Tensor] | Tensor | None = None,
) -> Tensor:
    """Match default boxes to ground truths: int64 [N, P], -1 for background, -2 for ignored.

    Args:
        gt_boxes: a list of [G, 4] per image, or packed (boxes [sum G, 4], offsets [N + 1]).
        default_boxes: [P, 4].
        matcher: rule and thresholds.
        gt_ignored: a list of bool or uint8 [G] per image, or packed [sum G].
    """
    if isinstance(gt_boxes, tuple) and len(gt_boxes) == 2 and gt_boxes[1].ndim == 1:
        boxes, offsets = gt_boxes
        gt_boxes = [boxes[begin:end] for begin, end in itertools.pairwise(offsets.tolist())]
    if not gt_boxes:
        return torch.empty((0, len(default_boxes)), dtype=torch.int64, device=default_boxes.device)
    if gt_ignored is None:
        gt_ignored = [torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device) for boxes in gt_boxes]
    elif isinstance(gt_ignored, Tensor):
        gt_ignored = gt_ignored.split([len(boxes) for boxes in gt_boxes])
    return torch.stack(
        [
            _match_some(boxes, ignored != 0, default_boxes, matcher)
            for boxes, ignored in zip(gt_boxes, gt_ignored, strict=True)
        ]
    )


def _match_some(gt_boxes: Tensor, ignored: Tensor, default_boxes: Tensor, matcher: MatcherSpec) -> Tensor:
    """Match one image, int64 [P]: as if the ignored ground truths were not there, except for what they cover."""
    matched = _match_image(box_iou(gt_boxes[~ignored], default_boxes), matcher)
    matched[matched >= 0] = (~ignored).nonzero()[:, 0][matched[matched >= 0]]
    share = torch.tensor(matcher.ignored_coverage, dtype=torch.float32)
    covered = (coverage(default_boxes, gt_boxes[ignored]) >= share).any(1)
    matched[(matched == -1) & covered] = -2
    return matched


def _match_image(iou: Tensor, matcher: MatcherSpec) -> Tensor:
    """Match one image, int64 [P], from its IoUs [G, P]."""
    num_gt, num_boxes = iou.shape
    matched = torch.full((num_boxes,), -1, dtype=torch.int64, device=iou.device)
    if num_gt == 0 or num_boxes == 0:
        return matched
    positive = torch.tensor(matcher.positive_threshold, dtype=torch.float32)
    best_iou, best_gt = iou.amax(0), _first_maximum(iou, 0)
    is_positive = best_iou >= positive if matcher.positive_inclusive else best_iou > positive
    if matcher.negative_threshold is not None:
        negative = torch.tensor(matcher.negative_threshold, dtype=torch.float32)
        matched[(best_iou >= negative) & ~is_positive] = -2
    matched[is_positive] = best_gt[is_positive]

    any_iou = matcher.minimum_forced_iou is None
    minimum = torch.tensor(-1.0 if any_iou else matcher.minimum_forced_iou, dtype=torch.float32)
    if matcher.rule == "forced":
        order = range(num_gt) if matcher.claimed_twice == "last" else reversed(range(num_gt))
        for gt in order:
            box = int(_first_maximum(iou[gt], 0))
            if iou[gt, box] > minimum:
                matched[box] = gt
    elif matcher.rule == "bipartite":
        free = iou.clone()
        for _ in range(min(num_gt, num_boxes)):
            if not free.max() > minimum:
                break
            box, gt = divmod(int(_first_maximum(free.t().flatten(), 0)), num_gt)  # box-major: lower boxes win ties
            matched[box] = gt
            free[gt, :] = -2.0
            free[:, box] = -2.0
    return matched


def _first_maximum(values: Tensor, dim: int) -> Tensor:
    """Return the lowest index of the maximum: argmax leaves ties undefined."""
    return (values == values.amax(dim, keepdim=True)).int().cummax(dim).values.eq(0).sum(dim)
