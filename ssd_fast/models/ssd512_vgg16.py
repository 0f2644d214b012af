"""SSD512 on VGG16: SSD300 with larger images and one more map.

Sources:
    Liu et al. 2016, "SSD: Single Shot MultiBox Detector", section 3; the last block follows
    weiliu89/caffe (branch ssd).
"""

from __future__ import annotations

from ._vgg import VGG16Network, vgg_preprocessing
from .registry import register_network

__all__ = ["SSD512VGG16", "ssd512_vgg16"]

_HALVING = {"squeezed": 128, "out": 256, "stride": 2, "padding": 1}


class SSD512VGG16(VGG16Network):
    """Takes 512 x 512 images; has 24564 default boxes on maps with 64, 32, 16, 8, 4, 2 and 1 cells per side."""

    name = "ssd512_vgg16"
    preset_name = "caffe_ssd512_voc"
    preprocessing = vgg_preprocessing(512)
    shrinking_blocks = (
        {**_HALVING, "squeezed": 256, "out": 512},
        _HALVING,
        _HALVING,
        _HALVING,
        {"squeezed": 128, "out": 256, "kernel": 4, "padding": 1},  # 2 -> 1
    )
    boxes_per_cell = (4, 6, 6, 6, 6, 4, 4)


@register_network(SSD512VGG16)
def ssd512_vgg16(num_classes: int = 21, conv4_3_norm: str = "l2_norm") -> SSD512VGG16:
    """Make a randomly initialized SSD512 VGG16; `load_weights` fills it, also from other projects' checkpoints.

    Args:
        num_classes: columns of cls_logits, background included; 21 is PASCAL VOC's.
        conv4_3_norm: as for `ssd300_vgg16`.

    Raises:
        ValueError: fewer than 2 classes, or another conv4_3_norm.
    """
    return SSD512VGG16(num_classes, conv4_3_norm)
