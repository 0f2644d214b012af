"""Check the device that a user names, move a network to it, and make networks without memory for their weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from .._checks import require

__all__ = ["known_device", "move_to", "without_weights"]


def known_device(owner: str, value: Any) -> torch.device:
    """Parse the name of the CPU or of a CUDA device.

    Raises:
        ValueError: another device, or not a device; the message names owner and device.
    """
    try:
        device = torch.device(value)
    except (RuntimeError, TypeError, ValueError):
        device = None
    require(device is not None and device.type in ("cpu", "cuda"), owner, "device", "cpu or cuda", value)
    assert device is not None
    return device


def move_to(network: nn.Module, device: torch.device, owner: str) -> None:
    """Move the network to a device.

    Raises:
        RuntimeError: the device cannot be used here; the message names owner and device.
    """
    try:
        network.to(device)
    except (AssertionError, RuntimeError) as error:  # AssertionError: a torch without CUDA
        reason = str(error).partition("\n")[0]
        raise RuntimeError(f"{owner}: device: expected a device that torch can use, got {device}: {reason}") from error


@contextmanager
def without_weights() -> Iterator[None]:
    """Make networks on the meta device, where their parameters have shapes but no values."""
    with torch.device("meta"), _NothingDrawn():
        yield


class _NothingDrawn(TorchFunctionMode):
    """Draws no initial values: on the meta device, torch would import its compiler for that, which takes a second."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in (torch.Tensor.normal_, torch.Tensor.uniform_):
            return args[0]
        return func(*args, **(kwargs or {}))
