"""float32, whatever dtype a program has made torch's default."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

__all__ = ["float32_by_default"]


@contextlib.contextmanager
def float32_by_default() -> Iterator[None]:
    """Makes float32 torch's default meanwhile, for code that names no dtype: torch's modules, torchvision's transforms.

    The default is the whole process's, as torch.set_default_dtype says: name the dtype instead wherever that can be.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
