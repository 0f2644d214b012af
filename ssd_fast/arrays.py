"""Arrays of any library: which one it is, and how to allocate like it. The kernels themselves do not care."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch


def library_of(array: Any, op: str, argument: str) -> str:
    """ "torch", "numpy", "cupy" or "numba". Raises: TypeError for anything else, naming op and argument."""
    if isinstance(array, torch.Tensor):
        return "torch"
    if isinstance(array, np.ndarray):
        return "numpy"
    root = type(array).__module__.partition(".")[0]
    if root == "cupy":
        return "cupy"
    if root in ("numba", "numba_cuda") and hasattr(array, "__cuda_array_interface__"):
        return "numba"
    expected = "a torch tensor, or a NumPy, CuPy or Numba device array"
    raise TypeError(f"{op}: {argument}: expected {expected}, got {type(array).__name__}")


def empty(shape: Sequence[int], dtype: str, like: Any) -> Any:
    """An uninitialised array of the library and device of `like`; dtype is a name such as "float32"."""
    library = library_of(like, "empty", "like")
    if library == "torch":
        return torch.empty(tuple(shape), dtype=getattr(torch, dtype), device=like.device)
    if library == "numpy":
        return np.empty(tuple(shape), dtype)
    if library == "cupy":
        import cupy

        with like.device:
            return cupy.empty(tuple(shape), dtype)
    from numba import cuda

    return cuda.device_array(tuple(shape), dtype)


def from_list(values: Sequence[Any], dtype: str, like: Any) -> Any:
    """An array of the given values, of the library and device of `like`. Copies to the device."""
    library = library_of(like, "from_list", "like")
    host = np.array(list(values), dtype)
    if library == "torch":
        return torch.from_numpy(host).to(like.device)
    if library == "numpy":
        return host
    if library == "cupy":
        import cupy

        with like.device:
            return cupy.asarray(host)
    from numba import cuda

    return cuda.to_device(host)


def concatenate(parts: Sequence[Any], like: Any) -> Any:
    """The rows of all parts, of the library of `like`; without parts an empty float32 [0, 4]."""
    library = library_of(like, "concatenate", "like")
    if not parts:
        return empty((0, 4), "float32", like=like)
    if library == "torch":
        return torch.cat(list(parts))
    if library == "numpy":
        return np.concatenate(parts)
    if library == "cupy":
        import cupy

        return cupy.concatenate(parts)
    raise TypeError("concatenate: Numba arrays cannot be joined on the device: give packed (boxes, offsets)")


def strided(array: Any, op: str, argument: str) -> Any:
    """The array as its memory stands: torch's without grad and without a pending negation."""
    if library_of(array, op, argument) != "torch":
        return array
    return (array.detach() if array.requires_grad else array).resolve_neg()


def contiguous(array: Any, op: str, argument: str) -> Any:
    """The array in row-major order: itself where it is so already."""
    library = library_of(array, op, argument)
    if library == "torch":
        return strided(array, op, argument).contiguous()
    if library != "numba":
        return array if array.flags.c_contiguous else array.copy(order="C")
    if not array.is_c_contiguous():
        raise ValueError(
            f"{op}: {argument}: expected a contiguous Numba array (Numba has no device copy), got a strided one"
        )
    return array


def dimension(array: Any, index: int) -> int:
    """array.shape[index], 0 where there is no such dimension: outputs are allocated before arguments are checked."""
    shape = array.shape
    return int(shape[index]) if -len(shape) <= index < len(shape) else 0


def dtype_name(array: Any) -> str:
    """Such as "float32", whatever the library."""
    return str(array.dtype).removeprefix("torch.")


def trim(array: Any, count: Any) -> Any:
    """array[:count] with count an array of one element. Syncs: once, to read it."""
    return array[: int(count[0])]
