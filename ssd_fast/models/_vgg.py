"""VGG16 as SSD300 and SSD512 use it: up to fc7 with dilated convolutions, then shrinking blocks and 3x3 heads.

The parameter names are those of torchvision's `ssd300_vgg16`.

Source:
    Liu et al. 2016, "SSD: Single Shot MultiBox Detector", sections 2.1 and 3, figure 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._checks import choice
from .layers import HeadConvs
from .network import SSDNetwork
from .preprocessing import Preprocessing

CONV4_3_NORMS = ("l2_norm", "batch_norm")
_CONV4_3_CHANNELS, _FC7_CHANNELS = 512, 1024


class VGG16Features(nn.Module):
    """VGG16 up to conv4_3, its fully connected layers as dilated convolutions, and blocks that shrink the map."""

    def __init__(self, shrinking: Sequence[nn.Module], conv4_3_norm: str) -> None:
        super().__init__()
        if conv4_3_norm == "l2_norm":
            self.scale_weight = nn.Parameter(torch.full((_CONV4_3_CHANNELS,), 20.0, dtype=torch.float32))
        else:
            self.conv4_3_norm = nn.BatchNorm2d(_CONV4_3_CHANNELS)
        self.features = nn.Sequential(
            *_convs(3, 64, 64),
            nn.MaxPool2d(2),
            *_convs(64, 128, 128),
            nn.MaxPool2d(2),
            *_convs(128, 256, 256, 256),
            nn.MaxPool2d(2, ceil_mode=True),  # 75 -> 38, as in the paper
            *_convs(256, 512, 512, 512),
        )
        conv5_to_fc7 = nn.Sequential(
            nn.MaxPool2d(2),
            *_convs(512, 512, 512, 512),
            nn.Sequential(
                nn.MaxPool2d(3, stride=1, padding=1),
                nn.Conv2d(512, 1024, 3, padding=6, dilation=6),
                nn.ReLU(inplace=True),
                nn.Conv2d(1024, _FC7_CHANNELS, 1),
                nn.ReLU(inplace=True),
            ),
        )
        self.extra = nn.ModuleList([conv5_to_fc7, *shrinking])

    def forward(self, images: Tensor) -> list[Tensor]:
        """[N, 3, H, W] -> the map of conv4_3, of fc7 and of each shrinking block."""
        x = self.features(images)
        maps = [self._normalized(x)]
        for block in self.extra:
            x = block(x)
            maps.append(x)
        return maps

    def _normalized(self, conv4_3: Tensor) -> Tensor:
        """Scale conv4_3, whose values are far larger, to the magnitude of the other maps."""
        if hasattr(self, "scale_weight"):
            return self.scale_weight.view(1, -1, 1, 1) * F.normalize(conv4_3)
        return self.conv4_3_norm(conv4_3)


class VGG16Network(SSDNetwork):
    """Base of the SSD networks on VGG16, which differ in their shrinking blocks and their boxes per cell.

    The box columns are (dx, dy, dw, dh); the class columns are logits of a softmax with background in column 0.
    """

    class_head_prefix = "head.classification_head."
    shrinking_blocks: ClassVar[tuple[dict[str, int], ...]]
    boxes_per_cell: ClassVar[tuple[int, ...]]

    def __init__(self, num_classes: int, conv4_3_norm: str = "l2_norm") -> None:
        super().__init__(num_classes)
        self.conv4_3_norm = choice(self.name, "conv4_3_norm", conv4_3_norm, CONV4_3_NORMS)
        channels = [_CONV4_3_CHANNELS, _FC7_CHANNELS]
        blocks = []
        for block in self.shrinking_blocks:
            blocks.append(_shrinking_block(channels[-1], **block))
            channels.append(block["out"])
        self.backbone = VGG16Features(blocks, conv4_3_norm)
        self.head = nn.ModuleDict(
            {
                "classification_head": HeadConvs(channels, self.boxes_per_cell, num_classes),
                "regression_head": HeadConvs(channels, self.boxes_per_cell, 4),
            }
        )
        _initialize(self)

    @property
    def arguments(self) -> dict[str, Any]:
        return {} if self.conv4_3_norm == "l2_norm" else {"conv4_3_norm": self.conv4_3_norm}

    def head_maps(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        features = self.backbone(images)
        return self.head["regression_head"](features), self.head["classification_head"](features)


def vgg_preprocessing(side: int) -> Preprocessing:
    """The preprocessing of networks that start from VGG16's Caffe weights, which were trained on pixels in 0..255."""
    return Preprocessing(
        size=(side, side),
        mean=(0.48235, 0.45882, 0.40784),
        std=(1 / 255, 1 / 255, 1 / 255),
        pixel_range=1.0,
        rule="half_pixel",
    )


def _convs(in_channels: int, *out_channels: int) -> list[nn.Module]:
    """Make the 3x3 convolutions of a VGG stage, each with its ReLU."""
    layers: list[nn.Module] = []
    for channels in out_channels:
        layers += [nn.Conv2d(in_channels, channels, 3, padding=1), nn.ReLU(inplace=True)]
        in_channels = channels
    return layers


def _shrinking_block(
    in_channels: int, squeezed: int, out: int, kernel: int = 3, stride: int = 1, padding: int = 0
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, squeezed, 1),
        nn.ReLU(inplace=True),
        nn.Conv2d(squeezed, out, kernel, stride, padding),
        nn.ReLU(inplace=True),
    )


def _initialize(network: VGG16Network) -> None:
    """Initialize VGG's own convolutions with He's method, the layers that SSD adds with Xavier's, and biases with 0."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            if name.startswith("backbone.features"):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            else:
                nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
