"""match: the ground truth of its image that each default box stands for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from .. import _backend, arrays
from ..arrays import Array
from ..ground_truth.packing import packed_ground_truth, packed_values
from ..specs import MatcherSpec
from ._arguments import call, check_spec
from ._fakes import check_count, check_fake
from ._library import register


def match(
    gt_boxes: Sequence[Array] | tuple[Array, Array],
    default_boxes: Array,
    matcher: MatcherSpec,
    *,
    gt_ignored: Sequence[Array] | Array | None = None,
) -> Array:
    """Match each default box to a ground truth of its image, or to none.

    Args:
        gt_boxes: a list of boxes [G, 4] per image, where G may be 0; or packed, a pair (boxes [sum G, 4], offsets int64
            [N + 1]), where image n has the rows offsets[n] to offsets[n + 1]. float32 xyxy.
        default_boxes: [P, 4] float32 xyxy, in the same unit.
        matcher: rule and thresholds.
        gt_ignored: ground truths to exclude from training, such as VOC's difficult and COCO's crowds: a list of [G] per
            image, or packed [sum G]; bool, or uint8 that is not 0. An ignored ground truth is never matched and forces
            nothing; background of which it covers the share matcher.ignored_coverage is ignored too.

    Returns:
        int64 [N, P]: the index of the ground truth within its image, -1 for background, -2 for ignored. Ignored ground
            truths count in the index.

    Ties:
        Equal IoU with two ground truths: the lower one. A ground truth's best default box: the lower one. Pairs of the
        bipartite rule: the lower default box, then the lower ground truth.

    Grad:
        None.

    Syncs:
        Never; packed input copies nothing and can be captured in a CUDA graph.

    Memory:
        O(P + G).

    NaN:
        A NaN or degenerate box has IoU 0 with all boxes. Offsets out of range are clamped, since they cannot be
        checked.

    Raises:
        ValueError: wrong shape or device.
        TypeError: wrong dtype (convert with .float()), or not an array.

    Source:
        Liu et al. 2016, section 2.2.

    Specification:
        ssd_fast.reference.match

    Examples:
        One image with one ground truth; the second default box is nearest to it:

        >>> import ssd_fast, torch
        >>> default = torch.tensor([[0.0, 0.0, 4.0, 4.0], [4.0, 4.0, 8.0, 8.0]])
        >>> ssd_fast.match([torch.tensor([[4.0, 4.0, 8.0, 9.0]])], default, ssd_fast.MatcherSpec())
        tensor([[-1,  0]])
    """
    check_spec("match", "matcher", matcher, MatcherSpec)
    boxes, offsets = packed_ground_truth(gt_boxes, default_boxes, "match", "default_boxes")
    ignored: Any = None
    if gt_ignored is not None:
        ignored = packed_values(gt_ignored, gt_boxes, (boxes, offsets), "match", "gt_ignored", "bool")
    named = {
        "gt_boxes": boxes,
        "gt_boxes.offsets": offsets,
        "default_boxes": default_boxes,
        "gt_ignored": ignored,
    }
    return call(_op, named, specs=(matcher,), optional=("gt_ignored",))


class MatchOptions(NamedTuple):
    """A MatcherSpec as the op and C++'s MatchOptions take it."""

    positive_threshold: float
    positive_inclusive: bool
    negative_threshold: float
    bipartite: bool
    force: bool
    last_wins: bool
    forced_above: float
    ignored_coverage: float


def pack_options(matcher: MatcherSpec) -> MatchOptions:
    """Return the options of the spec."""
    negative, minimum = matcher.negative_threshold, matcher.minimum_forced_iou
    return MatchOptions(
        positive_threshold=matcher.positive_threshold,
        positive_inclusive=matcher.positive_inclusive,
        negative_threshold=math.inf if negative is None else negative,  # no IoU reaches infinity
        bipartite=matcher.rule == "bipartite",
        force=matcher.rule == "forced",
        last_wins=matcher.claimed_twice == "last",
        forced_above=-1.0 if minimum is None else minimum,
        ignored_coverage=matcher.ignored_coverage,
    )


def _match(gt_boxes: Any, offsets: Any, default_boxes: Any, gt_ignored: Any, options: Any) -> Any:
    gt_boxes = arrays.contiguous(gt_boxes, "match", "gt_boxes", arrays.BOX_BYTES)
    offsets = arrays.contiguous(offsets, "match", "gt_boxes.offsets")
    default_boxes = arrays.contiguous(default_boxes, "match", "default_boxes", arrays.BOX_BYTES)
    if gt_ignored is not None:
        gt_ignored = arrays.contiguous(gt_ignored, "match", "gt_ignored")
    workspace = arrays.workspace(_backend.C.match_workspace(gt_boxes), gt_boxes, "match")
    images = max(arrays.dimension(offsets, 0) - 1, 0)
    out = arrays.empty((images, arrays.dimension(default_boxes, 0)), "int64", gt_boxes, "match")
    _backend.C.match(gt_boxes, offsets, default_boxes, gt_ignored, options, workspace, out)
    return out


def _fake(
    gt_boxes: torch.Tensor,
    offsets: torch.Tensor,
    default_boxes: torch.Tensor,
    gt_ignored: torch.Tensor | None,
    **_: Any,
) -> torch.Tensor:
    check_fake("match", "gt_boxes", gt_boxes, (None, 4), (torch.float32,), gt_boxes)
    check_fake("match", "gt_boxes.offsets", offsets, (None,), (torch.int64,), gt_boxes)
    check_fake("match", "default_boxes", default_boxes, (None, 4), (torch.float32,), gt_boxes)
    check_count("match", "gt_boxes.offsets", offsets.shape[0], 1)
    if gt_ignored is not None:
        check_fake("match", "gt_ignored", gt_ignored, gt_boxes.shape[:1], (torch.bool, torch.uint8), gt_boxes)
    return gt_boxes.new_empty((offsets.shape[0] - 1, default_boxes.shape[0]), dtype=torch.int64)


_op = register(
    "match(Tensor gt_boxes, Tensor offsets, Tensor default_boxes, Tensor? gt_ignored) -> Tensor",
    _match,
    _fake,
    options=MatchOptions,
    pack=pack_options,
)
