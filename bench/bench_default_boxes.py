"""default_boxes: SSD300's 8732 boxes."""

from __future__ import annotations

from typing import Any

import device_builders
import pytest
import rivals_boxes
import torch
from timing import Implementation

import ssd_fast

SCALES = (0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05)
RATIOS = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))


@pytest.mark.parametrize("memory", ["warm"], indirect=True)
def bench_default_boxes(race: Any, device: torch.device) -> None:
    spec = ssd_fast.preset("torchvision_ssd300_vgg16").default_boxes
    run = device_builders.default_boxes(device).call  # the kernel itself: the op may cache its result
    like = torch.empty(0, device=device)  # no input, but it tells the harness the device

    def verify(boxes: torch.Tensor) -> None:
        assert torch.equal(boxes, ssd_fast.reference.default_boxes(spec, device=device))

    race(
        "default_boxes",
        (like,),
        Implementation("ssd_fast", lambda _: run(), capturable=device.type == "cuda"),
        rivals_boxes.default_boxes(spec, SCALES, RATIOS, device),
        verify=verify,
        boxes=spec.num_boxes,
    )
