"""Training targets row by row, as Caffe's PyTorch ports hand them from the dataset to the loss."""

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
    """(gt_boxes, gt_labels) of an image -> (offsets [P, 4], labels [P]): a class for each default box, and its offsets.

    MatchPrior of qfgaohao/pytorch-ssd and SSDTargetTransform of lufficc/SSD, which are the same.

    Args:
        center_form_priors: [P, 4] (cx, cy, w, h) in shares of the image.
        center_variance, size_variance: of the box code.
        iou_threshold: the least IoU of a positive.
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
        """Of an image's boxes [G, 4] xyxy in shares of the image and labels [G] from 1, tensors or NumPy arrays.

        Returns:
            float32 [P, 4], 0 in the rows of the background; int64 [P], 0 for the background.

        Raises:
            GroundTruthError: a box that is degenerate or not finite, or a label below 1 (a ValueError).
            TypeError: a wrong type or shape.
            ValueError: a wrong type or shape.
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
    """(localization, classification) losses of rows whose label and offsets are given; labels 0: background.

    Args:
        confidence [N, P, C], predicted_locations [N, P, 4], labels [N, P], gt_locations [N, P, 4] offsets.
    """
    images, rows, _ = tensor(confidence, op, "confidence", ("N", "P", "C")).shape
    tensor(predicted_locations, op, "predicted_locations", (images, rows, 4))
    tensor(labels, op, "labels", (images, rows))
    tensor(gt_locations, op, "gt_locations", (images, rows, 4))
    # multibox_loss encodes ground truths itself. Every row gets one of its own, which encodes to what it is given: a
    # box relative to one of size 1 around 0, where float32 is finest (offsets are off by 1e-6).
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
    """Raises: GroundTruthError naming the image, index and values of what would make a loss NaN. Syncs: once."""
    ground_truth.refuse_faults(boxes, labels, names, num_columns=num_columns, background=0)


def _as_tensor(value: Any) -> Any:
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value
