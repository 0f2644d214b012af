"""SSDLite on MobileNetV3-Large, with the parameter names of torchvision's `ssdlite320_mobilenet_v3_large`.

Sources:
    Sandler et al. 2018, "MobileNetV2: Inverted Residuals and Linear Bottlenecks", section 6.2; Howard et al. 2019,
    "Searching for MobileNetV3", section 6.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from .._checks import flag
from ._mobilenet_v3 import RELU6, ConvNorm, MobileNetV3Features
from .network import SSDNetwork
from .preprocessing import Preprocessing
from .registry import register_network

__all__ = ["SSDLite320MobileNetV3Large", "ssdlite320_mobilenet_v3_large"]

_BOXES_PER_CELL = (6, 6, 6, 6, 6, 6)


class HeadConvs(nn.Module):
    """One SSDLite predictor per map: filter each channel 3x3, then a 1x1 with `columns` channels per default box."""

    def __init__(self, feature_channels: Sequence[int], columns: int) -> None:
        super().__init__()
        self.module_list = nn.ModuleList(
            nn.Sequential(
                ConvNorm(channels, channels, 3, RELU6, groups=channels), nn.Conv2d(channels, boxes * columns, 1)
            )
            for channels, boxes in zip(feature_channels, _BOXES_PER_CELL, strict=True)
        )

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        return [block(feature) for block, feature in zip(self.module_list, features, strict=True)]


class SSDLite320MobileNetV3Large(SSDNetwork):
    """Takes 320 x 320 images; has 3234 default boxes on maps with 20, 10, 5, 3, 2 and 1 cells per side.

    The box columns are (dx, dy, dw, dh); the class columns are logits of a softmax with background in column 0.
    """

    name = "ssdlite320_mobilenet_v3_large"
    preset_name = "torchvision_ssdlite320_mobilenet_v3_large"
    class_head_prefix = "head.classification_head."
    min_training_batch = 2
    preprocessing = Preprocessing(
        size=(320, 320), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), pixel_range=1.0, rule="half_pixel"
    )

    def __init__(self, num_classes: int = 91, reduced_tail: bool = True) -> None:
        super().__init__(num_classes)
        self.reduced_tail = flag(self.name, "reduced_tail", reduced_tail)
        self.backbone = MobileNetV3Features(reduced_tail)
        self.head = nn.ModuleDict(
            {
                "classification_head": HeadConvs(self.backbone.channels, num_classes),
                "regression_head": HeadConvs(self.backbone.channels, 4),
            }
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.03)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    @property
    def arguments(self) -> dict[str, Any]:
        return {} if self.reduced_tail else {"reduced_tail": False}

    def head_maps(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        features = self.backbone(images)
        return self.head["regression_head"](features), self.head["classification_head"](features)


@register_network(SSDLite320MobileNetV3Large)
def ssdlite320_mobilenet_v3_large(num_classes: int = 91, reduced_tail: bool = True) -> SSDLite320MobileNetV3Large:
    """Make a randomly initialized SSDLite320 MobileNetV3-Large; `load_weights` fills it, also from torchvision's files.

    Args:
        num_classes: columns of cls_logits, background included; 91 is COCO's.
        reduced_tail: give the last three bottlenecks half their width, as in torchvision's COCO weights; False for
            networks that torchvision started from its ImageNet weights (weights_backbone), which have the full width.

    Raises:
        ValueError: fewer than 2 classes.
    """
    return SSDLite320MobileNetV3Large(num_classes, reduced_tail)
