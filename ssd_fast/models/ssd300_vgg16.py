"""SSD300 on VGG16, with the parameter names of torchvision's `ssd300_vgg16`, so that its checkpoints load as they are.

Source:
    Liu et al. 2016, "SSD: Single Shot MultiBox Detector", section 2.1 and figure 2.
"""

from __future__ import annotations

from ._vgg import VGG16Network, vgg_preprocessing
from .registry import register_network

__all__ = ["SSD300VGG16", "ssd300_vgg16"]


class SSD300VGG16(VGG16Network):
    """300 x 300 images to 8732 default boxes on maps of 38, 19, 10, 5, 3 and 1 cells a side."""

    name = "ssd300_vgg16"
    preset_name = "torchvision_ssd300_vgg16"
    preprocessing = vgg_preprocessing(300)
    shrinking_blocks = (
        {"squeezed": 256, "out": 512, "stride": 2, "padding": 1},
        {"squeezed": 128, "out": 256, "stride": 2, "padding": 1},
        {"squeezed": 128, "out": 256},
        {"squeezed": 128, "out": 256},
    )
    boxes_per_cell = (4, 6, 6, 6, 4, 4)


@register_network(SSD300VGG16)
def ssd300_vgg16(num_classes: int = 91, conv4_3_norm: str = "l2_norm") -> SSD300VGG16:
    """A new SSD300 VGG16, randomly initialized; `load_weights` fills it, also from other projects' checkpoints.

    Args:
        num_classes: columns of cls_logits, background included; 91 is COCO's.
        conv4_3_norm: what the first map goes through: "l2_norm", the paper's, or "batch_norm", which
            qfgaohao/pytorch-ssd puts in its place.

    Raises:
        ValueError: fewer than 2 classes, another conv4_3_norm.
    """
    return SSD300VGG16(num_classes, conv4_3_norm)
