"""Where the tiles lie that a large image is cut into."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from .._checks import as_int, as_row, number, require

__all__ = ["Tile", "Tiling", "as_tiling"]

_LEAST_SIDE = 32  # pixels; smaller ones show a network nothing


class Tile(NamedTuple):
    """A rectangle of an image, in pixels."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class Tiling:
    """A rule that cuts large images into overlapping tiles.

    Attributes:
        height: of a tile, in pixels.
        width: of a tile, in pixels.
        overlap: the least share of a tile's side that it has in common with the next.
    """

    height: int
    width: int
    overlap: float

    def __str__(self) -> str:
        return f"tile {self.height} x {self.width}, overlap {self.overlap:g}"

    def cuts(self, height: int, width: int) -> bool:
        """Return whether an image is larger than a tile in a direction."""
        return height > self.height or width > self.width

    def tiles(self, height: int, width: int) -> list[Tile]:
        """Return the tiles of an image, row by row: as few as overlap enough, spread evenly from edge to edge."""
        rows, columns = min(height, self.height), min(width, self.width)
        return [
            Tile(left, top, columns, rows)
            for top in _origins(height, rows, self.overlap)
            for left in _origins(width, columns, self.overlap)
        ]


def as_tiling(owner: str, tile: object, overlap: object) -> Tiling | None:
    """Make the rule from what a user gave; None for no tile.

    Raises:
        ValueError: the message names the owner, the argument, the expected and the given value.
    """
    share = number(owner, "overlap", overlap, "a number in [0, 1)", lambda x: 0 <= x < 1)
    if tile is None:
        return None
    height, width = (as_int(side, _LEAST_SIDE) for side in as_row(tile, 2, 2) or (tile, tile))
    expected = f"an int of at least {_LEAST_SIDE}, (height, width) of such ints, or None"
    require(height is not None and width is not None, owner, "tile", expected, tile)
    assert height is not None and width is not None
    apart = min(_step(height, share), _step(width, share)) > 0
    require(apart, owner, "overlap", f"at most 1 - 1 / {min(height, width)} with this tile", overlap)
    return Tiling(height, width, share)


def _origins(length: int, side: int, overlap: float) -> list[int]:
    """Return where tiles of a side begin, so that they cover a length: the first at 0, the last ends with it."""
    room = length - side
    if room == 0:
        return [0]
    steps = math.ceil(room / _step(side, overlap))
    return [step * room // steps for step in range(steps + 1)]


def _step(side: int, overlap: float) -> int:
    """Return the most pixels from the beginning of a tile to that of the next."""
    return side - math.ceil(overlap * side)
