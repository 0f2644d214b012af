"""SSD300 on VGG16, with the parameter names of torchvision's `ssd300_vgg16`, so that its checkpoints load unchanged.

Source:
    Liu et al. 2016, "SSD: Single Shot MultiBox Detector", section 2.1 and figure 2.
"""

from __future__ import annotations

from ._vgg import VGG16Network, vgg_preprocessing
from .registry import register_network

__all__ = ["SSD300VGG16", "ssd300_vgg16"]


class SSD300VGG16(VGG16Network):
    """Takes 300 x 300 images; has 8732 default boxes on maps with 38, 19, 10, 5, 3 and 1 cells per side."""

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
    """Make a randomly initialized SSD300 VGG16; `load_weights` fills it, also from other projects' checkpoints.

    Args:
        num_classes: columns of cls_logits, background included; 91 is COCO's.
        conv4_3_norm: the normalization of the first map: "l2_norm", as in the paper, or "batch_norm", as in
            qfgaohao/pytorch-ssd.

    Raises:
        ValueError: fewer than 2 classes, or another conv4_3_norm.
    """
    return SSD300VGG16(num_classes, conv4_3_norm)
