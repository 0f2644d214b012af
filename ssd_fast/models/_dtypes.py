"""Code that runs with float32 as torch's default dtype, whatever the program has chosen."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

__all__ = ["float32_by_default"]


@contextlib.contextmanager
def float32_by_default() -> Iterator[None]:
    """Make float32 torch's default in a block, for code that names no dtype: torch's modules, torchvision's transforms.

    The default applies to the whole process (see torch.set_default_dtype): wherever possible, name the dtype instead.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
