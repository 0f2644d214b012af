"""Allocate, copy and convert arrays of any library. The kernels themselves do not care which library it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from .. import _backend
from .errors import allocation_error
from .libraries import library_name

BOX_BYTES = 16  # kernels load boxes 16 bytes at a time (csrc/common/box_math.h)

_NO_BYTES = torch.empty(0, dtype=torch.uint8, device="cpu")
_MOST_COPIED = 2**31  # elements that are copied without being asked: a copy of an expanded array may outgrow memory


def empty(shape: Sequence[int], dtype: str, like: Any, op: str) -> Any:
    """Return an uninitialized array of the library and device of `like`; dtype is a name such as "float32"."""
    try:
        if isinstance(like, torch.Tensor):
            sizes: Any = shape or ((),)  # torch parses separate sizes in half the time of a tuple
            return torch.empty(*sizes, dtype=getattr(torch, dtype), device=like.device)
        library = library_name(like)
        if library == "numpy":
            return np.empty(tuple(shape), dtype)
        if library == "cupy":
            import cupy

            with like.device:
                return cupy.empty(tuple(shape), dtype)
        from numba import cuda

        with cuda.gpus[_backend.C.gpu_of(like)]:
            return cuda.device_array(tuple(shape), dtype, stream=like.stream)
    except Exception as error:
        raise allocation_error(op, error, math.prod(shape) * getattr(torch, dtype).itemsize) from error


def workspace(num_bytes: int, like: Any, op: str) -> Any:
    """Allocate memory for the kernels that run on `like`. On the CPU they need none, and none is allocated."""
    if num_bytes == 0 and isinstance(like, torch.Tensor) and like.is_cpu:
        return _NO_BYTES
    return empty((num_bytes,), "uint8", like, op)


def from_list(values: Sequence[Any], dtype: str, like: Any, op: str) -> Any:
    """Return an array of the given values, of the library and device of `like`. Copies to the device."""
    library = library_name(like)
    host = np.array(list(values), dtype)
    try:
        if library == "torch":
            return torch.from_numpy(host).to(like.device)
        if library == "numpy":
            return host
        if library == "cupy":
            import cupy

            with like.device:
                return cupy.asarray(host)
        from numba import cuda

        with cuda.gpus[_backend.C.gpu_of(like)]:
            return cuda.to_device(host, stream=like.stream)
    except Exception as error:
        raise allocation_error(op, error, host.nbytes) from error


def concatenate(parts: Sequence[Any], like: Any, op: str) -> Any:
    """Join the rows of all parts, in the library of `like`; without parts, return an empty float32 [0, 4]."""
    library = library_name(like)
    if not parts:
        return empty((0, 4), "float32", like, op)
    if library == "numba":
        raise TypeError("concatenate: Numba arrays cannot be joined on the device: give packed (boxes, offsets)")
    try:
        if library == "torch":
            return torch.cat(list(parts))
        if library == "numpy":
            return np.concatenate(parts, dtype=parts[0].dtype)  # else the result has the machine's byte order
        import cupy

        return cupy.concatenate(parts)
    except Exception as error:
        raise allocation_error(op, error, sum(part.nbytes for part in parts)) from error


def strided(array: Any, op: str, argument: str) -> Any:
    """Return the array itself if kernels can load its elements from its memory, else a copy."""
    if isinstance(array, torch.Tensor):
        array = _plain_values(array)
    return array if _is_aligned(array, 1) else _copy(array, op, argument)


def contiguous(array: Any, op: str, argument: str, alignment: int = 1) -> Any:
    """Return the array in row-major order, at a multiple of its element size and of `alignment` bytes.

    An array that is so already is returned as it is; any other is copied.

    Raises:
        ValueError: a Numba array, or one of more than 2**31 elements, would have to be copied.
    """
    if isinstance(array, np.ndarray):
        in_order = array.flags.c_contiguous
    elif isinstance(array, torch.Tensor):
        array = _plain_values(array)
        in_order = array.is_contiguous()
    else:
        in_order = _is_row_major(array) if library_name(array) == "numba" else array.flags.c_contiguous
    return array if in_order and _is_aligned(array, alignment) else _copy(array, op, argument)


def _plain_values(tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor without a gradient, and with its values in memory rather than their negatives."""
    if tensor.requires_grad:
        tensor = tensor.detach()
    return tensor.resolve_neg() if tensor.is_neg() else tensor


def _is_row_major(array: Any) -> bool:
    """Return whether elements follow each other in row-major order.

    Numba's own flag is False for an axis of one element with another stride, as in to_device(x[None]), though nothing
    steps along it.
    """
    expected = array.dtype.itemsize
    for size, stride in zip(reversed(array.shape), reversed(array.strides), strict=True):
        if size != 1 and stride != expected:
            return 0 in array.shape
        expected *= size
    return True


def _is_aligned(array: Any, alignment: int) -> bool:
    if isinstance(array, np.ndarray):
        # NumPy's flag covers address and strides as elements need them. Getting the address takes a microsecond, and
        # an array that is not a view has the address that malloc returned.
        if not array.flags.aligned:
            return False
        return alignment == 1 or array.base is None or array.__array_interface__["data"][0] % alignment == 0
    if isinstance(array, torch.Tensor):
        address = array.data_ptr()
        if address == 0:  # zeros without memory (torch._efficientzerotensor); a copy has memory
            return array.numel() == 0
        return address % BOX_BYTES == 0 or address % max(array.element_size(), alignment) == 0
    return array.__cuda_array_interface__["data"][0] % max(array.dtype.itemsize, alignment) == 0


def _copy(array: Any, op: str, argument: str) -> Any:
    """Copy the array to fresh memory, in row-major order."""
    library = library_name(array)
    if library == "numba":
        raise ValueError(
            f"{op}: {argument}: expected a contiguous, aligned Numba array (Numba has no device copy), got another one"
        )
    if (fault := copy_fault(array)) is not None:
        raise ValueError(f"{op}: {argument}: {fault}")
    try:
        if library == "torch":
            return array.clone(memory_format=torch.contiguous_format)
        # Not array.copy: the copy of a NumPy matrix has two dimensions, whatever the matrix has.
        return np.array(array, order="C") if library == "numpy" else array.copy(order="C")
    except Exception as error:
        raise allocation_error(op, error, math.prod(array.shape) * array.dtype.itemsize) from error


def copy_fault(array: Any) -> str | None:
    """Say why an array must not be copied without being asked, in the words of a message; None: it may be copied."""
    if math.prod(array.shape) <= _MOST_COPIED:
        return None
    expected = "a contiguous, aligned array, since copying more than 2**31 elements must be asked for"
    return f"expected {expected}, got shape {list(array.shape)}"


def dimension(array: Any, index: int) -> int:
    """Return array.shape[index], or 0 without such a dimension: outputs are allocated before arguments are checked."""
    shape = array.shape
    return int(shape[index]) if -len(shape) <= index < len(shape) else 0


def dtype_name(array: Any) -> str:
    """Name the dtype, such as "float32", whatever the library."""
    return str(array.dtype).removeprefix("torch.")


def trim(array: Any, count: Any) -> Any:
    """Return array[:count], where count is an array of one element.

    Syncs:
        Once, to read the count.
    """
    return array[: count.item() if isinstance(count, torch.Tensor) else int(count[0])]
