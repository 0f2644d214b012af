"""A small SSD that trains from scratch within minutes on a CPU: residual blocks on maps of stride 8, 16 and 32."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._checks import positive_numbers, row
from .._checks import size as image_size
from ..presets import Preset
from ..specs import BoxCoderSpec, DefaultBoxSpec, LossSpec, MatcherSpec, PostprocessSpec
from ._fitting import default_size, fit_sides
from .network import SSDNetwork
from .preprocessing import Preprocessing
from .registry import register_network

if TYPE_CHECKING:
    from ..datasets import DetectionDataset

__all__ = ["STRIDES", "SSDTiny", "ssd_tiny"]

STRIDES = (8, 16, 32)
_STEM_CHANNELS = 32
_CHANNELS = (64, 96, 96)  # of the three maps
_SIDES = ((14.0, 20.0, 28.0), (40.0, 56.0), (80.0, 112.0))  # sides of the square default boxes, in pixels of the input
_BACKGROUND_BIAS = 3.0  # almost everything is background, so training starts from there


class ConvNorm(nn.Sequential):
    """A convolution that keeps ceil(input / stride) pixels, and its batch norm."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)


class ResidualBlock(nn.Module):
    """relu(x + f(x)), where f is two 3x3 convolutions and 0 at the start."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvNorm(channels, channels)
        self.second = ConvNorm(channels, channels)
        nn.init.zeros_(self.second.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(F.relu(self.first(x), inplace=True)), inplace=True)


class Stage(nn.Module):
    """Halves the map and applies one residual block."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.down = ConvNorm(in_channels, out_channels, stride=2)
        self.block = ResidualBlock(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(F.relu(self.down(x), inplace=True))


class SSDTiny(SSDNetwork):
    """Takes images of a size chosen at construction; has square default boxes on maps of ceil(size / stride) cells.

    The stem shrinks the image to a quarter at once: a small network spends most of its time on its largest maps.
    The box columns are (dx, dy, dw, dh); the class columns are logits of a softmax with background in column 0.
    """

    name = "ssd_tiny"

    def __init__(self, num_classes: int, size: tuple[int, int], sides: tuple[tuple[float, ...], ...]) -> None:
        super().__init__(num_classes, _preset(size, sides))
        self.preprocessing = Preprocessing(
            size=size, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), pixel_range=1.0, rule="half_pixel"
        )
        self.min_training_batch = 2 if (1, 1) in self.preset.default_boxes.feature_maps else 1
        self.sides = sides
        self.stem = ConvNorm(3, _STEM_CHANNELS, 7, stride=4)
        self.stages = nn.ModuleList(
            Stage(*channels) for channels in zip((_STEM_CHANNELS, *_CHANNELS[:-1]), _CHANNELS, strict=True)
        )
        per_map = list(zip(_CHANNELS, self.preset.default_boxes.boxes_per_cell, strict=True))
        self.box_heads = nn.ModuleList(nn.Conv2d(channels, boxes * 4, 3, padding=1) for channels, boxes in per_map)
        self.class_heads = nn.ModuleList(
            nn.Conv2d(channels, boxes * num_classes, 3, padding=1) for channels, boxes in per_map
        )
        self._initialize()

    @property
    def arguments(self) -> dict[str, Any]:
        return {"size": list(self.preprocessing.size), "sides": [list(level) for level in self.sides]}

    @classmethod
    def fitted_arguments(cls, dataset: DetectionDataset, size: tuple[int, int] | None) -> dict[str, Any]:
        size = default_size(dataset) if size is None else size
        return {"size": size, "sides": fit_sides(dataset, size)}

    def head_maps(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        x = F.relu(self.stem(images), inplace=True)
        bbox_maps, cls_maps = [], []
        for stage, box_head, class_head in zip(self.stages, self.box_heads, self.class_heads, strict=True):
            x = stage(x)
            bbox_maps.append(box_head(x))
            cls_maps.append(class_head(x))
        return bbox_maps, cls_maps

    def _initialize(self) -> None:
        for module in self.modules():
            if isinstance(module, ConvNorm):
                nn.init.kaiming_normal_(module.conv.weight, mode="fan_out", nonlinearity="relu")
        for head in (*self.box_heads, *self.class_heads):
            assert isinstance(head, nn.Conv2d) and head.bias is not None
            nn.init.normal_(head.weight, std=0.01)
            nn.init.zeros_(head.bias)
        with torch.no_grad():
            for head in self.class_heads:
                head.bias[:: self.num_classes] = _BACKGROUND_BIAS  # type: ignore[index, operator]


@register_network(SSDTiny)
def ssd_tiny(
    num_classes: int, size: Sequence[int] = (240, 320), sides: Sequence[Sequence[float]] | None = None
) -> SSDTiny:
    """Make a randomly initialized SSDTiny, to be trained by `ssd_fast.training`.

    Args:
        num_classes: columns of cls_logits, background included.
        size: any (height, width) of the input in pixels; the shape of the photos avoids distorting them.
        sides: for each of the maps of stride 8, 16 and 32, the sides of its square default boxes in pixels of the
            input; None: 14 to 112 in steps of about 1.4. `ssd_fast.training.fit_sides` fits them to ground truths.

    Raises:
        ValueError: fewer than 2 classes, a size below 1, or sides that are not three lists of positive numbers.
    """
    expected = f"one list per stride {STRIDES}"
    levels = _SIDES if sides is None else row("ssd_tiny", "sides", sides, expected, len(STRIDES), len(STRIDES))
    levels = tuple(positive_numbers("ssd_tiny", "sides", level) for level in levels)
    return SSDTiny(num_classes, image_size("ssd_tiny", "size", size), levels)


def _preset(size: tuple[int, int], sides: tuple[tuple[float, ...], ...]) -> Preset:
    """Make a preset in torchvision's dialect, with the default boxes of the network's own maps."""
    maps = tuple((math.ceil(size[0] / stride), math.ceil(size[1] / stride)) for stride in STRIDES)
    # Steps are the strides, even where the last cells reach past the image, so that every cell sees its box alike.
    steps = tuple((float(stride), float(stride)) for stride in STRIDES)
    return Preset(
        "ssd_tiny",
        DefaultBoxSpec(
            image_size=size,
            feature_maps=maps,
            box_sizes=tuple(tuple((side, side) for side in level) for level in sides),
            steps=steps,
        ),
        BoxCoderSpec(log_scale_clamp=(-math.inf, math.log(1000 / 16))),
        MatcherSpec(),
        LossSpec(),
        PostprocessSpec(iou_threshold=0.5, clip="before_nms"),
    )
