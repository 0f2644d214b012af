"""Layers shared by several networks: heads of 3x3 convolutions, and convolutions with TensorFlow's padding."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["HeadConvs", "SameConv2d", "SameConvReLU6"]


class HeadConvs(nn.Module):
    """One 3x3 convolution per map, with `columns` channels per default box."""

    def __init__(self, feature_channels: Sequence[int], boxes_per_cell: Sequence[int], columns: int) -> None:
        super().__init__()
        self.module_list = nn.ModuleList(
            nn.Conv2d(channels, boxes * columns, 3, padding=1)
            for channels, boxes in zip(feature_channels, boxes_per_cell, strict=True)
        )

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        return [conv(feature) for conv, feature in zip(self.module_list, features, strict=True)]


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding: ceil(input / stride) outputs; an odd pixel goes right and below."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, groups=groups)
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")
        nn.init.zeros_(self.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        above, below = self._padding(x.shape[2], 0)
        left, right = self._padding(x.shape[3], 1)
        if above == below and left == right:
            return F.conv2d(x, self.weight, self.bias, self.stride, (above, left), groups=self.groups)
        x = F.pad(x, (left, right, above, below))
        return F.conv2d(x, self.weight, self.bias, self.stride, groups=self.groups)

    def _padding(self, length: int, axis: int) -> tuple[int, int]:
        kernel, stride = self.kernel_size[axis], self.stride[axis]
        total = max((-(-length // stride) - 1) * stride + kernel - length, 0)
        return total // 2, total - total // 2


class SameConvReLU6(SameConv2d):
    """`SameConv2d` followed by min(max(x, 0), 6)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu6(super().forward(x), inplace=True)
