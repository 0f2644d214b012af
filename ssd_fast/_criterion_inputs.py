"""What SSDCriterion is called with: heads that fit the default boxes, and the ground truth of as many images."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ._checks import instance
from .ground_truth.packing import packed_ground_truth, packed_values

_OP = "SSDCriterion"


def require_heads(cls_logits: Tensor, bbox_regression: Tensor, rows: int) -> None:
    """Raises TypeError, ValueError unless these are [N, rows, C] and [N, rows, 4]."""
    instance(_OP, "cls_logits", cls_logits, Tensor, "a tensor")
    instance(_OP, "bbox_regression", bbox_regression, Tensor, "a tensor")
    logits, deltas = list(cls_logits.shape), list(bbox_regression.shape)
    if len(logits) != 3 or logits[1] != rows:
        raise ValueError(f"{_OP}: cls_logits: expected shape [any, {rows}, any], got {logits}")
    expected = [logits[0], rows, 4]
    if deltas != expected:
        swapped = " (are cls_logits and bbox_regression swapped?)" if logits == expected else ""
        raise ValueError(f"{_OP}: bbox_regression: expected shape {expected}, got {deltas}{swapped}")


def packed_truth(
    cls_logits: Tensor, gt_boxes: Any, gt_labels: Any, gt_ignored: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Boxes, offsets, labels and what is ignored, packed.

    Raises: TypeError, ValueError: they do not belong together, or are not of the images of cls_logits.
    """
    boxes, offsets = packed_ground_truth(gt_boxes, cls_logits, _OP, "cls_logits")
    images = cls_logits.shape[0]
    if offsets.shape[0] != images + 1:
        plural = "" if images == 1 else "s"
        raise ValueError(
            f"{_OP}: gt_boxes: expected {images} image{plural}, as cls_logits has, got {offsets.shape[0] - 1}"
        )
    packed = boxes, offsets
    labels = packed_values(gt_labels, gt_boxes, packed, _OP, "gt_labels", "int64")
    ignored = None if gt_ignored is None else packed_values(gt_ignored, gt_boxes, packed, _OP, "gt_ignored", "bool")
    for name, values in (("gt_labels", labels), ("gt_ignored", ignored)):
        if values is not None and values.shape != boxes.shape[:1]:
            expected, given = list(boxes.shape[:1]), list(values.shape)
            raise ValueError(f"{_OP}: {name}: expected shape {expected}, got {given}")
    return boxes, offsets, labels, ignored
