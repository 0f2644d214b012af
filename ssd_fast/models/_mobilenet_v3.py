"""MobileNetV3-Large as torchvision's SSDLite320 uses it: two of its maps, and extra blocks that halve the last one.

Sources:
    Howard et al. 2019, "Searching for MobileNetV3", tables 1 and 6, section 6.3; torchvision for the widths of the
    extra blocks and the batch norms' eps and momentum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from torch import Tensor, nn

_EXTRA_CHANNELS = (512, 256, 256, 128)  # of the maps with 5, 3, 2 and 1 cells per side

Activation = Callable[[], nn.Module]
_RELU: Activation = partial(nn.ReLU, inplace=True)
RELU6: Activation = partial(nn.ReLU6, inplace=True)
_HSWISH: Activation = partial(nn.Hardswish, inplace=True)


class _Bottleneck(NamedTuple):
    """A row of the paper's table 1."""

    kernel: int
    expanded: int
    out: int
    squeezes: bool
    activation: Activation
    stride: int


_BOTTLENECKS = (
    _Bottleneck(3, 16, 16, False, _RELU, 1),
    _Bottleneck(3, 64, 24, False, _RELU, 2),
    _Bottleneck(3, 72, 24, False, _RELU, 1),
    _Bottleneck(5, 72, 40, True, _RELU, 2),
    _Bottleneck(5, 120, 40, True, _RELU, 1),
    _Bottleneck(5, 120, 40, True, _RELU, 1),
    _Bottleneck(3, 240, 80, False, _HSWISH, 2),
    _Bottleneck(3, 200, 80, False, _HSWISH, 1),
    _Bottleneck(3, 184, 80, False, _HSWISH, 1),
    _Bottleneck(3, 184, 80, False, _HSWISH, 1),
    _Bottleneck(3, 480, 112, True, _HSWISH, 1),
    _Bottleneck(3, 672, 112, True, _HSWISH, 1),
)
_TAIL_BOTTLENECKS = (  # the expanded activation of the first, the last of stride 16, is the first feature map
    _Bottleneck(5, 672, 160, True, _HSWISH, 2),
    _Bottleneck(5, 960, 160, True, _HSWISH, 1),
    _Bottleneck(5, 960, 160, True, _HSWISH, 1),
)


class ConvNorm(nn.Sequential):
    """A convolution without bias that keeps the map's size (over the stride), a batch norm, and any activation."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        activation: Activation | None,
        stride: int = 1,
        groups: int = 1,
    ) -> None:
        conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)
        norm = nn.BatchNorm2d(out_channels, eps=0.001, momentum=0.03)
        super().__init__(conv, norm, *(() if activation is None else (activation(),)))


class SqueezeExcitation(nn.Module):
    """Scales each channel by a weight in 0..1 computed from the means of all channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = _multiple_of_8(channels // 4)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.fc2(self.fc1(x.mean((2, 3), keepdim=True)).relu())
        return nn.functional.hardsigmoid(weights) * x


class InvertedResidual(nn.Module):
    """Widen 1x1, filter each channel, squeeze-excite, narrow 1x1; add the input where the shapes agree."""

    def __init__(self, in_channels: int, row: _Bottleneck) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        if row.expanded != in_channels:
            layers.append(ConvNorm(in_channels, row.expanded, 1, row.activation))
        layers.append(ConvNorm(row.expanded, row.expanded, row.kernel, row.activation, row.stride, row.expanded))
        if row.squeezes:
            layers.append(SqueezeExcitation(row.expanded))
        layers.append(ConvNorm(row.expanded, row.out, 1, None))
        self.block = nn.Sequential(*layers)
        self.is_residual = row.stride == 1 and in_channels == row.out

    def forward(self, x: Tensor) -> Tensor:
        y = self.block(x)
        return x + y if self.is_residual else y


class MobileNetV3Features(nn.Module):
    """MobileNetV3-Large, split after its last expansion of stride 16, and four blocks that halve the map."""

    def __init__(self, reduced_tail: bool) -> None:
        super().__init__()
        tail = _reduced(_TAIL_BOTTLENECKS) if reduced_tail else _TAIL_BOTTLENECKS
        layers: list[nn.Module] = [ConvNorm(3, 16, 3, _HSWISH, stride=2)]
        channels = 16
        for row in (*_BOTTLENECKS, *tail):
            layers.append(InvertedResidual(channels, row))
            channels = row.out
        layers.append(ConvNorm(channels, 6 * channels, 1, _HSWISH))
        cut = 1 + len(_BOTTLENECKS)
        cut_block = layers[cut].block
        assert isinstance(cut_block, nn.Sequential)
        self.features = nn.Sequential(  # a slice of a Sequential keeps its names: features.1.0.1, not features.1.0.0
            nn.Sequential(*layers[:cut], cut_block[0]),
            nn.Sequential(cut_block[1:], *layers[cut + 1 :]),
        )
        self.channels = [tail[0].expanded, 6 * channels]
        self.extra = nn.ModuleList()
        for out in _EXTRA_CHANNELS:
            self.extra.append(_extra_block(self.channels[-1], out))
            self.channels.append(out)

    def forward(self, images: Tensor) -> list[Tensor]:
        """[N, 3, 320, 320] -> six maps with 20, 10, 5, 3, 2 and 1 cells per side."""
        maps = []
        for block in (*self.features, *self.extra):
            images = block(images)
            maps.append(images)
        return maps


def _reduced(tail: Sequence[_Bottleneck]) -> tuple[_Bottleneck, ...]:
    """Halve the channels from the last stride on (table 6 of the MobileNetV3 paper)."""
    first, *others = tail
    return first._replace(out=first.out // 2), *(r._replace(expanded=r.expanded // 2, out=r.out // 2) for r in others)


def _extra_block(in_channels: int, out_channels: int) -> nn.Sequential:
    """Make a block that halves the map: squeeze 1x1, filter each channel 3x3 with stride 2, widen 1x1."""
    squeezed = out_channels // 2
    return nn.Sequential(
        ConvNorm(in_channels, squeezed, 1, RELU6),
        ConvNorm(squeezed, squeezed, 3, RELU6, stride=2, groups=squeezed),
        ConvNorm(squeezed, out_channels, 1, RELU6),
    )


def _multiple_of_8(channels: int) -> int:
    """Round to the nearest multiple of 8, at least 8 and no less than 90% of `channels`."""
    nearest = max(8, (channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest
