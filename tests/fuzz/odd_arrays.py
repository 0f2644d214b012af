"""Replacements for an array: arrays of a wrong kind, and things that are not arrays."""

from __future__ import annotations

import array
import random
import types
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

_FAR = (2**31, 2**32, 2**32 + 5)


class _Subclass(torch.Tensor):
    """A tensor subclass that changes nothing."""


class _ArrayLike(np.ndarray):
    """An ndarray subclass that changes nothing."""


FAKE_MODE = FakeTensorMode()


def _nested(x: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.nested.nested_tensor([x.detach().float()])


def _conjugated(x: Tensor) -> Tensor:
    return torch.complex(x.float(), x.float()).conj()


# No op can use these.
TORCH_FOREIGN: dict[str, Callable[[Tensor], Any]] = {
    "sparse": lambda x: x.detach().as_subclass(Tensor).to_sparse(),
    "quantized": lambda x: torch.quantize_per_tensor(x.detach().float(), 1.0, 0, torch.qint8),
    "nested": _nested,
    "conjugated": _conjugated,
    "meta": lambda x: x.detach().to("meta"),
    "fake": lambda x: FAKE_MODE.from_tensor(x.detach()),
}
SHAPES_ONLY = ("meta", "fake")  # these have only a shape and a dtype
NUMPY_FOREIGN: dict[str, Callable[[np.ndarray], Any]] = {
    "masked": lambda x: np.ma.masked_array(x, mask=False),
    "masked everywhere": lambda x: np.ma.masked_array(x, mask=True),
    "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")) if x.dtype.itemsize > 1 else x.astype(">i4"),
    "objects": lambda x: x.astype(object),
    "words": lambda x: x.astype("U8"),
    "dates": lambda x: np.zeros(x.shape, "M8[s]"),
    "records": lambda x: np.zeros(x.shape, [("x", "f4")]),
    "chararray": lambda x: x.astype("U8").view(np.char.chararray),
}
# These are still arrays: the op may accept them or not.
TORCH_KIN: dict[str, Callable[[Tensor], Any]] = {
    "subclass": lambda x: x.detach().as_subclass(_Subclass),
    "imaginary part": lambda x: _conjugated(x).imag,
}
NUMPY_KIN: dict[str, Callable[[np.ndarray], Any]] = {
    "subclass": lambda x: x.view(_ArrayLike),
    "matrix": lambda x: x.view(np.matrix) if x.ndim == 2 else x,
    "recarray": lambda x: x.view(np.recarray),
}
NO_ARRAYS: dict[str, Callable[[Any], Any]] = {
    "None": lambda x: None,
    "a string": lambda x: "boxes",
    "bytes": lambda x: b"\0" * 16,
    "a number": lambda x: 1.5,
    "an int": lambda x: 7,
    "a NumPy number": lambda x: np.float32(1),
    "True": lambda x: True,
    "an object": lambda x: object(),
    "a dict": lambda x: {"boxes": x},
    "a set": lambda x: {1},
    "a class": lambda x: type(x),
    "a function": lambda x: lambda: x,
    "an iterator": lambda x: iter([x]),
    "a memoryview": lambda x: memoryview(np.zeros((2, 4), np.float32)),
    "an array.array": lambda x: array.array("f", [0.0] * 4),
    "a dtype": lambda x: x.dtype,
    "a namespace": lambda x: types.SimpleNamespace(shape=x.shape, dtype=x.dtype),
}
TORCH_DTYPES = (
    *(torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.complex64),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16, torch.uint32, torch.uint64),
    *(torch.bool, torch.complex128),
)
NUMPY_DTYPES = (
    *("float32", "float64", "float16", "longdouble", "complex64", "complex128", "int64", "int32", "int16", "int8"),
    *("uint8", "uint16", "uint32", "uint64", "bool"),
)


def other_dtype(x: Any, rng: random.Random) -> tuple[Any, str]:
    """Return the array in a random dtype, and the dtype's name."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        numpy = isinstance(x, np.ndarray)
        x = x.astype(rng.choice(NUMPY_DTYPES)) if numpy else x.detach().to(rng.choice(TORCH_DTYPES))
    return x, str(x.dtype).removeprefix("torch.")


def other_shape(x: Any, rng: random.Random) -> tuple[Any, str]:
    """Return the array with one dimension or size more or less."""
    ndim = len(x.shape)
    d = rng.randrange(ndim) if ndim else 0
    whole = [slice(None)] * ndim
    choices = {
        "a dimension more": lambda: x[None],
        "flat": lambda: x.reshape(-1),
        "7 dimensions": lambda: x.reshape(*[1] * (7 - ndim), *x.shape) if ndim < 7 else x,
        # Through an array, since a NumPy matrix always has two dimensions.
        "no dimension": lambda: _plain(x).reshape(-1)[0:1].reshape(()) if 0 not in x.shape else x,
    }
    if ndim:
        choices |= {
            "one less": lambda: x[(*whole[:d], slice(1, None))],
            "nothing": lambda: x[(*whole[:d], slice(0, 0))],
            "one more": lambda: _cat([x, x[(*whole[:d], slice(0, 1))]], d),
            "a dimension less": lambda: x[(*whole[:d], 0)] if x.shape[d] else x,
            "swapped": lambda: x.swapaxes(0, d),
        }
    name = rng.choice(list(choices))
    return choices[name](), f"{name} at {d}"


def _cat(parts: list[Any], d: int) -> Any:
    return np.concatenate(parts, d) if isinstance(parts[0], np.ndarray) else torch.cat(parts, d)


def huge(x: Any, rng: random.Random) -> tuple[Any, str]:
    """Return an array of many rows that take no memory, or of no rows and another large dimension."""
    shape, far = list(x.shape), rng.choice(_FAR)
    if not shape:
        return x, "huge"
    d = rng.randrange(len(shape))
    if rng.random() < 0.3:
        shape[d], shape[rng.randrange(len(shape))] = far, 0
        empty = np.empty if isinstance(x, np.ndarray) else torch.empty
        return empty(shape, dtype=x.dtype), f"{far} of nothing at {d}"
    if 0 in shape:
        return x, "huge"
    shape[d] = far
    if isinstance(x, np.ndarray):
        return np.broadcast_to(np.take(x, [0], axis=d), shape), f"{far} rows at {d}"
    return x.detach().narrow(d, 0, 1).expand(shape), f"{far} rows at {d}"


def _plain(x: Any) -> Any:
    return np.asarray(x) if isinstance(x, np.ndarray) else x
