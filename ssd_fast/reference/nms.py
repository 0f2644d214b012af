"""Greedy non-maximum suppression, as defined."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from .box_iou import box_iou


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Return indices of boxes [n, 4] that no better kept box overlaps by IoU > iou_threshold: int64 [k], best first.

    Examples:
        >>> import torch
        >>> from ssd_fast import reference
        >>> boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [1.0, 1.0, 11.0, 11.0], [20.0, 20.0, 30.0, 30.0]])
        >>> reference.nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5)
        tensor([0, 2])
    """
    return greedy(boxes, rank(scores), iou_threshold)


def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """Run nms among the boxes of each value of idxs [n]: int64 [k], best first over all of them."""
    kept = torch.zeros(len(scores), dtype=torch.bool, device=scores.device)
    for group in idxs.unique():
        members = (idxs == group).nonzero()[:, 0]
        kept[members[nms(boxes[members], scores[members], iou_threshold)]] = True
    order = rank(scores)
    return order[kept[order]]


def nms_padded(boxes: Tensor, scores: Tensor, iou_threshold: float, max_output: int) -> tuple[Tensor, Tensor]:
    """Return the first max_output results of nms for many problems at once, and how many there are, without a sync.

    Args:
        boxes: [N, n, 4].
        scores: [N, n], or [N, C, n], where every class is a problem of its own on the image's boxes.
        iou_threshold: as for nms.
        max_output: the most indices kept per problem.

    Returns:
        idxs int64 [N, max_output] or [N, C, max_output], padded with -1, and counts int64 [N] or [N, C].
    """
    problems = scores.shape[:-1]
    idxs = torch.full((*problems, max_output), -1, dtype=torch.int64, device=scores.device)
    counts = torch.zeros(problems, dtype=torch.int64, device=scores.device)
    for problem in itertools.product(*map(range, problems)):
        kept = nms(boxes[problem[0]], scores[problem], iou_threshold)[:max_output]
        idxs[problem][: len(kept)] = kept
        counts[problem] = len(kept)
    return idxs, counts


def rank(scores: Tensor) -> Tensor:
    """Return the indices of the scores [n] that are numbers: highest first, the lower index first among equals."""
    # Adding +0 turns -0 into +0: they are equal, but a radix sort would tell them apart.
    order = torch.sort(scores + 0.0, descending=True, stable=True).indices
    return order[~scores[order].isnan()]


def greedy(boxes: Tensor, order: Tensor, iou_threshold: float, *, inclusive: bool = False) -> Tensor:
    """Return the entries of order (indices of boxes [n, 4], best first) that no entry kept before suppresses."""
    threshold = torch.tensor(iou_threshold, dtype=boxes.dtype, device=boxes.device)
    kept = []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        iou = box_iou(boxes[best][None], boxes[order])[0]
        suppressed = iou >= threshold if inclusive else iou > threshold
        order = order[~suppressed]
    return torch.stack(kept) if kept else order
