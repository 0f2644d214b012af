"""Check the box sizes and steps of a DefaultBoxSpec, from which the corners of its boxes follow."""

from __future__ import annotations

from collections.abc import Sequence

from .._checks import as_float32, is_positive, number, require, row

Pair = tuple[float, float]

_OWNER = "DefaultBoxSpec"
_MAX_BOX_SIZES = 128  # the kernels' parameter block holds this many


def check_box_sizes(given: object, levels: int) -> tuple[tuple[Pair, ...], ...]:
    """Return the box sizes of all maps as tuples."""
    field = "box_sizes"
    rows = row(_OWNER, field, given, "a tuple with one entry per map")
    require(len(rows) == levels, _OWNER, field, f"{levels} maps", len(rows))
    expected = "at least one (width, height) per map, in a tuple"
    sizes = [row(_OWNER, field, level, expected, 1) for level in rows]
    most = f"at most {_MAX_BOX_SIZES} sizes over all maps"
    require(sum(map(len, sizes)) <= _MAX_BOX_SIZES, _OWNER, field, most, sum(map(len, sizes)))
    return tuple(tuple(_pixels(field, "(width, height)", pair) for pair in level) for level in sizes)


def check_steps(given: object, levels: int) -> tuple[Pair, ...]:
    """Return the steps of all maps as tuples."""
    steps = row(_OWNER, "steps", given, "a tuple of (vertical, horizontal) or None")
    require(len(steps) == levels, _OWNER, "steps", f"{levels} maps", len(steps))
    return tuple(_pixels("steps", "(vertical, horizontal)", pair) for pair in steps)


def check_corners(
    maps: Sequence[tuple[int, int]], steps: Sequence[Pair], box_sizes: Sequence[Sequence[Pair]], offset: float
) -> None:
    """Raise ValueError if a corner of a box could be infinite in float32."""
    farthest = max(  # a bound for the distance of corners from 0, in pixels
        (max(cells) + abs(offset)) * max(level_steps) + max(map(max, sizes))
        for cells, level_steps, sizes in zip(maps, steps, box_sizes, strict=True)
    )
    require(as_float32(farthest) is not None, _OWNER, "box_sizes, steps, offset", "finite corners", farthest)


def _pixels(field: str, form: str, pair: object) -> Pair:
    first, second = row(_OWNER, field, pair, form, 2, 2)
    expected = "finite positive pixels"
    return number(_OWNER, field, first, expected, is_positive), number(_OWNER, field, second, expected, is_positive)
