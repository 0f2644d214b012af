"""postprocess: SSD300 heads, C = 21 and 91 columns, trained-like (sparse), dense and untrained."""

from __future__ import annotations

from typing import Any

import pytest
import rivals
import rivals_postprocess
import torch
import workloads
from timing import QUICK, Implementation
from torch import Tensor

import ssd_fast
import ssd_fast.reference
from helpers.comparators import Limits, assert_same_detections
from ssd_fast import Detections

CASES = [
    (kind, num_images, columns)
    for kind in ("sparse", "dense")
    for columns in (21, 91)
    for num_images in (1, 8, 32, 128)
] + [("untrained", 1, 91), ("untrained", 8, 91)]
IMAGE_SIZE = (300, 300)


def runs_here(device: torch.device, kind: str, num_images: int, columns: int) -> bool:
    """Whether to run a case: large batches run on a GPU only, and the slowest are left out of a quick run."""
    if device.type == "cpu":
        return num_images == 1 or (num_images == 8 and not QUICK and kind != "untrained")
    return num_images <= 8 or not QUICK


@pytest.mark.parametrize(("kind", "num_images", "columns"), CASES)
def bench_postprocess(race: Any, device: torch.device, kind: str, num_images: int, columns: int) -> None:
    if not runs_here(device, kind, num_images, columns):
        pytest.skip("large batches are for GPUs, and not for a quick run")
    preset = workloads.preset()
    spec = preset.postprocess
    logits, deltas, default_boxes = workloads.head_outputs(kind, num_images, columns, device)

    def ours(logits: Tensor, deltas: Tensor, default_boxes: Tensor) -> Detections:
        return ssd_fast.postprocess(logits, deltas, default_boxes, spec, coder=preset.coder, image_sizes=IMAGE_SIZE)

    def verify(result: Detections) -> None:
        """Compare the first image with torchvision (or the reference), and every image with its result alone."""
        limits = Limits(spec.score_threshold, spec.iou_threshold, spec.keep_top_k, spec.top_k)
        heads = logits[:1].cpu(), deltas[:1].cpu(), default_boxes.cpu()
        if rivals.torchvision is None:
            expected: Any = ssd_fast.reference.postprocess(*heads, spec, coder=preset.coder, image_sizes=IMAGE_SIZE)
        else:
            # torchvision's NMS adds multiples of the largest coordinate to the boxes, which rounds their IoU.
            limits = Limits(**{**vars(limits), "largest_coordinate": columns * 301.0})
            expected = rivals_postprocess.torchvision_postprocess(spec, preset.coder, IMAGE_SIZE)(*heads)
        first = Detections(*(field[:1].cpu() for field in result))
        if rivals.torchvision is not None:
            first_list = [{k: v for k, v in image.items() if k != "box_idxs"} for image in first.to_list()]
            assert_same_detections(first_list, expected, limits)
        else:
            assert_same_detections(first, expected, limits)
        for n in range(0, num_images, max(num_images // 4, 1)):
            alone = ours(logits[n : n + 1], deltas[n : n + 1], default_boxes)
            for batch, single in zip(result, alone, strict=True):
                assert torch.equal(batch[n], single[0])

    pairs = num_images * (columns - 1) * (spec.top_k or 0) ** 2
    race(
        "postprocess",
        (logits, deltas, default_boxes),
        Implementation("ssd_fast", ours, capturable=device.type == "cuda"),
        rivals_postprocess.postprocess(spec, preset.coder, IMAGE_SIZE, device, pairs),
        verify=verify,
        heads=kind,
        images=num_images,
        columns=columns,
        candidates=round(workloads.candidates(logits)),
    )
