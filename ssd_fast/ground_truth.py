"""What is wrong with a ground truth, by name, before it can become a NaN loss; and what to do about it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

__all__ = [
    "Fault",
    "GroundTruthError",
    "GroundTruthWarning",
    "Policy",
    "apply_policy",
    "clip_boxes",
    "describe",
    "fault_mask",
    "find_faults",
    "warn",
]

Policy = Literal["raise", "drop", "clip"]

_POLICIES = ("raise", "drop", "clip")
_SHOWN = 5  # faults that a message lists


class GroundTruthError(ValueError):
    """A ground truth that no network can be trained on."""


class GroundTruthWarning(UserWarning):
    """A ground truth was left out or changed."""


@dataclass(frozen=True)
class Fault:
    """What is wrong with one ground truth of an image: its index, its values and the first reason found."""

    index: int
    box: tuple[float, float, float, float]
    label: int
    reason: str

    def __str__(self) -> str:
        corners = ", ".join(f"{corner:g}" for corner in self.box)
        return f"ground truth {self.index} [{corners}] with label {self.label}: {self.reason}"


def fault_mask(
    boxes: Tensor,
    labels: Tensor,
    *,
    num_columns: int | None = None,
    background: int | None = None,
    size: tuple[float, float] | None = None,
    slack: float = 1.0,
) -> Tensor:
    """bool [G]: the ground truths that `find_faults`, which has the same arguments, would name. Syncs: never."""
    conditions = _conditions(boxes, labels, num_columns, background, size, slack)
    return torch.stack([mask for mask, _ in conditions]).any(0)


def find_faults(
    boxes: Tensor,
    labels: Tensor,
    *,
    num_columns: int | None = None,
    background: int | None = None,
    size: tuple[float, float] | None = None,
    slack: float = 1.0,
) -> list[Fault]:
    """The ground truths of an image that are not fit for training.

    Args:
        boxes: [G, 4] xyxy, any floating-point dtype; faulty are those not finite, without width or height, and out of
            the image.
        labels: [G] int64; faulty are those that are no column, and the background.
        num_columns: C of cls_logits; None: any label from 0 up.
        background: the column that is no class; None: there is none.
        size: (height, width) of the image in the unit of the boxes; None: boxes may lie anywhere.
        slack: how far a box may reach out of the image, in the unit of the boxes: annotations are rounded.
    Syncs: once, and again to read what is faulty.
    """
    mask = fault_mask(boxes, labels, num_columns=num_columns, background=background, size=size, slack=slack)
    indices = mask.nonzero()[:, 0].tolist()
    conditions = _conditions(boxes, labels, num_columns, background, size, slack) if indices else []
    return [
        Fault(
            index,
            tuple(boxes[index].tolist()),  # type: ignore[arg-type]
            int(labels[index]),
            next(reason for mask, reason in conditions if mask[index]),
        )
        for index in indices
    ]


def apply_policy(
    boxes: Tensor,
    labels: Tensor,
    policy: Policy,
    where: str,
    *,
    num_columns: int | None = None,
    background: int | None = None,
    size: tuple[float, float] | None = None,
    slack: float = 1.0,
) -> tuple[Tensor, Tensor, list[Fault]]:
    """Raises for faulty ground truths of an image, or makes the rest fit for training.

    Args:
        policy: "raise"; "drop": those are left out; "clip": those are cut off at the image, if size is given, and left
            out only if they are faulty even so. Boxes without fault stay as they are.
        where: names the image in messages. Other arguments: as for find_faults.
    Returns: (boxes [K, 4], keep int64 [K], faults): the boxes left, which of the given ones they are, what was found.
    Raises: GroundTruthError naming where, index, values and reason (policy "raise"); ValueError: an unknown policy.
    """
    if policy not in _POLICIES:
        raise ValueError(f"ground truth: policy: expected one of {', '.join(_POLICIES)}, got {policy!r}")
    options = {"num_columns": num_columns, "background": background, "size": size, "slack": slack}
    faults = find_faults(boxes, labels, **options)  # type: ignore[arg-type]
    if faults and policy == "raise":
        raise GroundTruthError(describe(faults, where))
    faulty = torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    faulty[[fault.index for fault in faults]] = True
    if policy == "clip" and size is not None:
        finite = boxes.isfinite().all(1)  # an infinite corner is a mistake, not a box that reaches out
        boxes = torch.where((faulty & finite)[:, None], clip_boxes(boxes, size), boxes)
        faulty = fault_mask(boxes, labels, **options)  # type: ignore[arg-type]
    keep = (~faulty).nonzero()[:, 0]
    return boxes[keep], keep, faults


def warn(faults: Sequence[Fault], where: str, done: str) -> None:
    """One GroundTruthWarning for the faults of an image; nothing without faults."""
    if faults:
        warnings.warn(f"{describe(faults, where)} ({done})", GroundTruthWarning, stacklevel=3)


def describe(faults: Sequence[Fault], where: str) -> str:
    """One line that names the image and its faulty ground truths, the first few of many."""
    more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
    return f"{where}: {'; '.join(map(str, faults[:_SHOWN]))}{more}"


def _conditions(
    boxes: Tensor,
    labels: Tensor,
    num_columns: int | None,
    background: int | None,
    size: tuple[float, float] | None,
    slack: float,
) -> list[tuple[Tensor, str]]:
    """What can be wrong, as a mask [G] and its name, the most telling first."""
    x1, y1, x2, y2 = boxes.unbind(1)
    conditions = [
        (~boxes.isfinite().all(1), "not finite"),
        (x2 <= x1, "no width: x2 is not right of x1"),
        (y2 <= y1, "no height: y2 is not below y1"),
    ]
    if size is not None:
        height, width = size
        outside = (x1 < -slack) | (y1 < -slack) | (x2 > width + slack) | (y2 > height + slack)
        conditions.append((outside, f"reaches out of the image, which is {width:g} wide and {height:g} high"))
        # A sliver within the slack: nothing of it is left at the image's edge.
        beside = (x1 >= width) | (y1 >= height) | (x2 <= 0) | (y2 <= 0)
        conditions.append((beside, f"lies beside the image, which is {width:g} wide and {height:g} high"))
    if num_columns is not None:
        conditions.append(((labels < 0) | (labels >= num_columns), f"the label is not in [0, {num_columns})"))
    else:
        conditions.append((labels < 0, "the label is negative"))
    if background is not None:
        conditions.append((labels == background, "the label is the background's"))
    return conditions


def clip_boxes(boxes: Tensor, size: tuple[float, float]) -> Tensor:
    """Boxes [G, 4] cut off at the edges of an image of the size (height, width)."""
    height, width = size
    limits = boxes.new_tensor([width, height, width, height])
    return boxes.clamp(min=0).minimum(limits)
