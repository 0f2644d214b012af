"""What the adapters check about their arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def tensor(value: Any, op: str, argument: str, shape: Sequence[int | str]) -> Tensor:
    """value, a tensor of the shape, whose named sides may have any length.

    Raises: TypeError, ValueError naming op, argument, what was expected and what was given.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"{op}: {argument}: expected a torch tensor, got {type(value).__name__}")
    fits = value.ndim == len(shape) and all(
        isinstance(side, str) or side == given for side, given in zip(shape, value.shape, strict=True)
    )
    if not fits:
        raise ValueError(f"{op}: {argument}: expected shape [{', '.join(map(str, shape))}], got {list(value.shape)}")
    return value


def require(condition: bool, op: str, argument: str, expected: str, given: object) -> None:
    """Raises ValueError naming op, argument, what was expected and what was given, unless the condition holds."""
    if not condition:
        raise ValueError(f"{op}: {argument}: expected {expected}, got {given!r}")


def float32(value: Tensor) -> Tensor:
    """Without gradient, in the dtype that the kernels compute in."""
    return value.detach().to(torch.float32)
