"""The MultiBox loss, as defined. torch's autograd can differentiate it with respect to the two head outputs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ..specs import BoxCoderSpec, LossSpec
from .box_coder import encode_boxes

_IGNORED, _NO_COLUMN = -1, -2  # values of a target besides columns


def multibox_loss(
    cls_logits: Tensor,
    bbox_regression: Tensor,
    gt_boxes: Sequence[Tensor] | tuple[Tensor, Tensor],
    gt_labels: Sequence[Tensor] | Tensor,
    matched_idxs: Tensor,
    default_boxes: Tensor,
    *,
    coder: BoxCoderSpec,
    loss: LossSpec,
) -> dict[str, Tensor]:
    """Compute {"bbox_regression", "classification"}: scalars, float32, or float64 where the head output is.

    Args:
        cls_logits: [N, P, C].
        bbox_regression: [N, P, 4].
        gt_boxes: a list of [G, 4] per image, or packed (boxes [sum G, 4], offsets [N + 1]).
        gt_labels: a list of int64 [G] per image, or packed [sum G].
        matched_idxs: [N, P], as match returns them.
        default_boxes: [P, 4].
        coder: how bbox_regression encodes boxes.
        loss: classification, background, mining, beta and normalizer.
    """
    logits, deltas = _widen(cls_logits), _widen(bbox_regression)
    num_images, num_columns = logits.shape[0], logits.shape[2]
    background = _NO_COLUMN if loss.background is None else loss.background
    background = num_columns - 1 if background == -1 else background
    boxes, labels = _by_image(gt_boxes, gt_labels)
    targets = [
        _target_columns(matched, image_labels, num_columns, background)
        for matched, image_labels in zip(matched_idxs, labels, strict=True)
    ]
    positive_rows = [((target >= 0) & (target != background)).nonzero()[:, 0] for target in targets]
    num_positives = [len(rows) for rows in positive_rows]

    classification, regression = logits[:0].sum(), deltas[:0].sum()
    for n, (target, positives) in enumerate(zip(targets, positive_rows, strict=True)):
        if loss.normalizer == "positives":
            normalizer = max(sum(num_positives), 1)
        elif loss.normalizer == "sum_max_one":
            normalizer = sum(max(count, 1) for count in num_positives)
        else:
            normalizer = num_positives[n] * num_images
            if normalizer == 0:
                continue
        # Only selected rows enter the graph: the others have no gradient, not even from a NaN.
        if loss.classification == "focal":
            rows = (target != _IGNORED).nonzero()[:, 0]
            losses = _focal_loss(logits[n, rows], target[rows], loss)
        else:
            negatives = _hard_negatives(logits[n].detach(), target, background, len(positives), loss)
            rows = torch.cat((positives, negatives))
            losses = _cross_entropy(logits[n, rows], target[rows])
        classification = classification + losses.sum() / normalizer
        matched_boxes = boxes[n][matched_idxs[n, positives]].detach()
        difference = deltas[n, positives] - encode_boxes(matched_boxes, default_boxes[positives], coder)
        regression = regression + _smooth_l1(difference, loss.beta).sum() / normalizer
    return {"bbox_regression": regression, "classification": classification}


def _widen(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _by_image(
    gt_boxes: Sequence[Tensor] | tuple[Tensor, Tensor], gt_labels: Sequence[Tensor] | Tensor
) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Return lists of boxes and labels per image, from lists or packed ones."""
    if isinstance(gt_boxes, tuple) and len(gt_boxes) == 2 and gt_boxes[1].ndim == 1:
        packed, offsets = gt_boxes
        images: Sequence[Tensor] = [packed[begin:end] for begin, end in itertools.pairwise(offsets.tolist())]
    else:
        images = gt_boxes
    if isinstance(gt_labels, Tensor):
        return images, gt_labels.split([len(boxes) for boxes in images])
    return images, gt_labels


def _target_columns(matched: Tensor, labels: Tensor, num_columns: int, background: int) -> Tensor:
    """Return [P], the column that each default box is trained toward; labels out of range are ignored."""
    exists = (matched >= 0) & (matched < len(labels))
    target = torch.full_like(matched, _IGNORED)
    target[exists] = labels[matched[exists]]
    target[(target < 0) | (target >= num_columns) | (target == background)] = _IGNORED
    target[matched == -1] = background
    return target


def _hard_negatives(logits: Tensor, target: Tensor, background: int, num_positives: int, loss: LossSpec) -> Tensor:
    """Return the background rows with the largest cross-entropy, NaN before all, the lower row first among equals."""
    candidates = (target == background).nonzero()[:, 0]
    losses = _cross_entropy(logits[candidates], target[candidates])
    order = torch.sort(losses + 0.0, descending=True, stable=True).indices  # sorts NaN before all numbers
    by_ratio = int(torch.tensor(loss.negatives_per_positive, dtype=torch.float32) * num_positives)
    return candidates[order[: max(by_ratio, loss.min_negatives)]]


def _cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Compute [R] from logits [R, C] and their target columns [R]."""
    largest = logits.detach().amax(1, keepdim=True)
    shifted = logits - largest
    return shifted.exp().sum(1).log() - shifted.gather(1, target[:, None])[:, 0]


def _focal_loss(logits: Tensor, target: Tensor, loss: LossSpec) -> Tensor:
    """Compute [R] from logits [R, C] and target columns [R]: the sum of alpha * (1 - p)^gamma * -log p."""
    is_target = torch.arange(logits.shape[1], device=logits.device) == target[:, None]
    z = torch.where(is_target, logits, -logits)  # p = sigmoid(z)
    finite = torch.where(z.isinf(), 0.0, z)  # at the limits, autograd would compute 0 * infinity
    modulation = torch.exp(loss.focal_gamma * functional.logsigmoid(-finite))
    losses = torch.where(z.isinf(), functional.relu(-z), modulation * -functional.logsigmoid(finite))
    if loss.focal_alpha is not None:
        losses = torch.where(is_target, loss.focal_alpha * losses, (1 - loss.focal_alpha) * losses)
    return losses.sum(1)


def _smooth_l1(difference: Tensor, beta: float) -> Tensor:
    """Compute d^2 / (2 beta) where |d| < beta, else |d| - beta / 2; by torch, whose slopes are right at infinity."""
    losses = functional.smooth_l1_loss(difference, torch.zeros_like(difference), reduction="none", beta=beta)
    nans = torch.where(difference.isnan(), difference, 0.0)
    return losses + nans * nans  # with beta 0 torch gives NaN the slope 0, which would hide it
