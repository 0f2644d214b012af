"""Convert other projects' names and order of the tensors of this package's networks.

own, torchvision  the names of this package; for VGG16 and MobileNetV3 they are torchvision's.
amdegroot         amdegroot/ssd.pytorch: SSD300.
lufficc           lufficc/SSD: SSD300 and SSD512.
qfgaohao          qfgaohao/pytorch-ssd: vgg16-ssd, whose first map goes through a batch norm.
mmdetection       open-mmlab/mmdetection from 2.14 on: SSD300 and SSD512. Its background is the last class column.
nvidia            NVIDIA/DeepLearningExamples, PyTorch/Detection/SSD: SSD300 on ResNet-50. The channels of its
                  heads are in the order column of the box, box of the cell.

The others flatten in the order row, column, box of the cell, column of the box, so that heads are taken unchanged
except for mmdetection's background. The prefix "module." of a wrapper (torch's DataParallel) is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from torch import Tensor

from .mismatch import first_names

__all__ = ["LAYOUTS", "convert", "detect_layout"]

LAYOUTS = ("own", "torchvision", "amdegroot", "lufficc", "qfgaohao", "mmdetection", "nvidia")

_WRAPPER = "module."
_BOX_HEAD, _CLASS_HEAD = "head.regression_head.module_list", "head.classification_head.module_list"

# A tensor that only files of this layout have.
_MARKERS = {
    "amdegroot": "vgg.0.weight",
    "lufficc": "backbone.vgg.0.weight",
    "qfgaohao": "base_net.0.weight",
    "mmdetection": "bbox_head.cls_convs.0.0.weight",
    "nvidia": "feature_extractor.feature_extractor.0.weight",
}

# Files that are recognized by one of their tensors, but that no network of this package can take.
_REFUSED = {
    "bbox_head.cls_convs.0.weight": "mmdetection's before 2.14: convert it with its upgrade_ssd_version.py first",
    "base_net.0.0.weight": "qfgaohao's on a MobileNet, for which this package has no network",
    "box_head.predictor.cls_headers.0.conv.0.weight": "lufficc's SSDLite, for which this package has no network",
}


def detect_layout(names: Iterable[str], expected: str = "auto") -> str:
    """Detect the layout of a file from the names of its tensors; "own" if it is none of the others.

    Args:
        names: the names of its tensors.
        expected: the layout that the user expects, or "auto".

    Raises:
        ValueError: another layout than expected, a file of a known project whose network this package does not have, or
            an older format of it.
    """
    present = [name.removeprefix(_WRAPPER) for name in names]
    for marker, what in _REFUSED.items():
        if marker in present:
            raise ValueError(f"the file is {what}")
    found = next((layout for layout, marker in _MARKERS.items() if marker in present), "own")
    if expected in ("auto", found) or (expected, found) == ("torchvision", "own"):
        return found
    example = f", such as {_MARKERS[expected]}" if expected in _MARKERS else ""
    given = f"{found}'s: {_MARKERS[found]}" if found in _MARKERS else f"own or unknown names: {first_names(present)}"
    raise ValueError(f"layout: expected {expected}'s tensors{example}, got {given}")


def convert(tensors: Mapping[str, Tensor], layout: str) -> dict[str, Tensor]:
    """Convert the tensors to this package's names and order; names that the layout does not know stay unchanged.

    Raises:
        ValueError: mmdetection's or NVIDIA's heads without the box heads that tell the number of boxes per cell.
    """
    renamed = {_own_name(name.removeprefix(_WRAPPER), layout): tensor for name, tensor in tensors.items()}
    return _reordered(renamed, _REORDERS[layout]) if layout in _REORDERS else renamed


def _vgg(match: re.Match[str]) -> str:
    """Rename a layer of VGG16's flat list, conv1_1 to fc7."""
    index, rest = int(match[1]), match[2]
    if index < 23:
        return f"backbone.features.{index}.{rest}"
    return f"backbone.extra.0.{index - 23}.{rest}" if index < 30 else f"backbone.extra.0.7.{index - 30}.{rest}"


def _flat_extra(match: re.Match[str]) -> str:
    """Rename a convolution of a flat list with two per block; here each is followed by a ReLU."""
    block, second = divmod(int(match[1]), 2)
    return f"backbone.extra.{block + 1}.{2 * second}.{match[2]}"


def _extra_block(match: re.Match[str]) -> str:
    """Rename a layer of a block in which ReLUs are counted."""
    return f"backbone.extra.{int(match[1]) + 1}.{match[2]}.{match[3]}"


def _extra_convs(match: re.Match[str]) -> str:
    """Rename a convolution of a block in which the ReLU is part of it."""
    return f"backbone.extra.{int(match[1]) + 1}.{2 * int(match[2])}.{match[3]}"


