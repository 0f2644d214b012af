"""Training targets per row, as Caffe's PyTorch ports pass them from the dataset to the loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._checks import is_positive, number
from ..ground_truth import faults as ground_truth
from ..ops import decode_boxes, encode_boxes, match, multibox_loss
from ..specs import BoxCoderSpec, LossSpec, MatcherSpec
from ._inputs import float32, share, tensor
from ._priors import corner_form

_CODER = BoxCoderSpec()


class RowTargets:
    """Turns an image's (gt_boxes, gt_labels) into (offsets [P, 4], labels [P]): offsets and class per default box.

    This is MatchPrior of qfgaohao/pytorch-ssd and SSDTargetTransform of lufficc/SSD, which are the same.

    Args:
        center_form_priors: [P, 4] (cx, cy, w, h) in shares of the image.
        center_variance: variance of the box code's centers.
        size_variance: variance of the box code's sizes.
        iou_threshold: the smallest IoU of a positive.
    """

    def __init__(
        self, center_form_priors: Tensor, center_variance: float, size_variance: float, iou_threshold: float
    ) -> None:
        self.center_form_priors = tensor(center_form_priors, type(self).__name__, "center_form_priors", ("P", 4))
        self.corner_form_priors = corner_form(center_form_priors)
        name = type(self).__name__
        self.center_variance, self.size_variance = center_variance, size_variance
        self.iou_threshold = share(name, "iou_threshold", iou_threshold)
        for field, variance in (("center_variance", center_variance), ("size_variance", size_variance)):
            number(name, field, variance, "a positive number", is_positive)
        self._coder = BoxCoderSpec((center_variance, center_variance, size_variance, size_variance))
        self._matcher = MatcherSpec(positive_threshold=iou_threshold)

    def __call__(self, gt_boxes: Tensor | np.ndarray, gt_labels: Tensor | np.ndarray) -> tuple[Tensor, Tensor]:
        """Compute the targets of one image.

        Args:
            gt_boxes: [G, 4] xyxy in shares of the image, a tensor or a NumPy array.
            gt_labels: [G], from 1, likewise.

        Returns:
            float32 [P, 4], 0 in background rows; and int64 [P], 0 for background.

        Raises:
            GroundTruthError: a box that is degenerate or not finite, or a label below 1 (a ValueError).
            TypeError: a value of another type.
            ValueError: a wrong shape.
        """
        op = type(self).__name__
        boxes = float32(tensor(_as_tensor(gt_boxes), op, "gt_boxes", ("G", 4)))
        labels = tensor(_as_tensor(gt_labels), op, "gt_labels", (len(boxes),)).long()
        check_ground_truth([boxes], [labels], [f"{op}: gt_boxes"], None)
        priors = self.corner_form_priors.to(boxes.device)
        matched = match([boxes], priors, self._matcher)[0]
        positive = matched >= 0
        rows = positive.nonzero()[:, 0]
        offsets = torch.zeros((len(priors), 4), dtype=torch.float32, device=boxes.device)
        offsets[rows] = encode_boxes(boxes[matched[rows]], priors[rows], self._coder)
        row_labels = torch.zeros(len(priors), dtype=torch.int64, device=boxes.device)
        row_labels[rows] = labels[matched[rows]]
        return offsets, row_labels


def row_losses(
    op: str, confidence: Tensor, predicted_locations: Tensor, labels: Tensor, gt_locations: Tensor, loss: LossSpec
) -> tuple[Tensor, Tensor]:
    """Compute the (localization, classification) losses of rows with given labels and offsets.

    Args:
        op: the caller's name for messages.
        confidence: [N, P, C] logits.
        predicted_locations: [N, P, 4] offsets.
        labels: [N, P], 0 for background.
        gt_locations: [N, P, 4] offsets.
        loss: the loss.
    """
    images, rows, _ = tensor(confidence, op, "confidence", ("N", "P", "C")).shape
    tensor(predicted_locations, op, "predicted_locations", (images, rows, 4))
    tensor(labels, op, "labels", (images, rows))
    tensor(gt_locations, op, "gt_locations", (images, rows, 4))
    # multibox_loss encodes ground truths itself. Every row gets its own, which encodes to the given offsets: a box
    # relative to a box of size 1 around 0, where float32 is finest (offsets are off by 1e-6).
    device = gt_locations.device
    unit = torch.tensor([-0.5, -0.5, 0.5, 0.5], dtype=torch.float32, device=device).repeat(rows, 1)
    own = decode_boxes(float32(gt_locations), unit, _CODER).view(-1, 4)
    offsets = torch.arange(images + 1, device=device) * rows
    matched = torch.where(labels > 0, torch.arange(rows, device=device), -1)
    losses = multibox_loss(
        confidence,
        predicted_locations,
        (own, offsets),
        labels.reshape(-1).long(),
        matched,
        unit,
        coder=_CODER,
        loss=loss,
    )
    return losses["bbox_regression"], losses["classification"]


def check_ground_truth(
    boxes: Sequence[Tensor], labels: Sequence[Tensor], names: Sequence[str], num_columns: int | None
) -> None:
    """Raise GroundTruthError, naming image, index and values, for anything that would make a loss NaN. Syncs once."""
    ground_truth.refuse_faults(boxes, labels, names, num_columns=num_columns, background=0)


def _as_tensor(value: Any) -> Any:
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value
