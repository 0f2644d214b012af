"""amdegroot/ssd.pytorch, lufficc/SSD, qfgaohao/pytorch-ssd and NVIDIA's SSD: ports of Caffe's with clipped boxes.

All four compute cx, cy, w, h of a default box in float64, as shares of the image, clamp them to the image and then
round. Default boxes are equal to 2 ulp of a box's largest coordinate (VOC at 300, mobilenet), 1 ulp (COCO at 300),
or bit for bit (at 512).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ..specs import BoxCoderSpec, DefaultBoxSpec, LossSpec, MatcherSpec, PostprocessSpec
from ._preset import (
    COCO300_SIZES,
    COCO512_SIZES,
    SSD300_MAPS,
    SSD300_RATIOS,
    SSD300_STEPS,
    SSD512_MAPS,
    SSD512_RATIOS,
    SSD512_STEPS,
    VOC300_SIZES,
    Preset,
)

_LUFFICC_VOC512_SIZES = (35.84, 76.8, 153.6, 230.4, 307.2, 384.0, 460.8, 537.65)  # the last is not Caffe's 537.6


def _boxes(side: int, sizes: Sequence[float], **options: Any) -> DefaultBoxSpec:
    ssd512 = side == 512
    return DefaultBoxSpec.from_scales(
        (side, side),
        SSD512_MAPS if ssd512 else SSD300_MAPS,
        scales=[size / side for size in sizes],
        aspect_ratios=SSD512_RATIOS if ssd512 else SSD300_RATIOS,
        steps=SSD512_STEPS if ssd512 else SSD300_STEPS,
        clip_centers=True,
        normalized=True,
        **options,
    )


def _amdegroot(name: str, sizes: Sequence[float], columns: int) -> Preset:
    """data/config.py, layers/. Its global top-k does nothing, so it returns all that NMS keeps: up to 200 per class.

    Without positives its loss divides by 0; LossSpec's divides by 1.
    """
    postprocess = PostprocessSpec(top_k=200, keep_top_k=200 * (columns - 1))
    return Preset(name, _boxes(300, sizes), BoxCoderSpec(), MatcherSpec(), LossSpec(), postprocess)


def _lufficc(name: str, side: int, sizes: Sequence[float]) -> Preset:
    """configs/vgg_ssd*.yaml. All candidates enter NMS, which separates classes by an offset: rounding changes IoUs.

    Not reproduced:
        Its matching adds 1e-5 to the union of two boxes (in shares of the image). Without positives its loss is NaN.
    """
    postprocess = PostprocessSpec(top_k=None, keep_top_k=100)
    return Preset(name, _boxes(side, sizes), BoxCoderSpec(), MatcherSpec(), LossSpec(), postprocess)


_QFGAOHAO_POSTPROCESS = PostprocessSpec(top_k=200, keep_top_k=4000)


def _qfgaohao_vgg16(name: str) -> Preset:
    """vgg_ssd_config. It returns all that its hard NMS keeps; here, 200 per class for up to 20 classes.

    Not reproduced:
        Its matching and NMS add 1e-5 to the union of two boxes (in shares of the image). Without positives its loss is
        NaN. config.iou_threshold, 0.45, is for NMS; train_ssd.py matches with 0.5.
    """
    boxes = _boxes(300, VOC300_SIZES)
    return Preset(name, boxes, BoxCoderSpec(), MatcherSpec(), LossSpec(), _QFGAOHAO_POSTPROCESS)


def _qfgaohao_mobilenet(name: str) -> Preset:
    """mobilenetv1_ssd_config, which its MobileNetV2 and V3 use too; otherwise like qfgaohao_vgg16."""
    boxes = DefaultBoxSpec.from_scales(
        (300, 300),
        (19, 10, 5, 3, 2, 1),
        scales=[size / 300 for size in (60, 105, 150, 195, 240, 285, 330)],
        aspect_ratios=((2, 3),) * 6,
        steps=(16, 32, 64, 100, 150, 300),
        clip_centers=True,
        normalized=True,
    )
    return Preset(name, boxes, BoxCoderSpec(), MatcherSpec(), LossSpec(), _QFGAOHAO_POSTPROCESS)


def _nvidia(name: str) -> Preset:
    """DeepLearningExamples, PyTorch/Detection/SSD, with the NMS threshold of its evaluation (the default is 0.45).

    Heads are (N, 4, P) and (N, 81, P), rows in the order A, H, W. An IoU equal to the NMS threshold suppresses. It
    trains through DALI, whose matching may differ in ties from the Encoder, which this preset follows. Its loss is one
    number, the sum of the two here; its detections come worst first.
    """
    postprocess = PostprocessSpec(
        score_threshold=0.05,
        top_k=200,
        iou_threshold=0.5,
        iou_inclusive=True,
        keep_top_k=200,
        channel_order="CA",
        row_order="AHW",
    )
    return Preset(
        name,
        _boxes(300, COCO300_SIZES, row_order="AHW"),
        BoxCoderSpec(),
        MatcherSpec(positive_inclusive=False),
        LossSpec(normalizer="positives_per_image"),
        postprocess,
    )


PRESETS: dict[str, Callable[[str], Preset]] = {
    "amdegroot_ssd300_voc": partial(_amdegroot, sizes=VOC300_SIZES, columns=21),
    "amdegroot_ssd300_coco": partial(_amdegroot, sizes=COCO300_SIZES, columns=81),
    "lufficc_ssd300_voc": partial(_lufficc, side=300, sizes=VOC300_SIZES),
    "lufficc_ssd300_coco": partial(_lufficc, side=300, sizes=COCO300_SIZES),
    "lufficc_ssd512_voc": partial(_lufficc, side=512, sizes=_LUFFICC_VOC512_SIZES),
    "lufficc_ssd512_coco": partial(_lufficc, side=512, sizes=COCO512_SIZES),
    "qfgaohao_vgg16": _qfgaohao_vgg16,
    "qfgaohao_mobilenet": _qfgaohao_mobilenet,
    "nvidia_ssd300_coco": _nvidia,
}
