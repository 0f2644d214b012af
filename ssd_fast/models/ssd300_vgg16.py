"""SSD300 on VGG16, with the parameter names of torchvision's `ssd300_vgg16`, so that its checkpoints load as they are.

Source: Liu et al. 2016, "SSD: Single Shot MultiBox Detector", section 2.1 and figure 2.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._blocks import SSDNetwork
from .preprocessing import Preprocessing

__all__ = ["SSD300VGG16", "ssd300_vgg16"]

_FEATURE_CHANNELS = (512, 1024, 512, 256, 256, 256)
_BOXES_PER_CELL = (4, 6, 6, 6, 4, 4)


class VGG16Features(nn.Module):
    """VGG16 to conv4_3, its fully connected layers as dilated convolutions, and four blocks that shrink the map."""

    def __init__(self) -> None:
        super().__init__()
        self.scale_weight = nn.Parameter(torch.full((512,), 20.0))
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
                nn.Conv2d(1024, 1024, 1),
                nn.ReLU(inplace=True),
            ),
        )
        self.extra = nn.ModuleList(
            [
                conv5_to_fc7,
                _extra_block(1024, 256, 512, stride=2, padding=1),
                _extra_block(512, 128, 256, stride=2, padding=1),
                _extra_block(256, 128, 256),
                _extra_block(256, 128, 256),
            ]
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """[N, 3, 300, 300] -> six maps of 38, 19, 10, 5, 3 and 1 cells a side."""
        x = self.features(images)
        maps = [self.scale_weight.view(1, -1, 1, 1) * F.normalize(x)]  # conv4_3's norm is far above the others'
        for block in self.extra:
            x = block(x)
            maps.append(x)
        return maps


class HeadConvs(nn.Module):
    """One 3x3 convolution a map, `columns` channels a default box."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.module_list = nn.ModuleList(
            nn.Conv2d(channels, boxes * columns, 3, padding=1)
            for channels, boxes in zip(_FEATURE_CHANNELS, _BOXES_PER_CELL, strict=True)
        )

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        return [conv(feature) for conv, feature in zip(self.module_list, features, strict=True)]


class SSD300VGG16(SSDNetwork):
    """300 x 300 images to 8732 default boxes on maps of 38, 19, 10, 5, 3 and 1 cells a side.

    The box columns are (dx, dy, dw, dh); the class columns are logits of a softmax whose column 0 is the background.
    """

    name = "ssd300_vgg16"
    preset_name = "torchvision_ssd300_vgg16"
    preprocessing = Preprocessing(
        size=(300, 300),
        mean=(0.48235, 0.45882, 0.40784),
        std=(1 / 255, 1 / 255, 1 / 255),  # VGG16's Caffe weights were trained on 0..255
        pixel_range=1.0,
        rule="half_pixel",
    )

    def __init__(self, num_classes: int = 91) -> None:
        super().__init__(num_classes)
        self.backbone = VGG16Features()
        self.head = nn.ModuleDict({"classification_head": HeadConvs(num_classes), "regression_head": HeadConvs(4)})
        _initialize(self)

    def head_maps(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        features = self.backbone(images)
        return self.head["regression_head"](features), self.head["classification_head"](features)


def ssd300_vgg16(num_classes: int = 91) -> SSD300VGG16:
    """A new SSD300 VGG16, randomly initialised; `load_weights` fills it, also from torchvision's checkpoints.

    Args: num_classes: columns of cls_logits, background included; 91 is COCO's.
    """
    return SSD300VGG16(num_classes)


def _convs(in_channels: int, *out_channels: int) -> list[nn.Module]:
    """3x3 convolutions of a VGG stage, each with its ReLU."""
    layers: list[nn.Module] = []
    for channels in out_channels:
        layers += [nn.Conv2d(in_channels, channels, 3, padding=1), nn.ReLU(inplace=True)]
        in_channels = channels
    return layers


def _extra_block(in_channels: int, squeezed: int, out: int, stride: int = 1, padding: int = 0) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, squeezed, 1),
        nn.ReLU(inplace=True),
        nn.Conv2d(squeezed, out, 3, stride, padding),
        nn.ReLU(inplace=True),
    )


def _initialize(network: SSD300VGG16) -> None:
    """He's initialisation for VGG's own convolutions, Xavier's for what SSD adds; biases 0."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            if name.startswith("backbone.features"):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            else:
                nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
