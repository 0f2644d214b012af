"""match: which ground truth of its image each default box stands for."""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch

from .. import _backend, arrays
from ..specs import MatcherSpec
from ._library import register


def match(gt_boxes: Any, default_boxes: Any, matcher: MatcherSpec) -> Any:
    """The ground truth of its image that each default box is matched to.

    Args:
        gt_boxes: a list of an image's boxes [G, 4] each, G any and 0 too; or packed, a pair (boxes [sum G, 4],
            offsets int64 [N + 1]): image n has the rows offsets[n] to offsets[n + 1]. float32 xyxy.
        default_boxes: [P, 4] float32 xyxy, in the same unit.
        matcher: rule and thresholds.
    Returns: int64 [N, P]: the index of the ground truth within its image, -1 background, -2 ignored.
    Ties: equal IoU with two ground truths: the lower one; a ground truth's best default box: the lower one; pairs of
        the bipartite rule: lower default box, then lower ground truth.
    Grad: none.   Syncs: never; packed input copies nothing and can be captured in a CUDA graph.   Memory: O(P + G).
    NaN: a NaN or degenerate box has IoU 0 with all. Offsets out of range are clamped, since they cannot be checked.
    Raises: ValueError: wrong shape or device; TypeError: wrong dtype (convert with .float()) or no array.
    Source: Liu et al. 2016, section 2.2. Specification: ssd_fast.reference.match
    """
    if not isinstance(matcher, MatcherSpec):
        raise TypeError(f"match: matcher: expected a MatcherSpec, got {type(matcher).__name__}")
    arrays.library_of(default_boxes, "match", "default_boxes")
    boxes, offsets = packed_ground_truth(gt_boxes, default_boxes, "match")
    is_torch = arrays.library_of(boxes, "match", "gt_boxes") == "torch"
    positive, negative, minimum = matcher.positive_threshold, matcher.negative_threshold, matcher.minimum_forced_iou
    return (_op if is_torch else _match)(
        boxes,
        offsets,
        default_boxes,
        positive,
        matcher.positive_inclusive,
        math.inf if negative is None else negative,  # no IoU is both below positive and from infinity up
        matcher.rule == "bipartite",
        matcher.rule == "forced",
        matcher.claimed_twice == "last",
        -1.0 if minimum is None else minimum,
    )


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


def _match(
    gt_boxes: Any,
    offsets: Any,
    default_boxes: Any,
    positive_threshold: float,
    positive_inclusive: bool,
    negative_threshold: float,
    bipartite: bool,
    force: bool,
    last_wins: bool,
    forced_above: float,
) -> Any:
    gt_boxes = arrays.contiguous(gt_boxes, "match", "gt_boxes")
    offsets = arrays.contiguous(offsets, "match", "gt_boxes.offsets")
    default_boxes = arrays.contiguous(default_boxes, "match", "default_boxes")
    workspace = arrays.empty((_backend.C.match_workspace(gt_boxes),), "uint8", like=gt_boxes)
    images = max(arrays.dimension(offsets, 0) - 1, 0)
    out = arrays.empty((images, arrays.dimension(default_boxes, 0)), "int64", like=gt_boxes)
    _backend.C.match(
        gt_boxes,
        offsets,
        default_boxes,
        positive_threshold,
        positive_inclusive,
        negative_threshold,
        bipartite,
        force,
        last_wins,
        forced_above,
        workspace,
        out,
    )
    return out


def _fake(gt_boxes: torch.Tensor, offsets: torch.Tensor, default_boxes: torch.Tensor, *_: Any) -> torch.Tensor:
    return gt_boxes.new_empty((offsets.shape[0] - 1, default_boxes.shape[0]), dtype=torch.int64)


_op = register(
    "match(Tensor gt_boxes, Tensor offsets, Tensor default_boxes, float positive_threshold, bool positive_inclusive, "
    "float negative_threshold, bool bipartite, bool force, bool last_wins, float forced_above) -> Tensor",
    _match,
    _fake,
)
