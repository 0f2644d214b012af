"""Prepare photos of any size as the batch that a network was trained on.

Every network carries one `Preprocessing`: the input size, the rule of the bilinear resize and the normalization. Three
rules are in use. The first and the last read the source at positions that lie half a source pixel minus half a target
pixel apart:

half_pixel   source = (i + 0.5) * in / out - 0.5, no antialiasing: torch's `interpolate(align_corners=False)`, and so
             torchvision's detection models, which normalize first and resize second.
antialiased  the same positions, but where the image shrinks, a mean of all pixels closer than in / out, the closest
             with the most weight: Pillow's `resize`, which rounds to whole gray levels, and so NVIDIA's SSD300.
corner       source = i * in / out, the last row and column repeated: `tf.image.resize_images` of TensorFlow 1, and so
             the TensorFlow object detection models, which resize first and normalize second.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .._checks import choice, freeze, number, row, size
from ..arrays import value_fault

__all__ = ["Preprocessing", "resize_bilinear_corner"]

_NAME = "Preprocessing"


@dataclass(frozen=True)
class Preprocessing:
    """A network's input convention: `(resized pixels - mean) / std`.

    Attributes:
        size: (height, width) of the network's input, in pixels.
        mean: per RGB channel, in units of `pixel_range`.
        std: per RGB channel, in units of `pixel_range`.
        pixel_range: the value of a white pixel for which `mean` and `std` are given: 1.0 or 255.0.
        rule: which pixels the bilinear resize reads: "half_pixel", "antialiased" or "corner"; see the module docstring.

    Raises:
        ValueError: the message names the attribute, what was expected and what was given.
    """

    size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    pixel_range: float
    rule: Literal["half_pixel", "antialiased", "corner"]

    def __post_init__(self) -> None:
        pixel_range = number(_NAME, "pixel_range", self.pixel_range, "1.0 or 255.0", (1.0, 255.0).__contains__)
        freeze(
            self,
            size=size(_NAME, "size", self.size),
            mean=_of_channels("mean", self.mean, "3 finite numbers", math.isfinite),
            std=_of_channels("std", self.std, "3 finite numbers, not 0", bool),
            pixel_range=pixel_range,
            rule=choice(_NAME, "rule", self.rule, ("half_pixel", "antialiased", "corner")),
        )

    def __call__(self, images: Tensor | Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Resize and normalize images; those of one size are processed together.

        Args:
            images: RGB, [N, 3, H, W] or a sequence of [3, H, W] of any sizes, all on one device and of one dtype:
                uint8, or floating point in 0..1.

        Returns:
            `(batch, original_sizes)` on the images' device: float32 [N, 3, *size], and int64 [N, 2] of (height, width).

        Raises:
            TypeError: an image is not a tensor, or has an integer dtype other than uint8.
            ValueError: a wrong or empty shape, or images of several devices or dtypes.
        """
        if isinstance(images, Tensor):
            _check_image(images, ndim=4)
            batch = self._apply(images)
            sizes = [(images.shape[2], images.shape[3])] * images.shape[0]
            return batch, torch.tensor(sizes, dtype=torch.int64).view(-1, 2).to(images.device)

        groups: dict[tuple[int, int], list[int]] = {}
        for index, image in enumerate(images):
            _check_image(image, ndim=3)
            if image.device != images[0].device or image.dtype != images[0].dtype:
                raise ValueError(
                    f"preprocessing: images: expected one device and dtype, got {images[0].dtype} on "
                    f"{images[0].device} for image 0, {image.dtype} on {image.device} for image {index}"
                )
            groups.setdefault((image.shape[1], image.shape[2]), []).append(index)
        sizes = [(image.shape[1], image.shape[2]) for image in images]
        device = images[0].device if images else torch.device("cpu")
        batch = torch.empty((len(images), 3, *self.size), dtype=torch.float32, device=device)
        for indices in groups.values():
            batch[indices] = self._apply(torch.stack([images[index] for index in indices]))
        return batch, torch.tensor(sizes, dtype=torch.int64).view(-1, 2).to(device)

    def _apply(self, images: Tensor) -> Tensor:
        """[N, 3, H, W] uint8 or floating point -> float32 [N, 3, *size]."""
        if images.shape[0] == 0:
            return torch.empty((0, 3, *self.size), dtype=torch.float32, device=images.device)
        white = 255.0 if images.dtype == torch.uint8 else 1.0
        if self.rule == "corner":
            return self._normalize(resize_bilinear_corner(images, self.size), white)
        pixels = self._normalize(images.float(), white)
        antialias = self.rule == "antialiased"
        return F.interpolate(pixels, size=self.size, mode="bilinear", align_corners=False, antialias=antialias)

    def _normalize(self, pixels: Tensor, white: float) -> Tensor:
        """Normalize float32 [N, 3, H, W] in which white is `white`, 1.0 or 255.0."""
        if white > self.pixel_range:
            pixels = pixels / 255.0
        elif white < self.pixel_range:
            pixels = pixels * 255.0
        mean = pixels.new_tensor(self.mean).view(3, 1, 1)
        std = pixels.new_tensor(self.std).view(3, 1, 1)
        return (pixels - mean) / std


def _of_channels(
    field: str, values: object, expected: str, accepts: Callable[[float], bool]
) -> tuple[float, float, float]:
    red, green, blue = (number(_NAME, field, x, expected, accepts) for x in row(_NAME, field, values, expected, 3, 3))
    return red, green, blue


def resize_bilinear_corner(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize bilinearly; output pixel i reads the source at i * in / out, without a half-pixel shift.

    Args:
        images: [N, C, H, W], uint8 or floating point.
        size: (height, width) of the result.

    Returns:
        float32 [N, C, *size], in the units of the images. Columns are blended first, then rows, in float32.

    Source:
        `tf.image.resize_images(..., BILINEAR, align_corners=False)` of TensorFlow 1.
    """
    top, bottom, row_weight = _corner_taps(images.shape[2], size[0], images.device)
    left, right, column_weight = _corner_taps(images.shape[3], size[1], images.device)

    def blended_columns(rows: Tensor) -> Tensor:
        band = images.index_select(2, rows)
        start, end = band.index_select(3, left).float(), band.index_select(3, right).float()
        return start + (end - start) * column_weight

    upper, lower = blended_columns(top), blended_columns(bottom)
    return upper + (lower - upper) * row_weight[:, None]


def _corner_taps(source: int, target: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """For each of `target` positions, its two neighboring source indices and the weight of the second."""
    position = torch.arange(target, dtype=torch.float32, device=device) * (source / target)
    first = position.floor()
    second = (first + 1).clamp(max=source - 1)
    return first.long(), second.long(), position - first


def _check_image(image: Tensor, ndim: int) -> None:
    expected = "[N, 3, H, W]" if ndim == 4 else "[3, H, W]"
    if not isinstance(image, Tensor):
        raise TypeError(f"preprocessing: images: expected torch tensors {expected}, got {type(image).__name__}")
    if (fault := value_fault(image)) is not None:
        raise TypeError(f"preprocessing: images: {fault}")
    if image.dtype != torch.uint8 and not image.is_floating_point():
        raise TypeError(f"preprocessing: images: expected uint8 or floating point in 0..1, got {image.dtype}")
    if image.ndim != ndim or image.shape[-3] != 3 or 0 in image.shape[-2:]:
        raise ValueError(f"preprocessing: images: expected {expected} with H, W >= 1, got {tuple(image.shape)}")