def _resnet_stage(match: re.Match[str]) -> str:
    """Rename a stage of a flat list that begins with a convolution, a batch norm, a ReLU and a pooling."""
    return f"backbone.layer{int(match[1]) - 3}.{match[2]}"


_RULES: dict[str, tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]] = {
    "amdegroot": (
        (r"vgg\.(\d+)\.(.+)", _vgg),
        (r"L2Norm\.weight", "backbone.scale_weight"),
        (r"extras\.(\d+)\.(.+)", _flat_extra),
        (r"loc\.(.+)", rf"{_BOX_HEAD}.\1"),
        (r"conf\.(.+)", rf"{_CLASS_HEAD}.\1"),
    ),
    "lufficc": (
        (r"backbone\.vgg\.(\d+)\.(.+)", _vgg),
        (r"backbone\.l2_norm\.weight", "backbone.scale_weight"),
        (r"backbone\.extras\.(\d+)\.(.+)", _flat_extra),
        (r"box_head\.predictor\.reg_headers\.(.+)", rf"{_BOX_HEAD}.\1"),
        (r"box_head\.predictor\.cls_headers\.(.+)", rf"{_CLASS_HEAD}.\1"),
    ),
    "qfgaohao": (
        (r"base_net\.(\d+)\.(.+)", _vgg),
        (r"source_layer_add_ons\.0\.(.+)", r"backbone.conv4_3_norm.\1"),
        (r"extras\.(\d+)\.(\d+)\.(.+)", _extra_block),
        (r"regression_headers\.(.+)", rf"{_BOX_HEAD}.\1"),
        (r"classification_headers\.(.+)", rf"{_CLASS_HEAD}.\1"),
    ),
    "mmdetection": (
        (r"backbone\.features\.(\d+)\.(.+)", _vgg),
        (r"neck\.l2_norm\.weight", "backbone.scale_weight"),
        (r"neck\.extra_layers\.(\d+)\.(\d+)\.conv\.(.+)", _extra_convs),
        (r"bbox_head\.reg_convs\.(\d+)\.0\.(.+)", rf"{_BOX_HEAD}.\1.\2"),
        (r"bbox_head\.cls_convs\.(\d+)\.0\.(.+)", rf"{_CLASS_HEAD}.\1.\2"),
    ),
    "nvidia": (
        (r"feature_extractor\.feature_extractor\.0\.(.+)", r"backbone.conv1.\1"),
        (r"feature_extractor\.feature_extractor\.1\.(.+)", r"backbone.bn1.\1"),
        (r"feature_extractor\.feature_extractor\.(\d+)\.(.+)", _resnet_stage),
        (r"additional_blocks\.(.+)", r"backbone.extra.\1"),
        (r"loc\.(.+)", rf"{_BOX_HEAD}.\1"),
        (r"conf\.(.+)", rf"{_CLASS_HEAD}.\1"),
    ),
}


def _own_name(name: str, layout: str) -> str:
    for pattern, own in _RULES.get(layout, ()):
        if match := re.fullmatch(pattern, name):
            return match.expand(own) if isinstance(own, str) else own(match)
    return name


class _Reorder(NamedTuple):
    """How the channels of a layout's heads are reordered."""

    heads: tuple[str, ...]  # prefixes of the heads' names here
    box_head: str  # its name in the file
    move: Callable[[Tensor, int], Tensor]  # a weight or bias and the boxes per cell -> the same in this package's order


def _background_first(head: Tensor, boxes_per_cell: int) -> Tensor:
    """Move the last column of every default box to the front."""
    return head.unflatten(0, (boxes_per_cell, -1)).roll(1, dims=1).flatten(0, 1)


def _box_first(head: Tensor, boxes_per_cell: int) -> Tensor:
    """Move channel c * A + a to a * C + c."""
    return head.unflatten(0, (-1, boxes_per_cell)).transpose(0, 1).flatten(0, 1)


_REORDERS = {
    "mmdetection": _Reorder((_CLASS_HEAD,), "bbox_head.reg_convs", _background_first),
    "nvidia": _Reorder((_CLASS_HEAD, _BOX_HEAD), "loc", _box_first),
}


def _reordered(tensors: dict[str, Tensor], reorder: _Reorder) -> dict[str, Tensor]:
    """Reorder the channels of the heads' weights and biases to this package's order."""
    moved = dict(tensors)
    for name, tensor in tensors.items():
        if name.startswith(reorder.heads):
            boxes = tensors.get(name.replace(_CLASS_HEAD, _BOX_HEAD))
            boxes_per_cell = boxes.shape[0] // 4 if boxes is not None and boxes.ndim else 0
            if boxes_per_cell == 0 or tensor.ndim == 0 or tensor.shape[0] % boxes_per_cell:
                raise ValueError(f"{reorder.box_head} does not tell how many boxes per cell {name} has columns for")
            moved[name] = reorder.move(tensor, boxes_per_cell)
    return moved
