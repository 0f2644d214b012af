"""Recognize the network, the preset and the class names of a weight file without metadata."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ...assets import COCO_CLASSES
from ...presets import preset
from ..network import SSDNetwork

__all__ = ["adopt_dialect", "published_classes", "recognize"]

_CLASS_HEAD = "head.classification_head.module_list"

# Tensors that distinguish a network from those below it (first the bias of a class head), and the boxes per cell there.
_FEATURES = (
    ("ssdlite300_mobilenet_v2", ("class_heads.0.predict.bias",), 3),
    ("ssdlite320_mobilenet_v3_large", (f"{_CLASS_HEAD}.0.1.bias",), 6),
    ("ssd300_resnet50", (f"{_CLASS_HEAD}.0.bias", "backbone.layer1.0.conv1.weight"), 4),
    ("ssd512_vgg16", (f"{_CLASS_HEAD}.6.bias",), 4),
    ("ssd300_vgg16", (f"{_CLASS_HEAD}.0.bias",), 4),
)
_LAST_STRIDE = "backbone.features.1.0.3.0.weight"  # [80, ...] with MobileNetV3's reduced tail, else [160, ...]

# The presets of a project's networks by their number of class columns; None: the same preset for all.
_PRESETS: dict[tuple[str, str], dict[int | None, str]] = {
    ("amdegroot", "ssd300_vgg16"): {
        21: "amdegroot_ssd300_voc",
        81: "amdegroot_ssd300_coco",
        201: "amdegroot_ssd300_coco",
    },
    ("lufficc", "ssd300_vgg16"): {21: "lufficc_ssd300_voc", 81: "lufficc_ssd300_coco"},
    ("lufficc", "ssd512_vgg16"): {21: "lufficc_ssd512_voc", 81: "lufficc_ssd512_coco"},
    ("qfgaohao", "ssd300_vgg16"): {None: "qfgaohao_vgg16"},
    ("mmdetection", "ssd300_vgg16"): {21: "mmdet_ssd300_voc", 81: "mmdet_ssd300_coco"},
    ("mmdetection", "ssd512_vgg16"): {21: "mmdet_ssd512_voc", 81: "mmdet_ssd512_coco"},
    ("nvidia", "ssd300_resnet50"): {None: "nvidia_ssd300_coco"},
}

# Published files with COCO's 91 columns, by the beginning of their sha256, with which torchvision's file names end.
_COCO_FILES = {
    "b556d3b4": "ssd300_vgg16_coco-b556d3b4.pth",
    "a79551df": "ssdlite320_mobilenet_v3_large_coco-a79551df.pth",
    "ebce7154": "ssdlite300_mobilenet_v2_coco.safetensors",
}

# The means that the projects subtract from RGB pixels in 0..255, after resizing (and rounding) 8-bit images.
_CAFFE_MEAN, _MMDETECTION_MEAN = (123.0, 117.0, 104.0), (123.675, 116.28, 103.53)


def recognize(tensors: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """Find the arguments of `make_network` for a network with these tensors; None if no network has them."""
    for name, features, boxes_per_cell in _FEATURES:
        if all(feature in tensors for feature in features):
            columns = tensors[features[0]].numel() // boxes_per_cell
            network: dict[str, Any] = {"name": name, "num_classes": max(2, columns)}
            if "backbone.conv4_3_norm.weight" in tensors:
                network["conv4_3_norm"] = "batch_norm"
            if _LAST_STRIDE in tensors and tuple(tensors[_LAST_STRIDE].shape[:1]) > (80,):
                network["reduced_tail"] = False
            return network
    return None


def published_classes(path: Path, columns: int) -> tuple[str, ...] | None:
    """COCO's class names if the file is a published one, whatever its name is here; None for any other file."""
    if columns != len(COCO_CLASSES):
        return None
    return COCO_CLASSES if hashlib.sha256(path.read_bytes()).hexdigest()[:8] in _COCO_FILES else None


def adopt_dialect(network: SSDNetwork, layout: str, chosen: str | None = None) -> None:
    """Give a network the preset and normalization of the project whose weights it will hold.

    mmdetection's preset gets one change: background is the last class column there and the first here. NVIDIA's network
    has its project's preset and normalization from the start.

    Args:
        network: the network, which is changed in place.
        layout: the project.
        chosen: the name of one of the project's presets; None: the only one, or that of the number of class columns.

    Raises:
        ValueError: another name, a network that the project does not have, or several presets and none is chosen.
    """
    presets = _PRESETS.get((layout, network.name), {})
    names = " or ".join(dict.fromkeys(presets.values()))
    if chosen is not None and chosen not in presets.values():
        raise ValueError(f"preset: expected {names or None} for a {network.name} of {layout}, got {chosen!r}")
    if layout == "own" or (layout, network.name) == ("nvidia", "ssd300_resnet50"):
        return
    if not presets:
        raise ValueError(f"a {network.name} of {layout}: its default boxes match no known preset")
    name = chosen or presets.get(None) or presets.get(network.num_classes)
    if name is None:
        raise ValueError(
            f"a {network.name} of {layout} with {network.num_classes} class columns can have the default boxes of "
            f'{names}: choose one, as in load_network(path, preset="{next(iter(presets.values()))}"), and save the '
            "network with save_weights"
        )
    network.preset = preset(name)
    mean = _CAFFE_MEAN
    if layout == "mmdetection":
        mean = _MMDETECTION_MEAN
        postprocess = dataclasses.replace(network.preset.postprocess, background=0)
        loss = network.preset.loss and dataclasses.replace(network.preset.loss, background=0)
        network.preset = dataclasses.replace(network.preset, postprocess=postprocess, loss=loss)
    network.preprocessing = dataclasses.replace(
        network.preprocessing, mean=mean, std=(1.0, 1.0, 1.0), pixel_range=255.0
    )
