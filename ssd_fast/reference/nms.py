"""Greedy non-maximum suppression, as defined."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from .box_iou import box_iou


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Indices of the boxes [n, 4] that no better kept box overlaps by an IoU > iou_threshold: int64 [k], best first."""
    return greedy(boxes, rank(scores), iou_threshold)


def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """nms among the boxes of each value of idxs [n]: int64 [k], best first over all of them."""
    kept = torch.zeros(len(scores), dtype=torch.bool, device=scores.device)
    for group in idxs.unique():
        members = (idxs == group).nonzero()[:, 0]
        kept[members[nms(boxes[members], scores[members], iou_threshold)]] = True
    order = rank(scores)
    return order[kept[order]]


def nms_padded(boxes: Tensor, scores: Tensor, iou_threshold: float, max_output: int) -> tuple[Tensor, Tensor]:
    """The first max_output of nms for many problems at once, and how many there are, without a sync.

    boxes [N, n, 4] with scores [N, n]: idxs int64 [N, max_output] padded by -1, counts int64 [N]. With scores [N, C, n]
    every class is a problem of its own on the image's boxes: [N, C, max_output] and [N, C].
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
    """Indices of the scores [n] that are numbers: highest first, lower index first among equals."""
    # Adding +0 turns -0 into +0: they are equal, but a radix sort would tell them apart.
    order = torch.sort(scores + 0.0, descending=True, stable=True).indices
    return order[~scores[order].isnan()]


def greedy(boxes: Tensor, order: Tensor, iou_threshold: float, *, inclusive: bool = False) -> Tensor:
    """The entries of order (indices of boxes [n, 4], best first) that no entry kept before suppresses."""
    threshold = torch.tensor(iou_threshold, dtype=boxes.dtype, device=boxes.device)
    kept = []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        iou = box_iou(boxes[best][None], boxes[order])[0]
        suppressed = iou >= threshold if inclusive else iou > threshold
        order = order[~suppressed]
    return torch.stack(kept) if kept else order
