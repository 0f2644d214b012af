"""ResNet-50 as NVIDIA's SSD300 uses it: up to its third stage, which keeps the map's size, and blocks that shrink it.

The parameter names are those of torchvision's `resnet50`, so that its ImageNet weights load.

Sources:
    He et al. 2016, "Deep Residual Learning for Image Recognition", table 1; torchvision for where the strides are;
    NVIDIA/DeepLearningExamples, PyTorch/Detection/SSD, for the rest.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

CHANNELS = (1024, 512, 512, 256, 256, 256)  # of the maps with 38, 19, 10, 5, 3 and 1 cells per side
_SQUEEZED = (256, 256, 128, 128, 128)  # of the blocks between the maps
_HALVING_BLOCKS = 3  # the others remove one cell at each border


class Bottleneck(nn.Module):
    """relu(x + f(x)), where f narrows 1x1, filters 3x3 (with the stride) and widens 1x1, each with a batch norm."""

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        out_channels = 4 * width
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample = nn.Sequential()
        if in_channels != out_channels or stride != 1:
            self.downsample.append(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False))
            self.downsample.append(nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x), inplace=True)


class ResNet50Features(nn.Module):
    """ResNet-50 up to its third stage, whose stride is 1 here, and five blocks that shrink the map."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = _stage(64, 64, blocks=3, stride=1)
        self.layer2 = _stage(256, 128, blocks=4, stride=2)
        self.layer3 = _stage(512, 256, blocks=6, stride=1)
        self.extra = nn.ModuleList(
            _shrinking_block(*channels, halves=index < _HALVING_BLOCKS)
            for index, channels in enumerate(zip(CHANNELS[:-1], _SQUEEZED, CHANNELS[1:], strict=True))
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """[N, 3, 300, 300] -> six maps with 38, 19, 10, 5, 3 and 1 cells per side."""
        x = F.relu(self.bn1(self.conv1(images)), inplace=True)
        x = F.max_pool2d(x, 3, stride=2, padding=1)
        maps = [self.layer3(self.layer2(self.layer1(x)))]
        for block in self.extra:
            maps.append(block(maps[-1]))
        return maps


def _stage(in_channels: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    first = Bottleneck(in_channels, width, stride)
    return nn.Sequential(first, *(Bottleneck(4 * width, width, 1) for _ in range(1, blocks)))


def _shrinking_block(in_channels: int, squeezed: int, out: int, halves: bool) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, squeezed, 1, bias=False),
        nn.BatchNorm2d(squeezed),
        nn.ReLU(inplace=True),
        nn.Conv2d(squeezed, out, 3, stride=2 if halves else 1, padding=1 if halves else 0, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(inplace=True),
    )
