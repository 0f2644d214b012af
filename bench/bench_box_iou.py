"""box_iou: ground truth against default boxes, and square problems."""

from __future__ import annotations

from typing import Any

import pytest
import rivals_box_iou
import torch
import workloads
from timing import Implementation

import ssd_fast
import ssd_fast.reference


@pytest.mark.parametrize(("n", "m"), [(16, 8732), (1000, 1000), (2000, 8732)])
def bench_box_iou(race: Any, device: torch.device, n: int, m: int) -> None:
    boxes1 = workloads.uniform_boxes(n, seed=1).to(device)
    boxes2 = workloads.uniform_boxes(m, seed=2).to(device)

    def verify(iou: torch.Tensor) -> None:
        assert torch.equal(iou, ssd_fast.reference.box_iou(boxes1, boxes2))

    race(
        "box_iou",
        (boxes1, boxes2),
        Implementation("ssd_fast", ssd_fast.box_iou, capturable=device.type == "cuda"),
        rivals_box_iou.box_iou(device),
        verify=verify,
        n=n,
        m=m,
    )
