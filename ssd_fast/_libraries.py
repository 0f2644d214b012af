"""Which library an array is of, and whether it has a value in memory for every element."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def library_of(array: Any, op: str, argument: str) -> str:
    """Name the library of an array that has a value in memory for every element.

    Returns: "torch", "numpy", "cupy" or "numba".
    Raises: TypeError naming op and argument: not an array; a sparse, quantized or nested tensor; a masked array.
    """
    if type(array) is np.ndarray:
        return "numpy"
    library = "torch" if type(array) is torch.Tensor else library_name(array)
    if library is None:
        expected = "a torch tensor, or a NumPy, CuPy or Numba device array"
        raise TypeError(f"{op}: {argument}: expected {expected}, got {type(array).__name__}")
    if (fault := value_fault(array)) is not None:
        raise TypeError(f"{op}: {argument}: {fault}")
    return library


def value_fault(array: Any) -> str | None:
    """Why an array or tensor has no plain value in memory for every element, in the words of a message; None: it has.

    A tensor of the meta device, which stands for one that has, passes.
    """
    if isinstance(array, torch.Tensor):
        if array.layout is not torch.strided or array.is_nested or array.is_quantized:
            kind = "nested" if array.is_nested else "quantized" if array.is_quantized else str(array.layout)[6:]
            return f"expected a dense tensor, got a {kind} one"
    elif isinstance(array, np.ma.MaskedArray):
        return "expected an array without a mask, got a MaskedArray"
    return None


def library_name(array: Any) -> str | None:
    """As library_of, unchecked; None: not an array."""
    if isinstance(array, np.ndarray):
        return "numpy"
    if isinstance(array, torch.Tensor):
        return "torch"
    root = type(array).__module__.partition(".")[0]
    if root == "cupy" and hasattr(array, "__cuda_array_interface__"):
        return "cupy"
    if root in ("numba", "numba_cuda") and hasattr(array, "__cuda_array_interface__"):
        return "numba"
    return None
