"""postprocess with one class per box and one NMS over all classes, and with the best pairs per feature map."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import rivals
import rivals_postprocess
import torch
import workloads
from timing import Implementation
from torch import Tensor

import ssd_fast
import ssd_fast.reference
from helpers.comparators import Limits, assert_same_detections
from ssd_fast import Detections

IMAGE_SIZE = (300, 300)
MODES: dict[str, dict[str, Any]] = {
    "agnostic": {"class_mode": "agnostic"},
    "best of levels": {"top_k": 1000, "top_k_scope": "level"},
}


@pytest.mark.parametrize("num_images", [1, 8])
@pytest.mark.parametrize("kind", ["sparse", "dense"])
@pytest.mark.parametrize("mode", MODES)
def bench_postprocess_modes(race: Any, device: torch.device, mode: str, kind: str, num_images: int) -> None:
    preset = workloads.preset()
    spec = dataclasses.replace(preset.postprocess, **MODES[mode])
    logits, deltas, default_boxes = workloads.head_outputs(kind, num_images, 21, device)
    heads = tuple(workloads.split_levels(head, preset.default_boxes) for head in (logits, deltas))

    def ours(logits: tuple[Tensor, ...], deltas: tuple[Tensor, ...], default_boxes: Tensor) -> Detections:
        return ssd_fast.postprocess(logits, deltas, default_boxes, spec, coder=preset.coder, image_sizes=IMAGE_SIZE)

    def verify(result: Detections) -> None:
        """Compare the first image with the rival or, without it, with the reference."""
        first = [[level[:1].cpu() for level in head] for head in heads]
        arguments = first[0], first[1], default_boxes.cpu()
        limits = Limits(spec.score_threshold, spec.iou_threshold, spec.keep_top_k)
        found: Any = Detections(*(field[:1].cpu() for field in result))
        if rivals.torchvision is None:
            expected: Any = ssd_fast.reference.postprocess(*arguments, spec, coder=preset.coder, image_sizes=IMAGE_SIZE)
        else:
            # batched_nms adds multiples of the largest coordinate to the boxes, which rounds their IoU.
            limits = dataclasses.replace(limits, largest_coordinate=21 * 301.0)
            run = rivals_postprocess.in_other_modes(spec, preset.coder, IMAGE_SIZE)[0].run
            assert run is not None
            expected = run(*arguments)
            found = [{k: v for k, v in image.items() if k != "box_idxs"} for image in found.to_list()]
        assert_same_detections(found, expected, limits)

    race(
        "postprocess, other modes",
        (*heads, default_boxes),
        Implementation("ssd_fast", ours, capturable=device.type == "cuda"),
        rivals_postprocess.in_other_modes(spec, preset.coder, IMAGE_SIZE),
        verify=verify,
        mode=mode,
        heads=kind,
        images=num_images,
        columns=21,
    )
