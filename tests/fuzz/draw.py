"""Draws call number k of a seed."""

from __future__ import annotations

import random
from collections.abc import Container
from typing import Any

import torch

from .calls import Call, generator, get, places, put
from .layouts import lay_out
from .mutations import mutate
from .problems import OPS

_BUILDERS, _WEIGHTS = list(OPS), list(OPS.values())


def draw(seed: int, number: int, left_out: Container[int] = ()) -> tuple[Call, int]:
    """Return the call, and how many oddities it was drawn with. left_out: numbers of oddities to leave out."""
    rng = generator(seed, number, "call")
    call = rng.choices(_BUILDERS, _WEIGHTS)[0](rng)
    arrays = places(call.arguments)
    if rng.random() < 0.4 and arrays:
        call.backward = ""
        for place in arrays:
            put(call.arguments, place, _as_numpy(get(call.arguments, place)))
    odd = [place for place in arrays if rng.random() < 0.5] if rng.random() < 0.7 else []
    mutations = rng.choices((0, 1, 2), (60, 30, 10))[0]
    for part, place in enumerate(odd):
        if part not in left_out:
            _lay_out(call, place, generator(seed, number, part))
    if any(get(call.arguments, place).is_inference() for place in arrays if call.backward):
        call.backward = ""  # torch differentiates none of these
    for part in range(len(odd), len(odd) + mutations):
        if part not in left_out:
            mutate(call, generator(seed, number, part))
    return call, len(odd) + mutations


def _as_numpy(x: torch.Tensor) -> Any:
    return (x.float() if x.dtype == torch.bfloat16 else x).numpy()  # NumPy has no bfloat16


def _lay_out(call: Call, place: tuple[str, int | None], rng: random.Random) -> None:
    array, name = lay_out(get(call.arguments, place), rng)
    put(call.arguments, place, array)
    argument, index = place
    call.oddities.append(f"{argument if index is None else f'{argument}[{index}]'}: {name}")
