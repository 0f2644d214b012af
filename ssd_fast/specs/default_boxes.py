"""DefaultBoxSpec: where an SSD's default boxes lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .._checks import choice, flag, freeze, number, require, row, size
from ._conventions import as_maps, min_max_sizes, scaled_sizes, square_steps
from ._corners import Pair, check_box_sizes, check_corners, check_steps

_MAX_LEVELS = 8  # the kernels' parameter block holds this many
_MAX_BOXES = (2**31 - 1) // 4  # the kernels count coordinates in int32


@dataclass(frozen=True)
class DefaultBoxSpec:
    """Where an SSD's default boxes lie: each cell of a feature map carries one box per box size of the map.

    Args:
        image_size: (height, width) of the network's input in pixels.
        feature_maps: (height, width) per map, at most 8 maps, in the order of the heads.
        box_sizes: per map, the (width, height) in pixels of each box that a cell carries, in channel order.
        steps: per map, the (vertical, horizontal) distance between cell centers in pixels; None: image / map.
        offset: position of the center within its cell, in cells.
        clip: clamp the corners to the image.
        clip_centers: clamp the centers to the image before corners are computed; sizes do not change.
        normalized: divide the coordinates by the image's width and height.
        row_order: order of the rows within a map: "HWA" (cell by cell) or "AHW" (box size by box size).

    Raises:
        ValueError: a field is wrong; the message names it, the expected and the given value.

    Source:
        Liu et al. 2016, section 2.2; the classmethods follow the conventions of the projects that they name.

    Examples:
        A map of 5x5 cells with three boxes per cell:

        >>> import ssd_fast
        >>> sizes = ((60, 60), (85, 42), (42, 85))
        >>> spec = ssd_fast.DefaultBoxSpec(image_size=(300, 300), feature_maps=((5, 5),), box_sizes=(sizes,))
        >>> spec.num_boxes
        75
        >>> spec.level_steps
        ((60.0, 60.0),)
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
            box_sizes=check_box_sizes(self.box_sizes, len(maps)),
            steps=None if self.steps is None else check_steps(self.steps, len(maps)),
            offset=number(name, "offset", self.offset, "a finite number"),
            clip=flag(name, "clip", self.clip),
            normalized=flag(name, "normalized", self.normalized),
            row_order=choice(name, "row_order", self.row_order, ("HWA", "AHW")),
            clip_centers=flag(name, "clip_centers", self.clip_centers),
        )
        count = f"at most {_MAX_BOXES} boxes over all maps"
        require(self.num_boxes <= _MAX_BOXES, name, "feature_maps", count, self.num_boxes)
        check_corners(self.feature_maps, self.level_steps, self.box_sizes, self.offset)

    @property
    def boxes_per_cell(self) -> tuple[int, ...]:
        """Boxes per cell, one number per map."""
        return tuple(len(level) for level in self.box_sizes)

    @property
    def num_boxes(self) -> int:
        """P: the number of default boxes over all maps."""
        return sum(h * w * a for (h, w), a in zip(self.feature_maps, self.boxes_per_cell, strict=True))

    @property
    def extent(self) -> tuple[int, int]:
        """(height, width) of the image in the unit of the boxes: (1, 1) if they are normalized, else image_size."""
        return (1, 1) if self.normalized else self.image_size

    @property
    def level_steps(self) -> tuple[Pair, ...]:
        """steps, or image / map where steps is None."""
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
        """Make Caffe's PriorBox: min, sqrt(min * max), then each aspect ratio and its inverse, sizes in pixels.

        Sizes are computed in float32 in OpenCV's order, so that default_boxes equals OpenCV's PriorBox bit for bit. It
        equals Caffe's, which cuts sizes to whole pixels, to 1 ulp if the sizes are whole.

        Args:
            image_size: (height, width) of the network's input in pixels.
            feature_maps: (height, width) per map, or one number for both.
            min_sizes: one per map.
            max_sizes: one per map; None: no second square on this map.
            aspect_ratios: per map, the ratios besides 1.
            steps: distance between cell centers, one per map; None: image / map.
            clip: clamp the corners to the image.
            normalized: divide the coordinates by the image's width and height.

        Source:
            weiliu89/caffe (ssd branch), opencv dnn PriorBox.

        Examples:
            >>> import ssd_fast
            >>> spec = ssd_fast.DefaultBoxSpec.from_min_max(
            ...     (300, 300), (5,), min_sizes=(60,), max_sizes=(111,), aspect_ratios=((2,),)
            ... )
            >>> [(round(width), round(height)) for width, height in spec.box_sizes[0]]
            [(60, 60), (82, 82), (85, 42), (42, 85)]
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
        """Make torchvision's DefaultBoxGenerator: scale s_k, sqrt(s_k * s_k+1), then each aspect ratio both ways.

        Args:
            image_size: (height, width) of the network's input in pixels.
            feature_maps: (height, width) per map, or one number for both.
            scales: one per map and one more, as shares of the image.
            aspect_ratios: per map, the ratios besides 1.
            steps: distance between cell centers, one per map; None: image / map.
            clip_sizes: make no side longer than the image's.
            clip_centers: clamp the centers to the image before corners are computed.
            normalized: divide the coordinates by the image's width and height.
            row_order: "HWA" or "AHW".

        Source:
            torchvision.models.detection.anchor_utils.DefaultBoxGenerator (equal to 2 ulp: it multiplies by the image
            size later).

        Examples:
            >>> import ssd_fast
            >>> spec = ssd_fast.DefaultBoxSpec.from_scales(
            ...     (300, 300), (5,), scales=(0.2, 0.37), aspect_ratios=((2,),)
            ... )
            >>> [(round(width), round(height)) for width, height in spec.box_sizes[0]]
            [(60, 60), (82, 82), (85, 42), (42, 85)]
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
