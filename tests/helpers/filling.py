"""Fills new memory with one repeated byte, so that reading uninitialized memory changes the result."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from ssd_fast import arrays
from ssd_fast.ops.default_boxes import _kept


@contextlib.contextmanager
def filled(byte: int) -> Iterator[None]:
    """Let `arrays.empty`, which allocates all outputs and workspaces, fill its arrays with this byte."""
    allocate = arrays.empty

    def empty(*args: Any, **options: Any) -> Any:
        return _fill(allocate(*args, **options), byte)

    arrays.empty = empty
    _kept.cache_clear()
    try:
        yield
    finally:
        arrays.empty = allocate


def _fill(array: Any, byte: int) -> Any:
    if isinstance(array, torch.Tensor):
        array.reshape(-1).view(torch.uint8).fill_(byte)
    elif hasattr(array, "copy_to_device"):  # Numba's
        array.copy_to_device(np.full(array.nbytes, byte, np.uint8).view(array.dtype).reshape(array.shape))
    else:
        array.reshape(-1).view("uint8")[...] = byte
    return array
