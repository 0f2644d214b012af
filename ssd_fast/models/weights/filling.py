"""Fill a network from the tensors of a file, if they fit it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ..network import SSDNetwork
from .mismatch import differences, explanation

__all__ = ["fill", "require_fit"]


def fill(model: nn.Module, tensors: Mapping[str, Tensor], path: Path, exclude: tuple[str, ...], op: str) -> None:
    """Copy the tensors into the model, all but those with excluded prefixes. Raise ValueError, as require_fit."""
    require_fit(model, tensors, path, exclude, op)
    with torch.no_grad():
        for name, parameter in model.state_dict().items():
            if name in tensors and not name.startswith(exclude):
                parameter.copy_(tensors[name])


def require_fit(model: nn.Module, tensors: Mapping[str, Tensor], path: Path, exclude: tuple[str, ...], op: str) -> None:
    """Raise ValueError unless the tensors match the model's names and shapes, excluded prefixes aside."""
    given = {name: tensor for name, tensor in tensors.items() if not name.startswith(exclude)}
    wanted = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(exclude)}
    if found := differences(given, wanted):
        columns = model.num_classes if isinstance(model, SSDNetwork) else None
        text = explanation(given, wanted, found, columns)
        raise ValueError(f"{op}: {path} does not fit {type(model).__name__}: {text}")
