"""Make networks whose parameters are not initialized, because a file fills them or only their shapes matter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import init
from torch.overrides import TorchFunctionMode

__all__ = ["NothingDrawn", "without_weights"]

# All others of nn.init call these.
_DRAWING = (torch.Tensor.normal_, torch.Tensor.uniform_, init.normal_, init.uniform_, init.kaiming_uniform_)


@contextmanager
def without_weights() -> Iterator[None]:
    """Make networks on the meta device, where their parameters have shapes but no values."""
    with torch.device("meta"), NothingDrawn():
        yield


class NothingDrawn(TorchFunctionMode):
    """Draws no initial values of parameters, for networks that are about to be filled from a file.

    On the meta device, torch would import its compiler for that, which takes a second.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        tensor = args[0] if args else (kwargs or {}).get("tensor")
        if func in _DRAWING and isinstance(tensor, nn.Parameter):
            return tensor
        return func(*args, **(kwargs or {}))
