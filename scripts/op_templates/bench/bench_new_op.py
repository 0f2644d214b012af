"""new_op: FILL IN: what it is timed on."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import workloads
from timing import Implementation

import ssd_fast
import ssd_fast.reference


@pytest.mark.parametrize("n", [8_732, 1_000_000])
def bench_new_op(race: Any, device: torch.device, n: int) -> None:
    boxes = workloads.uniform_boxes(n).to(device)

    def verify(result: torch.Tensor) -> None:
        assert torch.equal(result, ssd_fast.reference.new_op(boxes))

    cuda = device.type == "cuda"
    race(
        "new_op",
        (boxes,),
        Implementation("ssd_fast", ssd_fast.new_op, capturable=cuda),
        [Implementation("eager torch", ssd_fast.reference.new_op, capturable=cuda)],  # FILL IN: rivals_new_op.py
        verify=verify,
        n=n,
    )
