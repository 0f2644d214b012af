"""Other layouts of an array in memory. Ops must accept all of them, and give the bits of a plain copy."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import torch
from torch import Tensor


def lay_out(x: Any, rng: random.Random) -> tuple[Any, str]:
    """Return the array in a random layout, and its name. Only "expanded" and "broadcast" change (repeat) values."""
    table = NUMPY if isinstance(x, np.ndarray) else TORCH
    name = rng.choice(list(table))
    return table[name](x, rng), name


def _places(shape: Any, rng: random.Random, negative: bool) -> tuple[tuple[int, ...], tuple[slice, ...]]:
    """Return the shape of a wider array, and the slices that select one of the given shape from it, with gaps."""
    wide, where = [], []
    for side in shape:
        step, before = rng.choice((1, 1, 2, 3)), rng.choice((0, 0, 1, 2))
        last = before + step * max(side - 1, 0)
        wide.append(last + 1 + rng.choice((0, 0, 1)))
        if not side:
            where.append(slice(0, 0))
        elif negative and rng.random() < 0.4:
            end = before - 1
            where.append(slice(last, None if end < 0 else end, -step) if side > 1 else slice(before, before + 1))
        else:
            where.append(slice(before, last + 1, step))
    return tuple(wide), tuple(where)


def _order(ndim: int, rng: random.Random) -> tuple[list[int], list[int]]:
    order = rng.sample(range(ndim), ndim)
    return order, [order.index(i) for i in range(ndim)]


# ---- torch ----------------------------------------------------------------------------------------------------------


def _offset(x: Tensor, rng: random.Random) -> Tensor:
    first = rng.randint(1, 31)
    memory = torch.empty(first + x.numel(), dtype=x.dtype)
    memory[first:] = x.flatten()
    return memory[first:].view(x.shape)


def _permuted(x: Tensor, rng: random.Random) -> Tensor:
    order, inverse = _order(x.ndim, rng)
    return x.permute(order).contiguous().permute(inverse)


def _sliced(x: Tensor, rng: random.Random) -> Tensor:
    shape, where = _places(x.shape, rng, negative=False)
    wide = torch.full(shape, 7, dtype=x.dtype)
    wide[where] = x
    return wide[where]


def _expanded(x: Tensor, rng: random.Random) -> Tensor:
    if x.numel() == 0 or x.ndim == 0:
        return x
    return x.narrow(rng.randrange(x.ndim), 0, 1).clone().expand(x.shape)


def _negated(x: Tensor, rng: random.Random) -> Tensor:
    return torch._neg_view(-x) if x.dtype.is_floating_point else x


TORCH = {
    "offset": _offset,
    "permuted": _permuted,
    "sliced": _sliced,
    "offset and sliced": lambda x, rng: _sliced(_offset(x, rng), rng),
    "expanded": _expanded,
    "negated": _negated,
    "inference": lambda x, rng: _inference(x),
    "parameter": lambda x, rng: torch.nn.Parameter(x, requires_grad=False),
}


def _inference(x: Tensor) -> Tensor:
    with torch.inference_mode():
        return x.clone()


# ---- NumPy ----------------------------------------------------------------------------------------------------------


def _np_bytes(x: np.ndarray, first: int) -> np.ndarray:
    memory = np.empty(first + x.nbytes, np.uint8)
    placed = np.ndarray(x.shape, x.dtype, buffer=memory.data, offset=first)
    placed[...] = x
    return placed


def _np_permuted(x: np.ndarray, rng: random.Random) -> np.ndarray:
    order, inverse = _order(x.ndim, rng)
    return np.ascontiguousarray(x.transpose(order)).transpose(inverse)


def _np_sliced(x: np.ndarray, rng: random.Random) -> np.ndarray:
    shape, where = _places(x.shape, rng, negative=True)
    wide = np.full(shape, 7, x.dtype)
    wide[where] = x
    return wide[where]


def _np_broadcast(x: np.ndarray, rng: random.Random) -> np.ndarray:
    if x.size == 0 or x.ndim == 0:
        return x
    return np.broadcast_to(np.take(x, [0], axis=rng.randrange(x.ndim)), x.shape)


def _np_field(x: np.ndarray, rng: random.Random) -> np.ndarray:
    records = np.zeros(x.shape, [("before", "u1", rng.randint(1, 7)), ("x", x.dtype)])
    records["x"] = x
    return records["x"]


def _np_rows_of_records(x: np.ndarray, rng: random.Random) -> np.ndarray:
    """Return the rows of the last dimension, each inside a record."""
    if x.ndim < 2:
        return _np_field(x, rng)
    record = np.dtype([("before", "u1", rng.randint(1, 7)), ("x", x.dtype, x.shape[-1:])])
    memory = np.zeros(math.prod(x.shape[:-1]), record).reshape(x.shape[:-1])
    memory["x"] = x
    return memory["x"]


def _np_readonly(x: np.ndarray, rng: random.Random) -> np.ndarray:
    x = x.copy()
    x.flags.writeable = False
    return x


NUMPY = {
    "offset": lambda x, rng: _np_bytes(x, x.itemsize * rng.randint(1, 31)),
    "odd bytes": lambda x, rng: _np_bytes(x, rng.randint(1, 31)),
    "permuted": _np_permuted,
    "sliced": _np_sliced,
    "broadcast": _np_broadcast,
    "field": _np_field,
    "rows of records": _np_rows_of_records,
    "read-only": _np_readonly,
}
