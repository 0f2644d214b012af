"""SSDLite on MobileNetV2 as defined by TensorFlow's object detection models, with every batch norm folded.

Sources:
    Sandler et al. 2018, "MobileNetV2: Inverted Residuals and Linear Bottlenecks", sections 3 and 6.2;
    `ssdlite_mobilenet_v2_coco` of the TensorFlow object detection models.
"""

from __future__ import annotations

from torch import Tensor, nn

from .layers import SameConv2d, SameConvReLU6
from .network import SSDNetwork
from .preprocessing import Preprocessing
from .registry import register_network

__all__ = ["SSDLite300MobileNetV2", "ssdlite300_mobilenet_v2"]

# (expansion, channels, repeats, stride of the first): the bottleneck table of the MobileNetV2 paper
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
_TAPPED_BLOCK = 13  # its expanded activation, the last of stride 16, is the first feature map
_EXTRAS = (
    (256, 512),
    (128, 256),
    (128, 256),
    (64, 128),
)  # (squeezed, output) channels of the maps with 5, 3, 2 and 1 cells per side
_BOXES_PER_CELL = (3, 6, 6, 6, 6, 6)


class InvertedResidual(nn.Module):
    """Widen 1x1, filter each channel 3x3, narrow 1x1 without activation; add the input where the shapes agree."""

    def __init__(self, in_channels: int, out_channels: int, expansion: int, stride: int) -> None:
        super().__init__()
        wide = in_channels * expansion
        self.expand = SameConvReLU6(in_channels, wide, 1) if expansion > 1 else nn.Identity()
        self.depthwise = SameConvReLU6(wide, wide, 3, stride, groups=wide)
        self.project = SameConv2d(wide, out_channels, 1)
        self.is_residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.is_residual else y


class ExtraBlock(nn.Sequential):
    """Halves the map: squeeze 1x1, filter each channel 3x3 with stride 2, widen 1x1."""

    def __init__(self, in_channels: int, squeezed: int, out_channels: int) -> None:
        super().__init__()
        self.squeeze = SameConvReLU6(in_channels, squeezed, 1)
        self.depthwise = SameConvReLU6(squeezed, squeezed, 3, 2, groups=squeezed)
        self.widen = SameConvReLU6(squeezed, out_channels, 1)


class SeparableHead(nn.Sequential):
    """SSDLite's predictor: filter each channel 3x3, then a linear 1x1."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.depthwise = SameConvReLU6(in_channels, in_channels, 3, groups=in_channels)
        self.predict = SameConv2d(in_channels, out_channels, 1)


class SSDLite300MobileNetV2(SSDNetwork):
    """Takes 300 x 300 images; has 1917 default boxes on maps with 19, 10, 5, 3, 2 and 1 cells per side.

    The box columns are (ty, tx, th, tw), TensorFlow's order; the class columns are logits of sigmoids.
    """

    name = "ssdlite300_mobilenet_v2"
    preset_name = "tf_ssdlite_mobilenet_v2"
    preprocessing = Preprocessing(
        size=(300, 300), mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5), pixel_range=255.0, rule="corner"
    )

    def __init__(self, num_classes: int = 91) -> None:
        super().__init__(num_classes)
        self.stem = SameConvReLU6(3, 32, 3, stride=2)
        self.blocks = nn.ModuleList()
        channels, feature_channels = 32, []
        for expansion, out_channels, repeats, first_stride in _STAGES:
            for repeat in range(repeats):
                if len(self.blocks) == _TAPPED_BLOCK:
                    feature_channels.append(channels * expansion)
                self.blocks.append(InvertedResidual(channels, out_channels, expansion, 1 if repeat else first_stride))
                channels = out_channels
        self.last = SameConvReLU6(channels, 1280, 1)
        feature_channels.append(1280)
        self.extras = nn.ModuleList()
        for squeezed, out_channels in _EXTRAS:
            self.extras.append(ExtraBlock(feature_channels[-1], squeezed, out_channels))
            feature_channels.append(out_channels)
        per_map = list(zip(feature_channels, _BOXES_PER_CELL, strict=True))
        self.box_heads = nn.ModuleList([SeparableHead(c, boxes * 4) for c, boxes in per_map])
        self.class_heads = nn.ModuleList([SeparableHead(c, boxes * num_classes) for c, boxes in per_map])

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        """[N, 3, 300, 300] -> six maps with 576, 1280, 512, 256, 256 and 128 channels."""
        x = self.stem(images)
        features = []
        for index, block in enumerate(self.blocks):
            if index == _TAPPED_BLOCK:
                assert isinstance(block, InvertedResidual)
                features.append(block.expand(x))
                x = block.project(block.depthwise(features[-1]))
            else:
                x = block(x)
        features.append(self.last(x))
        for extra in self.extras:
            features.append(extra(features[-1]))
        return features

    def head_maps(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        features = self.feature_maps(images)
        bbox_maps = [head(feature) for head, feature in zip(self.box_heads, features, strict=True)]
        cls_maps = [head(feature) for head, feature in zip(self.class_heads, features, strict=True)]
        return bbox_maps, cls_maps


@register_network(SSDLite300MobileNetV2)
def ssdlite300_mobilenet_v2(num_classes: int = 91) -> SSDLite300MobileNetV2:
    """Make a randomly initialized SSDLite300 MobileNetV2; `load_weights` fills it.

    Args:
        num_classes: columns of cls_logits, background included; 91 is COCO's.
    """
    return SSDLite300MobileNetV2(num_classes)
