"""The focal loss, computed by hand and by torchvision."""

from __future__ import annotations

import math

import torch
from torchvision.ops import sigmoid_focal_loss


def by_hand(of_rows, alpha=0.25, gamma=2.0):
    """Return the loss by hand, divided by 2 positives."""
    targets = {"positive": 1, "negative": of_rows.background, "other_positive": 2}
    total = 0.0
    for row, target in targets.items():
        for column, p in enumerate(getattr(of_rows, row)):
            total += (alpha if column == target else 1 - alpha) * (1 - p) ** gamma * -math.log(p)
    return total / 2


def torchvision_loss(case, loss):
    """Return the classification loss of a batch by torchvision.ops.sigmoid_focal_loss."""
    total, columns = 0.0, case.cls_logits.shape[-1]
    background = loss.background if loss.background is None else loss.background % columns
    counts = [int((matched >= 0).sum()) for matched in case.matched_idxs]
    for n, matched in enumerate(case.matched_idxs):
        targets = torch.zeros_like(case.cls_logits[n])
        positive = matched >= 0
        targets[positive, case.gt_labels[n][matched[positive]]] = 1
        if background is not None:
            targets[matched == -1, background] = 1
        alpha = -1 if loss.focal_alpha is None else loss.focal_alpha  # -1: no weights
        losses = sigmoid_focal_loss(case.cls_logits[n], targets, alpha, loss.focal_gamma, reduction="none")
        image_total = losses[matched != -2].sum()
        if loss.normalizer == "positives_per_image":
            total = total + (image_total / counts[n] / len(counts) if counts[n] else 0)
        elif loss.normalizer == "sum_max_one":
            total = total + image_total / sum(max(count, 1) for count in counts)
        else:
            total = total + image_total / max(sum(counts), 1)
    return total
