"""Pools of values: slices of a few long arrays, since drawing anew would take longer than the ops."""

from __future__ import annotations

import random

import torch
from torch import Tensor

from helpers import inputs

_LENGTH = 4096

BOXES = {
    "plain": inputs.boxes(1, _LENGTH),
    "grid": inputs.grid_boxes(2, _LENGTH),
    "same": torch.tensor([[2.0, 3.0, 9.0, 8.0]]).repeat(_LENGTH, 1),
    "strange": inputs.strange_boxes(3, _LENGTH),
    "subnormal": inputs.grid_boxes(4, _LENGTH) * 1e-40,
    "huge": inputs.boxes(5, _LENGTH) * 1e36,
}
SCORES = {
    "plain": inputs.scores(1, _LENGTH),
    "tied": inputs.tied_scores(2, _LENGTH),
    "same": torch.full((_LENGTH,), 0.5),
    "strange": inputs.strange_scores(3, _LENGTH),
}
_LEVELS = torch.tensor([-9.0, -2.0, 0.0, 1.0, 2.0])
NUMBERS = {
    "plain": inputs.bell(1, 8 * _LENGTH) * 2,
    "levels": _LEVELS[inputs.integers(2, 0, len(_LEVELS), 8 * _LENGTH)],
    "same": torch.zeros(8 * _LENGTH),
    "strange": torch.where(
        inputs.integers(3, 0, 8, 8 * _LENGTH) == 0,
        inputs.strange_scores(4, 8 * _LENGTH),
        inputs.bell(5, 8 * _LENGTH) * 30,
    ),
}
TAME = ("plain", "grid", "tied", "levels", "same")  # no arithmetic of these overflows


def family(rng: random.Random, pools: dict[str, Tensor]) -> str:
    """Choose a pool, tame ones more often than others."""
    names = list(pools)
    return rng.choices(names, [3 if name in TAME else 1 for name in names])[0]


def take(rng: random.Random, pool: Tensor, *shape: int) -> Tensor:
    """Return an array [*shape, *shape of an entry of the pool] in fresh memory."""
    count = 1
    for side in shape:
        count *= side
    if count > len(pool):
        return pool.repeat(count // len(pool) + 1, *[1] * (pool.ndim - 1))[:count].reshape(*shape, *pool.shape[1:])
    start = rng.randrange(len(pool) - count + 1)
    return pool[start : start + count].reshape(*shape, *pool.shape[1:]).clone()


def integers(rng: random.Random, low: int, high: int, *shape: int) -> Tensor:
    """Return uniform int64 in [low, high); meant for few at a time."""
    count = 1
    for side in shape:
        count *= side
    if count > 64:
        return inputs.integers(rng.getrandbits(31), low, high, *shape)
    return torch.tensor([rng.randrange(low, high) for _ in range(count)], dtype=torch.int64).reshape(shape)


def size(rng: random.Random, most: int = 1025) -> int:
    """Return a size that is mostly small, or else around the size of a warp, a mask word or a block."""
    share = rng.random()
    if share < 0.88:
        return rng.choice((0, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7, 8, 9))
    if share < 0.97:
        return min(most, rng.choice((15, 16, 17, 31, 32, 33)))
    return min(most, rng.choice((63, 64, 65, 63, 64, 65, 255, 256, 257, 1023, 1024, 1025)))
