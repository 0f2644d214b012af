"""Rivals of default_boxes, decode_boxes and encode_boxes."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from rivals import compiled, from_torchvision
from timing import Implementation
from torch import Tensor

from ssd_fast import reference
from ssd_fast.specs import BoxCoderSpec, DefaultBoxSpec


def default_boxes(
    spec: DefaultBoxSpec, scales: Sequence[float], ratios: Sequence[Sequence[int]], device: torch.device
) -> list[Implementation]:
    """torchvision's generator, which its SSD runs in every forward pass, and plain torch."""

    def from_generator() -> Implementation:
        from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
        from torchvision.models.detection.image_list import ImageList

        steps = [int(vertical) for vertical, _ in spec.level_steps]
        make = DefaultBoxGenerator([list(level) for level in ratios], scales=list(scales), steps=steps)
        height, width = spec.image_size
        images = ImageList(torch.empty(1, 3, height, width, device=device), [(height, width)])
        maps = [torch.empty(1, 1, h, w, device=device) for h, w in spec.feature_maps]
        return Implementation("torchvision", lambda _: make(images, maps)[0])

    return [
        from_torchvision(from_generator),
        Implementation("eager torch", lambda _: reference.default_boxes(spec, device=device)),
    ]


def decode_boxes(coder: BoxCoderSpec, device: torch.device) -> list[Implementation]:
    function = functools.partial(decode, coder=coder)

    def from_box_coder() -> Implementation:
        decoder = torchvision_coder(coder)

        def run(deltas: Tensor, default_boxes: Tensor) -> Tensor:
            return torch.stack([decoder.decode_single(image, default_boxes) for image in deltas])

        return Implementation("torchvision", run, capturable=device.type == "cuda")

    return [
        from_torchvision(from_box_coder),
        Implementation("eager torch", function, capturable=device.type == "cuda"),
        compiled("torch.compile", function, device),
    ]


def encode_boxes(coder: BoxCoderSpec, device: torch.device) -> list[Implementation]:
    function = functools.partial(_encode, coder=coder)

    def from_box_coder() -> Implementation:
        encoder = torchvision_coder(coder)

        def run(boxes: Tensor, default_boxes: Tensor) -> Tensor:
            return torch.stack([encoder.encode_single(image, default_boxes) for image in boxes])

        return Implementation("torchvision", run)  # copies its weights from the host: no graph can capture it

    return [
        from_torchvision(from_box_coder),
        Implementation("eager torch", function, capturable=device.type == "cuda"),
        compiled("torch.compile", function, device),
    ]


def torchvision_coder(coder: BoxCoderSpec) -> Any:
    from torchvision.models.detection._utils import BoxCoder

    return BoxCoder(weights=tuple(1 / v for v in coder.variances))  # type: ignore[arg-type]


# Unlike ssd_fast.reference, these copy nothing from the host: a GPU user would write them this way.


def _center_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    size = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + 0.5 * size, size


def decode(deltas: Tensor, default_boxes: Tensor, coder: BoxCoderSpec) -> Tensor:
    center, size = _center_size(default_boxes)
    vx, _, vw, _ = coder.variances  # those of y and h are equal in the benchmarked presets
    target = center + deltas[..., :2] * vx * size
    half = 0.5 * size * torch.exp((deltas[..., 2:] * vw).clamp(*coder.clamp_limits))
    return torch.cat((target - half, target + half), -1)


def _encode(boxes: Tensor, default_boxes: Tensor, coder: BoxCoderSpec) -> Tensor:
    center, size = _center_size(default_boxes)
    target, target_size = _center_size(boxes)
    vx, _, vw, _ = coder.variances
    return torch.cat(((target - center) / size / vx, torch.log(target_size / size) / vw), -1)
