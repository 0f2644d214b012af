"""The devices that users name, and moving a network to one."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from .._checks import require

__all__ = ["known_device", "move_to"]


def known_device(owner: str, value: Any) -> torch.device:
    """The CPU or a CUDA device.

    Raises:
        ValueError: the message names owner and device: another one, or not a device.
    """
    try:
        device = torch.device(value)
    except (RuntimeError, TypeError, ValueError):
        device = None
    require(device is not None and device.type in ("cpu", "cuda"), owner, "device", "cpu or cuda", value)
    assert device is not None
    return device


def move_to(network: nn.Module, device: torch.device, owner: str) -> None:
    """Moves the network.

    Raises:
        RuntimeError: the message names owner and device: it cannot be used here.
    """
    try:
        network.to(device)
    except (AssertionError, RuntimeError) as error:  # AssertionError: a torch without CUDA
        reason = str(error).partition("\n")[0]
        raise RuntimeError(f"{owner}: device: expected one that torch can use, got {device}: {reason}") from error
