"""match: which ground truth of its image each default box stands for."""

from __future__ import annotations

import math
from typing import Any

import torch

from .. import _backend, arrays
from ..specs import MatcherSpec
from ._arguments import call, check_spec
from ._fakes import check_fake, check_fake_count
from ._ground_truth import packed_ground_truth, packed_values
from ._library import register


def match(gt_boxes: Any, default_boxes: Any, matcher: MatcherSpec, *, gt_ignored: Any = None) -> Any:
    """The ground truth of its image that each default box is matched to.

    Args:
        gt_boxes: a list of an image's boxes [G, 4] each, G any and 0 too; or packed, a pair (boxes [sum G, 4],
            offsets int64 [N + 1]): image n has the rows offsets[n] to offsets[n + 1]. float32 xyxy.
        default_boxes: [P, 4] float32 xyxy, in the same unit.
        matcher: rule and thresholds.
        gt_ignored: ground truths that nothing shall be trained on, such as VOC's difficult and COCO's crowds: a list of
            an image's [G], or packed [sum G]; bool, or uint8 that is not 0. Such a one is never matched and forces
            nothing; background of which it covers the share matcher.ignored_coverage is ignored.
    Returns: int64 [N, P]: the index of the ground truth within its image, -1 background, -2 ignored. Ignored ground
        truths count in the index.
    Ties: equal IoU with two ground truths: the lower one; a ground truth's best default box: the lower one; pairs of
        the bipartite rule: lower default box, then lower ground truth.
    Grad: none.   Syncs: never; packed input copies nothing and can be captured in a CUDA graph.   Memory: O(P + G).
    NaN: a NaN or degenerate box has IoU 0 with all. Offsets out of range are clamped, since they cannot be checked.
    Raises: ValueError: wrong shape or device; TypeError: wrong dtype (convert with .float()), or not an array.
    Source: Liu et al. 2016, section 2.2. Specification: ssd_fast.reference.match
    """
    check_spec("match", "matcher", matcher, MatcherSpec)
    boxes, offsets = packed_ground_truth(gt_boxes, default_boxes, "match", "default_boxes")
    if gt_ignored is not None:
        gt_ignored = packed_values(gt_ignored, gt_boxes, (boxes, offsets), "match", "gt_ignored", "bool")
    positive, negative, minimum = matcher.positive_threshold, matcher.negative_threshold, matcher.minimum_forced_iou
    named = {
        "gt_boxes": boxes,
        "gt_boxes.offsets": offsets,
        "default_boxes": default_boxes,
        "gt_ignored": gt_ignored,
    }
    return call(
        "match",
        _op,
        _match,
        named,
        positive,
        matcher.positive_inclusive,
        math.inf if negative is None else negative,  # no IoU is both below positive and from infinity up
        matcher.rule == "bipartite",
        matcher.rule == "forced",
        matcher.claimed_twice == "last",
        -1.0 if minimum is None else minimum,
        matcher.ignored_coverage,
        optional=("gt_ignored",),
    )


def _match(
    gt_boxes: Any,
    offsets: Any,
    default_boxes: Any,
    gt_ignored: Any,
    positive_threshold: float,
    positive_inclusive: bool,
    negative_threshold: float,
    bipartite: bool,
    force: bool,
    last_wins: bool,
    forced_above: float,
    ignored_coverage: float,
) -> Any:
    gt_boxes = arrays.contiguous(gt_boxes, "match", "gt_boxes", arrays.BOX_BYTES)
    offsets = arrays.contiguous(offsets, "match", "gt_boxes.offsets")
    default_boxes = arrays.contiguous(default_boxes, "match", "default_boxes", arrays.BOX_BYTES)
    if gt_ignored is not None:
        gt_ignored = arrays.contiguous(gt_ignored, "match", "gt_ignored")
    workspace = arrays.empty((_backend.C.match_workspace(gt_boxes),), "uint8", like=gt_boxes)
    images = max(arrays.dimension(offsets, 0) - 1, 0)
    out = arrays.empty((images, arrays.dimension(default_boxes, 0)), "int64", like=gt_boxes)
    _backend.C.match(
        gt_boxes,
        offsets,
        default_boxes,
        gt_ignored,
        positive_threshold,
        positive_inclusive,
        negative_threshold,
        bipartite,
        force,
        last_wins,
        forced_above,
        ignored_coverage,
        workspace,
        out,
    )
    return out


def _fake(
    gt_boxes: torch.Tensor,
    offsets: torch.Tensor,
    default_boxes: torch.Tensor,
    gt_ignored: torch.Tensor | None,
    *_: Any,
) -> torch.Tensor:
    check_fake("match", "gt_boxes", gt_boxes, (None, 4), (torch.float32,), gt_boxes)
    check_fake("match", "gt_boxes.offsets", offsets, (None,), (torch.int64,), gt_boxes)
    check_fake("match", "default_boxes", default_boxes, (None, 4), (torch.float32,), gt_boxes)
    check_fake_count("match", "gt_boxes.offsets", offsets.shape[0], 1)
    if gt_ignored is not None:
        check_fake("match", "gt_ignored", gt_ignored, gt_boxes.shape[:1], (torch.bool, torch.uint8), gt_boxes)
    return gt_boxes.new_empty((offsets.shape[0] - 1, default_boxes.shape[0]), dtype=torch.int64)


_op = register(
    "match(Tensor gt_boxes, Tensor offsets, Tensor default_boxes, Tensor? gt_ignored, float positive_threshold, "
    "bool positive_inclusive, float negative_threshold, bool bipartite, bool force, bool last_wins, "
    "float forced_above, float ignored_coverage) -> Tensor",
    _match,
    _fake,
)
