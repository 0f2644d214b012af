"""Bring ground truth into the form that the ops take: packed, the rows of one image after those of another."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from .. import arrays
from ..arrays import library_of, require_same_library


def is_packed(gt_boxes: Any) -> bool:
    """Return whether this is a pair (boxes, offsets)."""
    return isinstance(gt_boxes, tuple) and len(gt_boxes) == 2 and getattr(gt_boxes[1], "ndim", None) == 1


def packed_ground_truth(gt_boxes: Any, like: Any, op: str, like_name: str) -> tuple[Any, Any]:
    """Pack a list of [G, 4], one per image, or return what is packed already.

    Args:
        gt_boxes: the list, or the pair (boxes, offsets).
        like: an array of the same library and device.
        op: the op, for messages.
        like_name: the name of `like`, for messages.

    Returns:
        `(boxes [sum G, 4], offsets int64 [N + 1])`.

    Raises:
        TypeError: neither form, or arrays of different libraries or dtypes.
        ValueError: arrays of a wrong shape or of different devices.
    """
    if is_packed(gt_boxes):
        boxes, offsets = gt_boxes
        library_of(boxes, op, "gt_boxes")
        return boxes, offsets
    if not isinstance(gt_boxes, (list, tuple)):
        raise TypeError(f"{op}: gt_boxes: expected a list of [G, 4] or (boxes, offsets), got {type(gt_boxes).__name__}")
    require_same_library(op, {like_name: like, "gt_boxes": gt_boxes}, lists=("gt_boxes",))
    for index, boxes in enumerate(gt_boxes):
        if len(boxes.shape) != 2 or boxes.shape[1] != 4:
            raise ValueError(f"{op}: gt_boxes[{index}]: expected shape [any, 4], got {list(boxes.shape)}")
    sizes = [int(boxes.shape[0]) for boxes in gt_boxes]
    offsets = arrays.from_list([0, *itertools.accumulate(sizes)], "int64", like, op)
    return _joined(gt_boxes, like, op, "gt_boxes"), offsets


def packed_values(values: Any, gt_boxes: Any, packed: tuple[Any, Any], op: str, argument: str, dtype: str) -> Any:
    """Pack a list of [G], one per image, or return the packed array [sum G] as it is.

    Args:
        values: the list, or the packed array.
        gt_boxes: as the caller gave them; values in a list must have the lengths of boxes in a list.
        packed: what packed_ground_truth returned for them.
        op: the op, for messages.
        argument: the name of the values, for messages.
        dtype: of the empty array that is returned for no images.
    """
    like, offsets = packed
    if not isinstance(values, (list, tuple)):
        library_of(values, op, argument)
        return values
    require_same_library(op, {"gt_boxes": like, argument: values}, lists=(argument,))
    for index, image_values in enumerate(values):
        if len(image_values.shape) != 1:
            raise ValueError(f"{op}: {argument}[{index}]: expected shape [any], got {list(image_values.shape)}")
    if len(values) != offsets.shape[0] - 1:
        raise ValueError(f"{op}: {argument}: expected {offsets.shape[0] - 1} images, got {len(values)}")
    if not is_packed(gt_boxes):
        for index, (boxes, image_values) in enumerate(zip(gt_boxes, values, strict=True)):
            if boxes.shape[0] != image_values.shape[0]:
                expected = [int(boxes.shape[0])]
                raise ValueError(
                    f"{op}: {argument}[{index}]: expected shape {expected}, got {list(image_values.shape)}"
                )
    return _joined(values, like, op, argument) if values else arrays.empty((0,), dtype, like, op)


def packed_batch(
    gt_boxes: Any, gt_labels: Any, gt_ignored: Any, cls_logits: Any, op: str
) -> tuple[Any, Any, Any, Any | None]:
    """Pack the ground truth of the images of cls_logits.

    Returns:
        `(boxes [sum G, 4], offsets int64 [N + 1], labels int64 [sum G], ignored bool [sum G] or None)`.

    Raises:
        TypeError: neither form, or arrays of different libraries or dtypes.
        ValueError: arrays of a wrong shape, of different devices, or of another number of images.
    """
    boxes, offsets = packed_ground_truth(gt_boxes, cls_logits, op, "cls_logits")
    images = cls_logits.shape[0]
    if offsets.shape[0] != images + 1:
        plural = "" if images == 1 else "s"
        raise ValueError(
            f"{op}: gt_boxes: expected {images} image{plural}, as cls_logits has, got {offsets.shape[0] - 1}"
        )
    packed = boxes, offsets
    labels = packed_values(gt_labels, gt_boxes, packed, op, "gt_labels", "int64")
    ignored = None if gt_ignored is None else packed_values(gt_ignored, gt_boxes, packed, op, "gt_ignored", "bool")
    for name, values in (("gt_labels", labels), ("gt_ignored", ignored)):
        if values is not None and values.shape != boxes.shape[:1]:
            expected, given = list(boxes.shape[:1]), list(values.shape)
            raise ValueError(f"{op}: {name}: expected shape {expected}, got {given}")
    return boxes, offsets, labels, ignored


def _joined(parts: Sequence[Any], like: Any, op: str, argument: str) -> Any:
    """Join the parts, whose dtypes must agree."""
    for index, part in enumerate(parts):
        if part.dtype != parts[0].dtype:
            expected, given = arrays.dtype_name(parts[0]), arrays.dtype_name(part)
            raise TypeError(f"{op}: {argument}[{index}]: expected {expected}, as {argument}[0] is, got {given}")
    return arrays.concatenate(parts, like, op)
