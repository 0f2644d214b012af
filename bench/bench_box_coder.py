"""decode_boxes and encode_boxes: SSD300's 8732 default boxes, for a batch."""

from __future__ import annotations

from typing import Any

import pytest
import rivals_boxes
import torch
import workloads
from timing import Implementation

import ssd_fast
import ssd_fast.reference


def images(device: torch.device) -> tuple[int, ...]:
    return (1, 8, 32, 128) if device.type == "cuda" else (1, 8)


@pytest.mark.parametrize("num_images", [1, 8, 32, 128])
@pytest.mark.parametrize("op", ["decode_boxes", "encode_boxes"])
def bench_box_coder(race: Any, device: torch.device, op: str, num_images: int) -> None:
    if num_images not in images(device):
        pytest.skip("large batches are for GPUs")
    coder = workloads.preset().coder
    _, deltas, default_boxes = workloads.head_outputs("dense", num_images, 2, device)
    rows = deltas if op == "decode_boxes" else ssd_fast.decode_boxes(deltas, default_boxes, coder)
    function, reference = getattr(ssd_fast, op), getattr(ssd_fast.reference, op)

    def verify(result: torch.Tensor) -> None:
        # The reference uses torch's exp and log.
        torch.testing.assert_close(result, reference(rows, default_boxes, coder), rtol=1e-5, atol=1e-4)

    race(
        op,
        (rows, default_boxes),
        Implementation(
            "ssd_fast",
            lambda rows, default_boxes: function(rows, default_boxes, coder),
            capturable=device.type == "cuda",
        ),
        getattr(rivals_boxes, op)(coder, device),
        verify=verify,
        images=num_images,
    )
