"""Arrays of any library: which one it is, and how to allocate like it. The kernels themselves do not care."""

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
_MOST_COPIED = 2**31  # elements of an array that is copied without being asked: an expanded one may outgrow the memory


def empty(shape: Sequence[int], dtype: str, like: Any, op: str) -> Any:
    """An uninitialized array of the library and device of `like`; dtype is a name such as "float32"."""
    try:
        if isinstance(like, torch.Tensor):
            sizes: Any = shape or ((),)  # torch parses separate sizes in half the time that it takes for a tuple
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
    """Memory for the kernels that run on `like`. On the CPU they need none, and none is allocated."""
    if num_bytes == 0 and isinstance(like, torch.Tensor) and like.is_cpu:
        return _NO_BYTES
    return empty((num_bytes,), "uint8", like, op)


def from_list(values: Sequence[Any], dtype: str, like: Any, op: str) -> Any:
    """An array of the given values, of the library and device of `like`. Copies to the device."""
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
    """The rows of all parts, of the library of `like`; without parts an empty float32 [0, 4]."""
    library = library_name(like)
    if not parts:
        return empty((0, 4), "float32", like, op)
    if library == "numba":
        raise TypeError("concatenate: Numba arrays cannot be joined on the device: give packed (boxes, offsets)")
    try:
        if library == "torch":
            return torch.cat(list(parts))
        if library == "numpy":
            return np.concatenate(parts, dtype=parts[0].dtype)  # else of the machine's byte order, which is another
        import cupy

        return cupy.concatenate(parts)
    except Exception as error:
        raise allocation_error(op, error, sum(part.nbytes for part in parts)) from error


def strided(array: Any, op: str, argument: str) -> Any:
    """The array as its memory stands, if kernels can load its elements from there; else a copy."""
    if isinstance(array, torch.Tensor):
        array = _plain_values(array)
    return array if _is_aligned(array, 1) else _copy(array, op, argument)


def contiguous(array: Any, op: str, argument: str, alignment: int = 1) -> Any:
    """The array in row-major order, at an address that is a multiple of its element size and of `alignment` bytes.

    Itself where that is so already, else a copy.

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
    """The tensor without a gradient, and with the values that its memory holds, not their negatives."""
    if tensor.requires_grad:
        tensor = tensor.detach()
    return tensor.resolve_neg() if tensor.is_neg() else tensor


def _is_row_major(array: Any) -> bool:
    """Whether elements follow each other in row-major order. Numba's own flag is False for an axis of one element that
    has another stride, as in to_device(x[None]), though nothing steps along it."""
    expected = array.dtype.itemsize
    for size, stride in zip(reversed(array.shape), reversed(array.strides), strict=True):
        if size != 1 and stride != expected:
            return 0 in array.shape
        expected *= size
    return True


def _is_aligned(array: Any, alignment: int) -> bool:
    if isinstance(array, np.ndarray):
        # NumPy's flag covers what elements need, in address and strides. The address takes a microsecond to get, and
        # an array that is not a view has the address that malloc gave it.
        if not array.flags.aligned:
            return False
        return alignment == 1 or array.base is None or array.__array_interface__["data"][0] % alignment == 0
    if isinstance(array, torch.Tensor):
        address = array.data_ptr()
        if address == 0:  # of zeros without memory (torch._efficientzerotensor), which a copy has
            return array.numel() == 0
        return address % BOX_BYTES == 0 or address % max(array.element_size(), alignment) == 0
    return array.__cuda_array_interface__["data"][0] % max(array.dtype.itemsize, alignment) == 0


def _copy(array: Any, op: str, argument: str) -> Any:
    """The array in fresh memory, in row-major order."""
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
        # Not its own copy: that of a NumPy matrix has two dimensions, whatever it had itself.
        return np.array(array, order="C") if library == "numpy" else array.copy(order="C")
    except Exception as error:
        raise allocation_error(op, error, math.prod(array.shape) * array.dtype.itemsize) from error


def copy_fault(array: Any) -> str | None:
    """Why an array is not to be copied without being asked, in the words of a message; None: it may be."""
    if math.prod(array.shape) <= _MOST_COPIED:
        return None
    expected = "a contiguous, aligned array, since copying more than 2**31 elements must be asked for"
    return f"expected {expected}, got shape {list(array.shape)}"


def dimension(array: Any, index: int) -> int:
    """array.shape[index], 0 where there is no such dimension: outputs are allocated before arguments are checked."""
    shape = array.shape
    return int(shape[index]) if -len(shape) <= index < len(shape) else 0


def dtype_name(array: Any) -> str:
    """Such as "float32", whatever the library."""
    return str(array.dtype).removeprefix("torch.")


def trim(array: Any, count: Any) -> Any:
    """array[:count] with count an array of one element.

    Syncs:
        Once, to read it.
    """
    return array[: count.item() if isinstance(count, torch.Tensor) else int(count[0])]
