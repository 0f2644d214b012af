"""Which network a file's tensors are of, how its heads are read and what its columns are, where it does not say so."""

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

# Tensors that tell a network from those below it, the bias of a class head first, and the boxes a cell carries there.
_FEATURES = (
    ("ssdlite300_mobilenet_v2", ("class_heads.0.predict.bias",), 3),
    ("ssdlite320_mobilenet_v3_large", (f"{_CLASS_HEAD}.0.1.bias",), 6),
    ("ssd300_resnet50", (f"{_CLASS_HEAD}.0.bias", "backbone.layer1.0.conv1.weight"), 4),
    ("ssd512_vgg16", (f"{_CLASS_HEAD}.6.bias",), 4),
    ("ssd300_vgg16", (f"{_CLASS_HEAD}.0.bias",), 4),
)
_LAST_STRIDE = "backbone.features.1.0.3.0.weight"  # [80, ...] with MobileNetV3's reduced tail, else [160, ...]

# The presets of a project's networks by the class columns that tell them apart; None: all have the same.
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

# Published files with COCO's 91 columns, by how their sha256 begins: what the names of torchvision's files end with.
_COCO_FILES = {
    "b556d3b4": "ssd300_vgg16_coco-b556d3b4.pth",
    "a79551df": "ssdlite320_mobilenet_v3_large_coco-a79551df.pth",
    "ebce7154": "ssdlite300_mobilenet_v2_coco.safetensors",
}

# What the projects subtract from RGB pixels of 0..255. All of them resize 8-bit images, and so round before they do.
_CAFFE_MEAN, _MMDETECTION_MEAN = (123.0, 117.0, 104.0), (123.675, 116.28, 103.53)


def recognize(tensors: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """The arguments of `make_network` for a network with these tensors, or None if no network has them."""
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
    """COCO's names, if the file is one of the published ones, whatever it is called here; None for any other."""
    if columns != len(COCO_CLASSES):
        return None
    return COCO_CLASSES if hashlib.sha256(path.read_bytes()).hexdigest()[:8] in _COCO_FILES else None


def adopt_dialect(network: SSDNetwork, layout: str, chosen: str | None = None) -> None:
    """Gives a network that is to hold another project's weights that project's preset and normalization.

    mmdetection's preset is changed in one point: its background is the last class column there, the first here.
    NVIDIA's network has its project's preset and normalization from the start.

    Args:
        chosen: the name of one of the project's presets; None: the only one, or that of so many class columns.

    Raises:
        ValueError: another name; the project has no such network, or several presets for it and none is chosen.
    """
    presets = _PRESETS.get((layout, network.name), {})
    names = " or ".join(dict.fromkeys(presets.values()))
    if chosen is not None and chosen not in presets.values():
        raise ValueError(f"preset: expected {names or None} for a {network.name} of {layout}, got {chosen!r}")
    if layout == "own" or (layout, network.name) == ("nvidia", "ssd300_resnet50"):
        return
    if not presets:
        raise ValueError(f"a {network.name} of {layout} has the default boxes of no known preset")
    name = chosen or presets.get(None) or presets.get(network.num_classes)
    if name is None:
        raise ValueError(
            f"a {network.name} of {layout} with {network.num_classes} class columns can have the default boxes of "
            f'{names}: say which, as in load_network(path, preset="{next(iter(presets.values()))}"), and keep the '
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
