"""What the adapters check about their arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .._checks import as_int, number, require


def tensor(value: Any, op: str, argument: str, shape: Sequence[int | str] | None = None) -> Tensor:
    """value, a tensor, of the shape if one is given, whose named sides may have any length.

    Raises:
        TypeError: the message names op, argument, what was expected and what was given.
        ValueError: the message names op, argument, what was expected and what was given.
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
    """A threshold of IoUs."""
    return number(op, argument, value, "a number in (0, 1]", lambda x: 0 < x <= 1)


def check_background_label(op: str, bkg_label: object) -> None:
    """Raises: ValueError: not 0."""
    require(as_int(bkg_label) == 0, op, "bkg_label", "0, the only one that the original computes", bkg_label)


def float32(value: Tensor) -> Tensor:
    """Without gradient, in the dtype that the kernels compute in."""
    return value.detach().to(torch.float32)
