"""Parts of SSDCriterion: its selection, the check of head outputs, and the normalizer under torch.distributed."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._checks import instance


class Selection(NamedTuple):
    """The default boxes of a batch that stand for a ground truth or for background; see SSDCriterion.select.

    Attributes:
        matched_idxs: int64 [N, P], as match returns them.
        hard_negatives: bool [N, P], the background rows that count in the loss.
    """

    matched_idxs: Tensor
    hard_negatives: Tensor


def reduction_factor(matched_idxs: Tensor, normalizer: str, process_group: Any) -> Tensor:
    """Return the factor for this process's losses that gives their mean over processes one normalizer."""
    positives = (matched_idxs >= 0).sum(1)
    if normalizer == "positives_per_image":
        own = positives.new_tensor(len(positives))
    elif normalizer == "sum_max_one":
        own = positives.clamp(min=1).sum()
    else:
        own = positives.sum()
    total, processes = own.clone(), 1
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(total, group=process_group)
        processes = torch.distributed.get_world_size(process_group)
    return processes * own.clamp(min=1).float() / total.clamp(min=1).float()


def require_heads(op: str, cls_logits: Tensor, bbox_regression: Tensor, rows: int) -> None:
    """Raise TypeError or ValueError unless these are [N, rows, C] and [N, rows, 4]."""
    instance(op, "cls_logits", cls_logits, Tensor, "a tensor")
    instance(op, "bbox_regression", bbox_regression, Tensor, "a tensor")
    logits, deltas = list(cls_logits.shape), list(bbox_regression.shape)
    if len(logits) != 3 or logits[1] != rows:
        raise ValueError(f"{op}: cls_logits: expected shape [any, {rows}, any], got {logits}")
    expected = [logits[0], rows, 4]
    if deltas != expected:
        swapped = " (are cls_logits and bbox_regression swapped?)" if logits == expected else ""
        raise ValueError(f"{op}: bbox_regression: expected shape {expected}, got {deltas}{swapped}")
