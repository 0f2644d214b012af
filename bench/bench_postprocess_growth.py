"""postprocess: how its time grows with images, default boxes, classes and candidates, varied one at a time.

Unless varied, the heads are SSD300's: sparse, one image, 21 columns.
"""

from __future__ import annotations

from typing import Any

import pytest
import rivals_postprocess
import torch
import workloads
from timing import QUICK, Implementation
from torch import Tensor

import ssd_fast
import ssd_fast.reference
from ssd_fast import Detections

IMAGE_SIZE = (300, 300)
CASES = [
    *(("images", n) for n in (1, 2, 4, 8, 16, 32)),
    *(("times_the_default_boxes", n) for n in (1, 2, 4, 8)),
    *(("columns", n) for n in (2, 21, 91, 365)),
    *(("lead_of_background", n) for n in (12, 9, 6, 3, 0)),
]


def heads(what: str, value: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """lead_of_background: by how much the background's mean exceeds that of the other logits, which are noise. The
    smaller, the more candidates."""
    images = value if what == "images" else 1
    columns = value if what == "columns" else 21
    logits, deltas, default_boxes = workloads.head_outputs("sparse", images, columns, device)
    if what == "lead_of_background":
        logits = torch.randn(logits.shape, generator=workloads.generator(1)).to(device)
        logits[..., 0] += value
    if what == "times_the_default_boxes":  # the added boxes see background
        others = logits.clone()
        others[..., 0] += 100
        logits = torch.cat((logits, *[others] * (value - 1)), 1)
        deltas, default_boxes = deltas.repeat(1, value, 1), default_boxes.repeat(value, 1)
    return logits, deltas, default_boxes


@pytest.mark.parametrize(("what", "value"), CASES)
def bench_postprocess_growth(race: Any, device: torch.device, what: str, value: int) -> None:
    if QUICK and what in ("images", "columns") and value > 21:
        pytest.skip("not for a quick run")
    preset = workloads.preset()
    spec = preset.postprocess
    logits, deltas, default_boxes = heads(what, value, device)

    def ours(logits: Tensor, deltas: Tensor, default_boxes: Tensor) -> Detections:
        return ssd_fast.postprocess(logits, deltas, default_boxes, spec, coder=preset.coder, image_sizes=IMAGE_SIZE)

    def verify(result: Detections) -> None:
        expected = ssd_fast.reference.postprocess(
            logits[:1].cpu(), deltas[:1].cpu(), default_boxes.cpu(), spec, coder=preset.coder, image_sizes=IMAGE_SIZE
        )
        assert torch.equal(result.counts[:1].cpu(), expected.counts)
        assert torch.equal(result.box_idxs[:1].cpu(), expected.box_idxs)

    race(
        "postprocess, growth",
        (logits, deltas, default_boxes),
        Implementation("ssd_fast", ours, capturable=device.type == "cuda"),
        rivals_postprocess.postprocess(spec, preset.coder, IMAGE_SIZE, device, pairs=1 << 62)[:1]
        + rivals_postprocess.steps_alone(device),
        verify=verify,
        **{what: value},
        candidates=round(workloads.candidates(logits)),
    )
