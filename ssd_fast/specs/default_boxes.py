"""DefaultBoxSpec: where an SSD's default boxes lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .._checks import as_float32, choice, flag, freeze, is_positive, number, require, row, size
from ._conventions import as_maps, min_max_sizes, scaled_sizes, square_steps

Pair = tuple[float, float]

_MAX_LEVELS, _MAX_BOX_SIZES = 8, 128  # as many as the kernels' parameter block holds
_MAX_BOXES = (2**31 - 1) // 4  # the kernels count coordinates by int32


@dataclass(frozen=True)
class DefaultBoxSpec:
    """Where an SSD's default boxes lie: every cell of every feature map carries one box of each of the map's sizes.

    Args:
        image_size: (height, width) of the network's input in pixels.
        feature_maps: (height, width) of each map, at most 8 maps, in the order of the heads.
        box_sizes: for each map the (width, height) in pixels of the boxes a cell carries, in channel order.
        steps: for each map the (vertical, horizontal) distance of cell centers in pixels; None: image / map.
        offset: position of a center within its cell, in cells.
        clip: clamp the corners to the image.
        clip_centers: clamp the centers to the image, before there are corners; the sizes stay as they are.
        normalized: divide the coordinates by the image's width and height.
        row_order: order of the rows within a map: "HWA" (cells outside, boxes of a cell inside) or "AHW".

    Raises:
        ValueError: the message names the field, what was expected and what was given.

    Source:
        Liu et al. 2016, section 2.2; the classmethods follow the conventions of the projects that they name.
    """

    image_size: tuple[int, int]
    feature_maps: tuple[tuple[int, int], ...]
    box_sizes: tuple[tuple[Pair, ...], ...]
    steps: tuple[Pair, ...] | None = None
    offset: float = 0.5
    clip: bool = False
    normalized: bool = False
    row_order: Literal["HWA", "AHW"] = "HWA"
    clip_centers: bool = False

    def __post_init__(self) -> None:
        name = "DefaultBoxSpec"
        expected, count = "a tuple of (height, width)", f"1 to {_MAX_LEVELS} maps"
        maps = row(name, "feature_maps", self.feature_maps, expected)
        require(1 <= len(maps) <= _MAX_LEVELS, name, "feature_maps", count, len(maps))
        freeze(
            self,
            image_size=size(name, "image_size", self.image_size),
            feature_maps=tuple(size(name, "feature_maps", cells) for cells in maps),
            box_sizes=self._checked_box_sizes(len(maps)),
            steps=None if self.steps is None else self._checked_steps(len(maps)),
            offset=number(name, "offset", self.offset, "a finite number"),
            clip=flag(name, "clip", self.clip),
            normalized=flag(name, "normalized", self.normalized),
            row_order=choice(name, "row_order", self.row_order, ("HWA", "AHW")),
            clip_centers=flag(name, "clip_centers", self.clip_centers),
        )
        count = f"at most {_MAX_BOXES} boxes over all maps"
        require(self.num_boxes <= _MAX_BOXES, name, "feature_maps", count, self.num_boxes)
        require(
            as_float32(self._farthest) is not None, name, "box_sizes, steps, offset", "finite corners", self._farthest
        )

    def _checked_box_sizes(self, levels: int) -> tuple[tuple[Pair, ...], ...]:
        name, field = "DefaultBoxSpec", "box_sizes"
        given = row(name, field, self.box_sizes, "a tuple with an entry for each map")
        require(len(given) == levels, name, field, f"{levels} maps", len(given))
        expected = "at least one box a cell on each map, a tuple of (width, height)"
        rows = [row(name, field, level, expected, 1) for level in given]
        most = f"at most {_MAX_BOX_SIZES} sizes over all maps"
        require(sum(map(len, rows)) <= _MAX_BOX_SIZES, name, field, most, sum(map(len, rows)))
        return tuple(tuple(_pixels(field, "(width, height)", pair) for pair in level) for level in rows)

    def _checked_steps(self, levels: int) -> tuple[Pair, ...]:
        name, field = "DefaultBoxSpec", "steps"
        given = row(name, field, self.steps, "a tuple of (vertical, horizontal) or None")
        require(len(given) == levels, name, field, f"{levels} maps", len(given))
        return tuple(_pixels(field, "(vertical, horizontal)", pair) for pair in given)

    @property
    def _farthest(self) -> float:
        """No corner of a box is farther from 0 than this, in pixels."""
        return max(
            (max(cells) + abs(self.offset)) * max(steps) + max(map(max, sizes))
            for cells, steps, sizes in zip(self.feature_maps, self.level_steps, self.box_sizes, strict=True)
        )

    @property
    def boxes_per_cell(self) -> tuple[int, ...]:
        """Boxes that a cell of each map carries."""
        return tuple(len(level) for level in self.box_sizes)

    @property
    def num_boxes(self) -> int:
        """P: all default boxes, over all maps."""
        return sum(h * w * a for (h, w), a in zip(self.feature_maps, self.boxes_per_cell, strict=True))

    @property
    def extent(self) -> tuple[int, int]:
        """(height, width) of the image in the unit of the boxes: (1, 1) if they are normalized, else image_size."""
        return (1, 1) if self.normalized else self.image_size

    @property
    def level_steps(self) -> tuple[Pair, ...]:
        """steps, with the automatic ones worked out."""
        if self.steps is not None:
            return self.steps
        height, width = self.image_size
        return tuple((height / h, width / w) for h, w in self.feature_maps)

    @classmethod
    def from_min_max(
        cls,
        image_size: tuple[int, int],
        feature_maps: Sequence[int | tuple[int, int]],
        *,
        min_sizes: Sequence[float],
        max_sizes: Sequence[float | None],
        aspect_ratios: Sequence[Sequence[float]],
        steps: Sequence[float] | None = None,
        clip: bool = False,
        normalized: bool = True,
    ) -> DefaultBoxSpec:
        """Caffe's PriorBox: min, sqrt(min * max), then each aspect ratio and its inverse, sizes in pixels.

        Computed in float32 in OpenCV's order, so that default_boxes equals its PriorBox bit for bit. Caffe's, which
        cuts sizes to whole pixels, it equals to 1 ulp if they are whole.

        Source:
            weiliu89/caffe (ssd branch), opencv dnn PriorBox.
        """
        maps = as_maps("DefaultBoxSpec", feature_maps)
        return cls(
            image_size=image_size,
            feature_maps=maps,
            box_sizes=min_max_sizes("DefaultBoxSpec", len(maps), min_sizes, max_sizes, aspect_ratios),
            steps=square_steps("DefaultBoxSpec", steps),
            clip=clip,
            normalized=normalized,
        )

    @classmethod
    def from_scales(
        cls,
        image_size: tuple[int, int],
        feature_maps: Sequence[int | tuple[int, int]],
        *,
        scales: Sequence[float],
        aspect_ratios: Sequence[Sequence[float]],
        steps: Sequence[float] | None = None,
        clip_sizes: bool = True,
        clip_centers: bool = False,
        normalized: bool = False,
        row_order: Literal["HWA", "AHW"] = "HWA",
    ) -> DefaultBoxSpec:
        """Scale s_k, sqrt(s_k * s_k+1), then each aspect ratio both ways: torchvision's DefaultBoxGenerator.

        Args:
            scales: one a map and one more, as a share of the image.
            clip_sizes: no side longer than the image's.

        Source:
            torchvision.models.detection.anchor_utils.DefaultBoxGenerator (equal to 2 ulp: it multiplies by the image
            size later).
        """
        image_size = size("DefaultBoxSpec", "image_size", image_size)
        maps = as_maps("DefaultBoxSpec", feature_maps)
        return cls(
            image_size=image_size,
            feature_maps=maps,
            box_sizes=scaled_sizes("DefaultBoxSpec", image_size, len(maps), scales, aspect_ratios, clip_sizes),
            steps=square_steps("DefaultBoxSpec", steps),
            normalized=normalized,
            row_order=row_order,
            clip_centers=clip_centers,
        )


def _pixels(field: str, form: str, pair: object) -> Pair:
    first, second = row("DefaultBoxSpec", field, pair, form, 2, 2)
    expected = "finite positive pixels"
    return (
        number("DefaultBoxSpec", field, first, expected, is_positive),
        number("DefaultBoxSpec", field, second, expected, is_positive),
    )
