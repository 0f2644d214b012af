"""Checks of the adapters' arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .._checks import as_int, number, require


def tensor(value: Any, op: str, argument: str, shape: Sequence[int | str] | None = None) -> Tensor:
    """Check that a value is a tensor, and its shape if one is given; named sides may have any length.

    Raises:
        TypeError: not a tensor; the message names op, argument, the expected value and the given one.
        ValueError: another shape; the message names the same.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"{op}: {argument}: expected a torch tensor, got {type(value).__name__}")
    if shape is None:
        return value
    fits = value.ndim == len(shape) and all(
        isinstance(side, str) or side == given for side, given in zip(shape, value.shape, strict=True)
    )
    if not fits:
        raise ValueError(f"{op}: {argument}: expected shape [{', '.join(map(str, shape))}], got {list(value.shape)}")
    return value


def share(op: str, argument: str, value: object) -> float:
    """Check an IoU threshold."""
    return number(op, argument, value, "a number in (0, 1]", lambda x: 0 < x <= 1)


def check_background_label(op: str, bkg_label: object) -> None:
    """Raise ValueError unless the background label is 0."""
    require(as_int(bkg_label) == 0, op, "bkg_label", "0, the only value that the original supports", bkg_label)


def float32(value: Tensor) -> Tensor:
    """Detach a tensor and convert it to the dtype of the kernels."""
    return value.detach().to(torch.float32)
