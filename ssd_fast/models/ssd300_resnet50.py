"""SSD300 on ResNet-50, the network of NVIDIA's DeepLearningExamples, whose checkpoints `load_weights` reads.

Source:
    NVIDIA/DeepLearningExamples, PyTorch/Detection/SSD.
"""

from __future__ import annotations

import dataclasses

from torch import Tensor, nn

from ..presets import Preset
from ..presets import preset as named_preset
from ._resnet50 import CHANNELS, ResNet50Features
from .layers import HeadConvs
from .network import SSDNetwork
from .preprocessing import Preprocessing
from .registry import register_network

__all__ = ["SSD300ResNet50", "ssd300_resnet50"]

_BOXES_PER_CELL = (4, 6, 6, 6, 4, 4)


class SSD300ResNet50(SSDNetwork):
    """Takes 300 x 300 images; has 8732 default boxes on maps with 38, 19, 10, 5, 3 and 1 cells per side.

    The box columns are (dx, dy, dw, dh); the class columns are logits of a softmax with background in column 0.
    """

    name = "ssd300_resnet50"
    class_head_prefix = "head.classification_head."
    min_training_batch = 2
    preprocessing = Preprocessing(
        size=(300, 300), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), pixel_range=1.0, rule="antialiased"
    )

    def __init__(self, num_classes: int = 81) -> None:
        super().__init__(num_classes, _preset())
        self.backbone = ResNet50Features()
        self.head = nn.ModuleDict(
            {
                "classification_head": HeadConvs(CHANNELS, _BOXES_PER_CELL, num_classes),
                "regression_head": HeadConvs(CHANNELS, _BOXES_PER_CELL, 4),
            }
        )
        _initialize(self)

    def head_maps(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        features = self.backbone(images)
        return self.head["regression_head"](features), self.head["classification_head"](features)


@register_network(SSD300ResNet50)
def ssd300_resnet50(num_classes: int = 81) -> SSD300ResNet50:
    """Make a randomly initialized SSD300 ResNet-50; `load_weights` fills it, also from NVIDIA's checkpoints.

    To train from ImageNet weights as the original does, load torchvision's, whose last stage is not used:
    `network.backbone.load_state_dict(torchvision.models.resnet50(weights="DEFAULT").state_dict(), strict=False)`.

    Args:
        num_classes: columns of cls_logits, background included; 81 is COCO's without its unused ids.

    Raises:
        ValueError: fewer than 2 classes.
    """
    return SSD300ResNet50(num_classes)


def _preset() -> Preset:
    """nvidia_ssd300_coco with two changes: rows and channels are in the order of all networks here."""
    nvidia = named_preset("nvidia_ssd300_coco")
    return dataclasses.replace(
        nvidia,
        default_boxes=dataclasses.replace(nvidia.default_boxes, row_order="HWA"),
        postprocess=dataclasses.replace(nvidia.postprocess, row_order="HWA", channel_order="AC"),
    )


def _initialize(network: SSD300ResNet50) -> None:
    """Initialize ResNet's own convolutions with He's method, those that SSD adds with Xavier's; biases keep torch's."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            if name.startswith(("backbone.extra", "head")):
                nn.init.xavier_uniform_(module.weight)
            else:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
