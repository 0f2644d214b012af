"""NMS a class of boxes that are decoded and scored already, of a whole batch at once.

ssd_fast.postprocess starts from logits and offsets. Adapters whose originals are handed scores use this, so that the
scores which come out are, bit for bit, those that went in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..ops import batched_nms


@dataclass(frozen=True)
class Kept:
    """Detections of N images, [k] each: by image, then score descending, then class, then box."""

    images: Tensor
    labels: Tensor
    box_idxs: Tensor
    scores: Tensor

    def __getitem__(self, rows: Tensor) -> Kept:
        return Kept(self.images[rows], self.labels[rows], self.box_idxs[rows], self.scores[rows])

    def first(self, keep_top_k: int, num_images: int) -> Kept:
        """The best of each image."""
        return self[_rank_in_run(self.images, num_images) < keep_top_k]

    def by_class(self, num_images: int, num_columns: int) -> tuple[Kept, Tensor]:
        """The same by image, class and then score; and each one's rank in its class."""
        groups = self.images * num_columns + self.labels
        order = groups.sort(stable=True).indices
        return self[order], _rank_in_run(groups[order], num_images * num_columns)


def keep_scored(
    boxes: Tensor,
    scores: Tensor,
    *,
    score_threshold: float,
    iou_threshold: float,
    top_k: int | None,
    background: int | None = 0,
    iou_inclusive: bool = False,
) -> Kept:
    """What NMS keeps, class by class.

    Args:
        boxes, scores: [N, P, 4] xyxy and [N, P, C], float32.
        score_threshold: a candidate's score exceeds it, compared in float32.
        iou_threshold: a better box of the class with a larger IoU suppresses (iou_inclusive: or an equal one).
        top_k: candidates of a class that NMS is given, the best; None: all.
        background: column that is no class; None: there is none.

    Ties:
        Equal scores: lower class, then lower box.

    Grad:
        None.

    NaN:
        NaN scores are no candidates.

    Syncs:
        Twice, to know how many candidates there are and how many are left.
    """
    num_columns = scores.shape[2]
    by_class = scores.transpose(1, 2)  # [N, C, P]: candidates in the order that decides ties
    passes = by_class > score_threshold
    if background is not None:
        passes[:, background] = False
    images, labels, box_idxs = passes.nonzero(as_tuple=True)
    found = Kept(images, labels, box_idxs, by_class[images, labels, box_idxs])
    groups = images * num_columns + labels
    if top_k is not None:
        chosen = _best_of_groups(found.scores, groups, top_k, len(scores) * num_columns)
        found, groups = found[chosen], groups[chosen]
    kept = batched_nms(
        boxes[found.images, found.box_idxs], found.scores, groups, largest_kept_iou(iou_threshold, iou_inclusive)
    )
    found = found[kept]
    return found[found.images.sort(stable=True).indices]


def largest_kept_iou(threshold: float, inclusive: bool) -> float:
    """The float32 that an IoU has to exceed to suppress; inclusive: the largest below the threshold."""
    return float(np.nextafter(np.float32(threshold), np.float32(-math.inf))) if inclusive else threshold


def _best_of_groups(scores: Tensor, groups: Tensor, top_k: int, num_groups: int) -> Tensor:
    """Ascending rows of the top_k best of each group; of equal scores the lower rows."""
    order = scores.sort(descending=True, stable=True).indices
    order = order[groups[order].sort(stable=True).indices]
    return order[_rank_in_run(groups[order], num_groups) < top_k].sort().values


def _rank_in_run(groups: Tensor, num_groups: int) -> Tensor:
    """[n] ascending groups -> how many rows of its group come before each row."""
    sizes = torch.bincount(groups, minlength=num_groups)
    return torch.arange(len(groups), device=groups.device) - (sizes.cumsum(0) - sizes)[groups]
