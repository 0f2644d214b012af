"""DefaultBoxSpec: where an SSD's default boxes lie."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ._checks import is_finite, is_row, require, require_one_a_map

Pair = tuple[float, float]

_MAX_LEVELS = 8  # as many feature maps as the kernels' parameter block holds


@dataclass(frozen=True)
class DefaultBoxSpec:
    """Where an SSD's default boxes lie: every cell of every feature map carries one box of each of the map's sizes.

    Args:
        image_size: (height, width) of the network's input in pixels.
        feature_maps: (height, width) of each map, at most 8 maps, in the order of the heads.
        box_sizes: for each map the (width, height) in pixels of the boxes a cell carries, in channel order.
        steps: for each map the (vertical, horizontal) distance of cell centres in pixels; None: image / map.
        offset: position of a centre within its cell, in cells.
        clip: clamp the corners to the image.
        clip_centers: clamp the centres to the image, before there are corners; the sizes stay as they are.
        normalized: divide the coordinates by the image's width and height.
        row_order: order of the rows within a map: "HWA" (cells outside, boxes of a cell inside) or "AHW".
    Raises: ValueError naming the field, what was expected and what was given.
    Source: Liu et al. 2016, section 2.2; the classmethods follow the conventions of the projects that they name.
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
        name, maps = "DefaultBoxSpec", self.feature_maps
        require(is_row(maps), name, "feature_maps", "a tuple of (height, width)", maps)
        levels = len(maps)
        require(1 <= levels <= _MAX_LEVELS, name, "feature_maps", f"1 to {_MAX_LEVELS} maps", levels)
        for field, sizes in (("image_size", (self.image_size,)), ("feature_maps", maps)):
            for size in sizes:
                ok = is_row(size, 2) and min(size) >= 1
                require(ok, name, field, "(height, width), both at least 1", size)
        require(is_row(self.box_sizes), name, "box_sizes", "a tuple with an entry for each map", self.box_sizes)
        require(len(self.box_sizes) == levels, name, "box_sizes", f"{levels} maps", len(self.box_sizes))
        for level in self.box_sizes:
            ok = is_row(level) and len(level) > 0
            require(ok, name, "box_sizes", "at least one box a cell on each map, a tuple of (width, height)", level)
            _require_pixels("box_sizes", "(width, height)", level)
        if self.steps is not None:
            require(is_row(self.steps), name, "steps", "a tuple of (vertical, horizontal) or None", self.steps)
            require(len(self.steps) == levels, name, "steps", f"{levels} maps", len(self.steps))
            _require_pixels("steps", "(vertical, horizontal)", self.steps)
        require(is_finite(self.offset), name, "offset", "a finite number", self.offset)
        require(self.row_order in ("HWA", "AHW"), name, "row_order", '"HWA" or "AHW"', self.row_order)

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
        Source: weiliu89/caffe (ssd branch), opencv dnn PriorBox.
        """
        require_one_a_map(
            "DefaultBoxSpec", feature_maps, min_sizes=min_sizes, max_sizes=max_sizes, aspect_ratios=aspect_ratios
        )
        levels = []
        for low, high, ratios in zip(min_sizes, max_sizes, aspect_ratios, strict=True):
            low32 = np.float32(low)
            sides: list[tuple[Any, Any]] = [(low32, low32)]
            if high is not None:
                mean = np.sqrt(low32 * np.float32(high))
                sides.append((mean, mean))
            for ratio in (value for r in ratios for value in (np.float32(r), np.float32(1) / np.float32(r))):
                root = np.sqrt(ratio)
                sides.append((low32 * root, low32 / root))
            levels.append(_as_pairs(sides))
        return cls(
            image_size=image_size,
            feature_maps=_as_maps(feature_maps),
            box_sizes=tuple(levels),
            steps=None if steps is None else tuple((float(s), float(s)) for s in steps),
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

        Args: scales: one a map and one more, as a share of the image; clip_sizes: no side longer than the image's.
        Source: torchvision.models.detection.anchor_utils.DefaultBoxGenerator (equal to 2 ulp: it multiplies by the
        image size later).
        """
        name = "DefaultBoxSpec"
        require(is_row(image_size, 2), name, "image_size", "(height, width)", image_size)
        require(len(scales) == len(feature_maps) + 1, name, "scales", "one a map and one more", scales)
        require(all(scale > 0 for scale in scales), name, "scales", "positive numbers", scales)
        require_one_a_map(name, feature_maps, aspect_ratios=aspect_ratios)
        height, width = image_size
        levels = []
        for scale, following, ratios in zip(scales[:-1], scales[1:], aspect_ratios, strict=True):
            mean = math.sqrt(scale * following)
            sides = [(scale, scale), (mean, mean)]
            for ratio in ratios:
                long, short = scale * math.sqrt(ratio), scale / math.sqrt(ratio)
                sides += [(long, short), (short, long)]
            limit = 1.0 if clip_sizes else math.inf
            levels.append(_as_pairs((min(w, limit) * width, min(h, limit) * height) for w, h in sides))
        return cls(
            image_size=image_size,
            feature_maps=_as_maps(feature_maps),
            box_sizes=tuple(levels),
            steps=None if steps is None else tuple((float(s), float(s)) for s in steps),
            normalized=normalized,
            row_order=row_order,
            clip_centers=clip_centers,
        )


def _require_pixels(field: str, form: str, pairs: Sequence[Pair]) -> None:
    for pair in pairs:
        require(is_row(pair, 2), "DefaultBoxSpec", field, form, pair)
        for side in pair:
            require(is_finite(side) and side > 0, "DefaultBoxSpec", field, "finite positive pixels", side)


def _as_maps(feature_maps: Sequence[int | tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    return tuple((size, size) if isinstance(size, int) else (int(size[0]), int(size[1])) for size in feature_maps)


def _as_pairs(sides: Iterable[tuple[float, float]]) -> tuple[Pair, ...]:
    return tuple((float(w), float(h)) for w, h in sides)
