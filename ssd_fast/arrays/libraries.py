"""Tell which library an array belongs to, and whether it has a value in memory for every element."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, TypeVar

import numpy as np
import torch

Array = TypeVar("Array")  # of one library: ops return arrays of the library that they are given

_KINDS = {
    "torch": "a torch tensor",
    "numpy": "a NumPy array",
    "cupy": "a CuPy array",
    "numba": "a Numba device array",
}


def library_of(array: Any, op: str, argument: str) -> str:
    """Name the library of an array that has a value in memory for every element.

    Returns:
        "torch", "numpy", "cupy" or "numba".

    Raises:
        TypeError: not an array; a sparse, quantized or nested tensor; a masked array. The message names op and
            argument.
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
    """Say in the words of a message why an array lacks a plain value in memory for some element; None: it has them all.

    A tensor of the meta device, which stands for one with values, passes.
    """
    if isinstance(array, torch.Tensor):
        if array.layout is not torch.strided or array.is_nested or array.is_quantized:
            kind = "nested" if array.is_nested else "quantized" if array.is_quantized else str(array.layout)[6:]
            return f"expected a dense tensor, got a {kind} one"
    elif isinstance(array, np.ma.MaskedArray):
        return "expected an array without a mask, got a MaskedArray"
    return None


def library_name(array: Any) -> str | None:
    """Name the library of an array, as library_of does but without its checks; None: not an array."""
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


def require_same_library(
    op: str, named: dict[str, Any], optional: Collection[str] = (), lists: Collection[str] = ()
) -> None:
    """Require arrays of one library, and torch tensors of one device.

    Args:
        op: the op, for messages.
        named: the arrays by the names of the op's arguments.
        optional: the names that may be None.
        lists: the names that stand for lists of arrays.

    Raises:
        TypeError: not an array that kernels can read, or one of another library than the first.
        ValueError: a tensor on another device than the first, or on neither a CPU nor a CUDA GPU.
    """
    pairs = named_arrays(named, optional, lists)
    first_name, first = next(pairs)
    library = library_of(first, op, first_name)
    if library == "torch" and first.device.type not in ("cpu", "cuda", "meta"):
        raise ValueError(f"{op}: {first_name}: expected a tensor on the CPU or a CUDA GPU, got {first.device}")
    for name, array in pairs:
        if (given := library_of(array, op, name)) != library:
            raise TypeError(f"{op}: {name}: expected {_KINDS[library]}, as {first_name} is, got {_KINDS[given]}")
        if library == "torch" and array.device != first.device:
            raise ValueError(f"{op}: {name}: expected device {first.device}, as of {first_name}, got {array.device}")


def named_arrays(named: dict[str, Any], optional: Collection[str], lists: Collection[str]) -> Iterator[tuple[str, Any]]:
    for name, value in named.items():
        if name in lists:
            yield from ((f"{name}[{index}]", item) for index, item in enumerate(value))
        elif value is not None or name not in optional:
            yield name, value
