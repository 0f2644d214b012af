"""Check the device that a user names, and move a network to it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from .._checks import require

__all__ = ["known_device", "move_to"]


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
