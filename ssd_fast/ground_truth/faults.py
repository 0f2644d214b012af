"""Find faults of ground truths and name them, before they can become a NaN loss."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict, Unpack

import torch
from torch import Tensor

from .._io.text import message_line

__all__ = [
    "Fault",
    "GroundTruthError",
    "GroundTruthWarning",
    "Policy",
    "Rules",
    "clip_boxes",
    "describe",
    "fault_mask",
    "find_faults",
    "refuse_faults",
    "warn",
]

Policy = Literal["raise", "drop", "clip"]

_SHOWN = 5  # faults that a message lists


class _OneLine:
    """Makes an exception's message one printable line, because it quotes annotation files."""

    def __init__(self, message: object = "") -> None:
        super().__init__(message_line(message))  # type: ignore[call-arg]


class GroundTruthError(_OneLine, ValueError):
    """A ground truth that no network can be trained on."""


class GroundTruthWarning(_OneLine, UserWarning):
    """A ground truth was left out or changed."""


@dataclass(frozen=True)
class Fault:
    """A fault of one ground truth of an image.

    Attributes:
        index: of the ground truth within its image.
        box: its corners xyxy.
        label: its label.
        reason: the first fault found.
    """

    index: int
    box: tuple[float, float, float, float]
    label: int
    reason: str

    def __str__(self) -> str:
        corners = ", ".join(f"{corner:g}" for corner in self.box)
        return f"ground truth {self.index} [{corners}] with label {self.label}: {self.reason}"


class Rules(TypedDict, total=False):
    """The rules for a ground truth, besides being finite and having width and height.

    Attributes:
        num_columns: C of cls_logits; None: any label from 0 up.
        background: the column that is not a class; None: there is no such column.
        size: (height, width) of the image in the unit of the boxes; None: boxes may lie anywhere.
        slack: how far a box may reach out of the image, in the unit of the boxes (default 1): annotations are rounded.
    """

    num_columns: int | None
    background: int | None
    size: tuple[float, float] | None
    slack: float


def fault_mask(boxes: Tensor, labels: Tensor, **rules: Unpack[Rules]) -> Tensor:
    """Return bool [G], which ground truths `find_faults` would name for the same arguments.

    Syncs:
        Never.
    """
    return torch.stack([mask for mask, _ in _conditions(boxes, labels, **rules)]).any(0)


def find_faults(boxes: Tensor, labels: Tensor, **rules: Unpack[Rules]) -> list[Fault]:
    """Find the ground truths of an image that are not fit for training.

    Args:
        boxes: [G, 4] xyxy, any floating-point dtype; boxes that are not finite, have no width or height, or lie outside
            the image are faulty.
        labels: [G] int64; labels that are not a column, or are the background, are faulty.
        rules: see Rules.

    Syncs:
        Once, and again to read what is faulty.

    Examples:
        >>> import torch
        >>> from ssd_fast.ground_truth import find_faults
        >>> boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [4.0, 0.0, 4.0, 4.0]])
        >>> [str(fault) for fault in find_faults(boxes, torch.tensor([1, 1]))]
        ['ground truth 1 [4, 0, 4, 4] with label 1: no width: x2 is not right of x1']
    """
    indices = fault_mask(boxes, labels, **rules).nonzero()[:, 0].tolist()
    conditions = _conditions(boxes, labels, **rules) if indices else []
    return [
        Fault(
            index,
            tuple(boxes[index].tolist()),  # type: ignore[arg-type]
            int(labels[index]),
            next(reason for mask, reason in conditions if mask[index]),
        )
        for index in indices
    ]


def refuse_faults(
    boxes: Sequence[Tensor],
    labels: Sequence[Tensor],
    names: Sequence[str],
    error: type[GroundTruthError] = GroundTruthError,
    **rules: Unpack[Rules],
) -> None:
    """Raise `error` for the first of several images that has faulty ground truths, naming the image.

    Syncs:
        Once.
    """
    if boxes and fault_mask(torch.cat(tuple(boxes)), torch.cat(tuple(labels)), **rules).any():
        for image_boxes, image_labels, name in zip(boxes, labels, names, strict=True):
            if faults := find_faults(image_boxes, image_labels, **rules):
                raise error(describe(faults, name))


def warn(faults: Sequence[Fault], where: str, done: str) -> None:
    """Issue one GroundTruthWarning for the faults of an image; none without faults."""
    if faults:
        warnings.warn(f"{describe(faults, where)} ({done})", GroundTruthWarning, stacklevel=3)


def describe(faults: Sequence[Fault], where: str) -> str:
    """Name an image and its faulty ground truths in one line, only the first few of many."""
    more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
    return f"{where}: {'; '.join(map(str, faults[:_SHOWN]))}{more}"


def _conditions(
    boxes: Tensor,
    labels: Tensor,
    num_columns: int | None = None,
    background: int | None = None,
    size: tuple[float, float] | None = None,
    slack: float = 1.0,
) -> list[tuple[Tensor, str]]:
    """List possible faults, each as a mask [G] and its name, the most telling first."""
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
        # A sliver within the slack: cut off at the image's edge, nothing of it would be left.
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
    """Cut boxes [G, 4] off at the edges of an image of the size (height, width)."""
    height, width = size
    limits = boxes.new_tensor([width, height, width, height])
    return boxes.clamp(min=0).minimum(limits)
