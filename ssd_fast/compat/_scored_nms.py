"""NMS per class on boxes that are already decoded and scored, for a whole batch at once.

ssd_fast.postprocess starts from logits and offsets. Adapters whose originals take scores use this module, so that the
scores that come out are bit for bit those that went in.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..ops import batched_nms
from ..specs.postprocess import largest_kept_iou


@dataclass(frozen=True)
class Kept:
    """Detections of N images, [k] each, sorted by image, then by descending score, then by class, then by box."""

    images: Tensor
    labels: Tensor
    box_idxs: Tensor
    scores: Tensor

    def __getitem__(self, rows: Tensor) -> Kept:
        return Kept(self.images[rows], self.labels[rows], self.box_idxs[rows], self.scores[rows])

    def first(self, keep_top_k: int, num_images: int) -> Kept:
        """Keep the best of each image."""
        return self[_rank_in_run(self.images, num_images) < keep_top_k]

    def by_class(self, num_images: int, num_columns: int) -> tuple[Kept, Tensor]:
        """Sort by image, class and then score; also return the rank of each within its class."""
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
    """Run NMS class by class.

    Args:
        boxes: [N, P, 4] xyxy, float32.
        scores: [N, P, C], float32.
        score_threshold: candidates have a higher score, compared in float32.
        iou_threshold: a better box of the class with a larger IoU suppresses a box.
        top_k: the number of best candidates per class that enter NMS; None for all.
        background: the column that is not a class; None if there is none.
        iou_inclusive: an IoU equal to the threshold suppresses too.

    Ties:
        Equal scores: the lower class comes first, then the lower box.

    Grad:
        None.

    NaN:
        NaN scores are not candidates.

    Syncs:
        Twice, for the number of candidates and of those that are left.
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


def _best_of_groups(scores: Tensor, groups: Tensor, top_k: int, num_groups: int) -> Tensor:
    """Ascending rows of the top_k best of each group; among equal scores the lower rows."""
    order = scores.sort(descending=True, stable=True).indices
    order = order[groups[order].sort(stable=True).indices]
    return order[_rank_in_run(groups[order], num_groups) < top_k].sort().values


def _rank_in_run(groups: Tensor, num_groups: int) -> Tensor:
    """For [n] ascending groups, count the rows of the same group before each row."""
    sizes = torch.bincount(groups, minlength=num_groups)
    return torch.arange(len(groups), device=groups.device) - (sizes.cumsum(0) - sizes)[groups]
