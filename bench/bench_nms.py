"""nms, batched_nms, nms_padded: uniform, clustered, stacked and staircase boxes."""

from __future__ import annotations

from typing import Any

import pytest
import rivals
import rivals_nms
import torch
import workloads
from timing import QUICK, Implementation
from torch import Tensor

import ssd_fast
import ssd_fast.reference

IOU = 0.5  # the same in float and double, in which torchvision compares on the CPU
BOXES = {
    "uniform": workloads.uniform_boxes,
    "clustered": workloads.clustered_boxes,
    "stacked": workloads.stacked_boxes,
    "staircase": workloads.staircase_boxes,
}
CASES = [
    ("uniform", 1_000),
    ("uniform", 8_732),
    ("uniform", 50_000),
    ("clustered", 1_000),
    ("clustered", 10_000),
    ("clustered", 100_000),
    ("clustered", 1_000_000),
    ("stacked", 10_000),
    ("staircase", 10_000),
]
LARGE = {"cpu": 10_000 if QUICK else 50_000, "cuda": 10_000 if QUICK else 1_000_000}


def expected_nms(boxes: Tensor, scores: Tensor) -> Tensor | None:
    """What another implementation keeps, on the CPU, whose arithmetic fuses nothing; None at sizes where none can run.

    The CPU's result is checked so at every size that it is timed at; larger ones are checked against the CPU's own.
    """
    boxes, scores = boxes.cpu(), scores.cpu()
    if len(boxes) <= 2_000:
        return ssd_fast.reference.nms(boxes, scores, IOU)
    if rivals.torchvision is not None and len(boxes) <= 50_000:
        return rivals.torchvision.ops.nms(boxes, scores, IOU)
    return None


@pytest.mark.parametrize(("kind", "n"), CASES)
def bench_nms(race: Any, device: torch.device, kind: str, n: int) -> None:
    if n > LARGE[device.type]:
        pytest.skip("too large for this device, or for a quick run")
    boxes = BOXES[kind](n).to(device)
    scores = workloads.distinct_scores(n).to(device)
    if kind == "staircase":
        scores = scores.sort(descending=True).values
    kept = len(ssd_fast.nms(boxes, scores, IOU))

    def verify(result: Tensor) -> None:
        expected = expected_nms(boxes, scores)
        if expected is None:
            expected = ssd_fast.nms(boxes.cpu(), scores.cpu(), IOU)
            assert device.type == "cuda", "nothing to verify with"
        assert torch.equal(result.cpu(), expected)

    race(
        "nms",
        (boxes, scores),
        Implementation("ssd_fast", lambda boxes, scores: ssd_fast.nms(boxes, scores, IOU)),
        rivals_nms.nms(IOU, n, device),
        bytes_moved=20 * n + 8 * kept,
        verify=verify,
        boxes=kind,
        n=n,
        kept=kept,
    )


@pytest.mark.parametrize(("n", "classes"), [(8_732, 20), (30_000, 90)])
def bench_batched_nms(race: Any, device: torch.device, n: int, classes: int) -> None:
    boxes = workloads.clustered_boxes(n, seed=3, extent=300.0).to(device)
    scores = workloads.distinct_scores(n, seed=4).to(device)
    idxs = torch.randint(classes, (n,), generator=workloads.generator(5)).to(device)

    def verify(result: Tensor) -> None:
        single = [(idxs.cpu() == label).nonzero()[:, 0] for label in range(classes)]
        if rivals.torchvision is None:
            kept = [group[ssd_fast.reference.nms(boxes.cpu()[group], scores.cpu()[group], IOU)] for group in single]
        else:
            kept = [group[rivals.torchvision.ops.nms(boxes.cpu()[group], scores.cpu()[group], IOU)] for group in single]
        expected = torch.cat(kept)
        assert torch.equal(result.cpu(), expected[scores.cpu()[expected].argsort(descending=True)])

    kept = len(ssd_fast.batched_nms(boxes, scores, idxs, IOU))
    race(
        "batched_nms",
        (boxes, scores, idxs),
        Implementation("ssd_fast", lambda boxes, scores, idxs: ssd_fast.batched_nms(boxes, scores, idxs, IOU)),
        rivals_nms.batched_nms(IOU, device),
        bytes_moved=28 * n + 8 * kept,
        verify=verify,
        n=n,
        classes=classes,
        kept=kept,
    )


@pytest.mark.parametrize(("num_images", "classes", "n"), [(1, 20, 400), (8, 20, 400), (8, 90, 400), (32, 90, 400)])
def bench_nms_padded(race: Any, device: torch.device, num_images: int, classes: int, n: int) -> None:
    if device.type == "cpu" and num_images > 8:
        pytest.skip("large batches are for GPUs")
    boxes = torch.stack([workloads.clustered_boxes(n, seed, extent=300.0) for seed in range(num_images)]).to(device)
    scores = torch.rand(num_images, classes, n, generator=workloads.generator(6)).to(device)
    max_output = 200

    def verify(result: tuple[Tensor, Tensor]) -> None:
        idxs, counts = result
        for image in range(0, num_images, max(num_images // 2, 1)):
            for label in range(0, classes, 7):
                kept = ssd_fast.reference.nms(boxes[image].cpu(), scores[image, label].cpu(), IOU)[:max_output]
                assert int(counts[image, label]) == len(kept)
                assert torch.equal(idxs[image, label, : len(kept)].cpu(), kept)

    race(
        "nms_padded",
        (boxes, scores),
        Implementation(
            "ssd_fast",
            lambda boxes, scores: ssd_fast.nms_padded(boxes, scores, IOU, max_output),
            capturable=device.type == "cuda",
        ),
        rivals_nms.nms_padded(IOU, max_output, device),
        bytes_moved=num_images * (16 * n + classes * (4 * n + 8 * max_output + 8)),
        verify=verify,
        images=num_images,
        classes=classes,
        n=n,
    )
