"""Apply the policy for faulty ground truths: raise an error, or make the rest fit for training."""

from __future__ import annotations

import itertools
from typing import Unpack, get_args

import torch
from torch import Tensor

from .._checks import choice
from .faults import Fault, GroundTruthError, Policy, Rules, clip_boxes, describe, fault_mask, find_faults, warn

__all__ = ["apply_policy", "apply_policy_packed", "check_policy"]


def check_policy(policy: str, op: str) -> None:
    """Raise ValueError, which lists the policies, unless this is one."""
    choice(op, "policy", policy, get_args(Policy))


def apply_policy(
    boxes: Tensor, labels: Tensor, policy: Policy, where: str, **rules: Unpack[Rules]
) -> tuple[Tensor, Tensor, list[Fault]]:
    """Raise for faulty ground truths of an image, or make the rest fit for training.

    Args:
        boxes: as for find_faults.
        labels: as for find_faults.
        policy: "raise"; "drop": leave faulty ground truths out; "clip": cut their boxes off at the image, if size is
            given, and leave out only those that are faulty even so. Boxes without fault do not change.
        where: the image, for messages.
        rules: as for find_faults.

    Returns:
        `(boxes [K, 4], keep int64 [K], faults)`: the boxes that are left, their indices among the given ones, and the
            faults found.

    Raises:
        GroundTruthError: a ground truth is faulty and the policy is "raise"; the message names where, index, values and
            reason.
        ValueError: the policy is unknown.
    """
    check_policy(policy, "ground truth")
    size = rules.get("size")
    faults = find_faults(boxes, labels, **rules)
    if faults and policy == "raise":
        raise GroundTruthError(describe(faults, where))
    faulty = torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    faulty[[fault.index for fault in faults]] = True
    if policy == "clip" and size is not None:
        finite = boxes.isfinite().all(1)  # an infinite corner is a mistake, not a box that reaches out of the image
        boxes = torch.where((faulty & finite)[:, None], clip_boxes(boxes, size), boxes)
        faulty = fault_mask(boxes, labels, **rules)
    keep = (~faulty).nonzero()[:, 0]
    return boxes[keep], keep, faults


def apply_policy_packed(
    boxes: Tensor, labels: Tensor, offsets: Tensor, policy: Policy, op: str, **rules: Unpack[Rules]
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Apply the policy to each image of a packed batch, with a GroundTruthWarning for what is left out or clipped.

    Args:
        boxes: [sum G, 4].
        labels: [sum G].
        offsets: int64 [N + 1], as ssd_fast.match takes them.
        policy: as for apply_policy.
        op: the op, for messages.
        rules: as for find_faults.

    Returns:
        `(boxes [K, 4], rows int64 [K], offsets)`: the boxes that are left, their indices among the given ones, and
            their offsets; if no image has a fault, rows is None and nothing is copied.

    Syncs:
        Once; again if there are faults.
    """
    if not fault_mask(boxes, labels, **rules).any():
        return boxes, None, offsets
    kept_boxes, kept_rows, sizes = [], [], [0]
    for image, (begin, end) in enumerate(itertools.pairwise(offsets.tolist())):
        where = f"{op}: image {image} of the batch"
        kept, keep, faults = apply_policy(boxes[begin:end], labels[begin:end], policy, where, **rules)
        warn(faults, where, "clipped or left out" if policy == "clip" else "left out")
        kept_boxes.append(kept)
        kept_rows.append(keep + begin)
        sizes.append(sizes[-1] + len(keep))
    return torch.cat(kept_boxes), torch.cat(kept_rows), torch.tensor(sizes, dtype=torch.int64, device=boxes.device)
