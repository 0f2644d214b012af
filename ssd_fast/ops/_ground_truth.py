"""Ground truth in the form that the ops take: packed, the images' rows one after the other."""

from __future__ import annotations

import itertools
from typing import Any

from .. import arrays


def packed_ground_truth(gt_boxes: Any, like: Any, op: str) -> tuple[Any, Any]:
    """(boxes [sum G, 4], offsets int64 [N + 1]), from a list of an image's boxes or from such a pair itself."""
    if isinstance(gt_boxes, tuple) and len(gt_boxes) == 2 and len(gt_boxes[1].shape) == 1:
        return gt_boxes
    if not isinstance(gt_boxes, (list, tuple)):
        raise TypeError(f"{op}: gt_boxes: expected a list of [G, 4] or (boxes, offsets), got {type(gt_boxes).__name__}")
    library = arrays.library_of(like, op, "like")
    for index, boxes in enumerate(gt_boxes):
        if arrays.library_of(boxes, op, f"gt_boxes[{index}]") != library:
            given = type(boxes).__name__
            raise TypeError(f"{op}: gt_boxes[{index}]: expected {library}'s, as the other arrays are, got {given}")
        if len(boxes.shape) != 2 or boxes.shape[1] != 4:
            raise ValueError(f"{op}: gt_boxes[{index}]: expected shape [any, 4], got {list(boxes.shape)}")
    sizes = [int(boxes.shape[0]) for boxes in gt_boxes]
    offsets = arrays.from_list([0, *itertools.accumulate(sizes)], "int64", like=like)
    return arrays.concatenate(gt_boxes, like=like), offsets


def packed_values(values: Any, gt_boxes: Any, like: Any, op: str, argument: str, dtype: str) -> Any:
    """[sum G], from a list of an image's values [G] each, compared with that of boxes if given, or from that itself.

    dtype: of the empty array that no images make.
    """
    if not isinstance(values, (list, tuple)):
        arrays.library_of(values, op, argument)
        return values
    library = arrays.library_of(like, op, "like")
    for index, image_values in enumerate(values):
        if arrays.library_of(image_values, op, f"{argument}[{index}]") != library:
            given = type(image_values).__name__
            raise TypeError(f"{op}: {argument}[{index}]: expected {library}'s, as the other arrays are, got {given}")
        if len(image_values.shape) != 1:
            raise ValueError(f"{op}: {argument}[{index}]: expected shape [any], got {list(image_values.shape)}")
    if gt_boxes is not None:
        if len(values) != len(gt_boxes):
            raise ValueError(f"{op}: {argument}: expected {len(gt_boxes)} images, got {len(values)}")
        for index, (boxes, image_values) in enumerate(zip(gt_boxes, values, strict=True)):
            if boxes.shape[0] != image_values.shape[0]:
                expected = [int(boxes.shape[0])]
                raise ValueError(
                    f"{op}: {argument}[{index}]: expected shape {expected}, got {list(image_values.shape)}"
                )
    return arrays.concatenate(values, like=like) if values else arrays.empty((0,), dtype, like=like)
