"""nms, batched_nms, nms_padded: boxes of many kinds, and proposals of real detectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import rivals
import rivals_nms
import torch
import workloads
import workloads_nms
from timing import QUICK, Implementation
from torch import Tensor

import ssd_fast
import ssd_fast.reference

IOU = 0.5  # exact in float and in double, which torchvision compares in on the CPU
BOXES = {
    "uniform": workloads.uniform_boxes,
    "clustered": workloads.clustered_boxes,
    "stacked": workloads.stacked_boxes,
    "staircase": workloads.staircase_boxes,
    "disjoint": workloads_nms.disjoint_boxes,
    "log-sized": workloads_nms.log_sized_boxes,
    "isolated above clustered": workloads_nms.isolated_above_clustered,
}
BEST_FIRST = ("staircase", "isolated above clustered")
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
    ("disjoint", 50_000),
    ("log-sized", 50_000),
    ("isolated above clustered", 50_000),
]
PAIRS_AT_ONCE = 1 << 26  # their overlaps take 256 MiB
LARGE = {"cpu": 10_000 if QUICK else 50_000, "cuda": 10_000 if QUICK else 1_000_000}


def verify_nms(kept: Tensor, boxes: Tensor, scores: Tensor) -> None:
    """Compare with a CPU implementation, whose arithmetic fuses nothing, or check what defines greedy NMS."""
    if len(boxes) <= 2_000:
        assert torch.equal(kept.cpu(), ssd_fast.reference.nms(boxes.cpu(), scores.cpu(), IOU))
    elif boxes.device.type == "cpu" and rivals.torchvision is not None:
        assert torch.equal(kept, rivals.torchvision.ops.nms(boxes, scores, IOU))
    else:
        assert_greedy(kept, boxes, scores, IOU)


def assert_greedy(kept: Tensor, boxes: Tensor, scores: Tensor, iou_threshold: float) -> None:
    """Check the definition of greedy NMS, which distinct scores satisfy in one way only.

    The kept boxes are in score order, none suppresses another, and a better kept box suppresses every other box.
    """
    kept_scores = scores[kept]
    assert (kept_scores.diff() < 0).all(), "the kept boxes are not in the order of their scores"
    assert len(scores.unique()) == len(scores), "scores must be distinct"
    is_kept = torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    is_kept[kept] = True
    for rows in torch.arange(len(boxes), device=boxes.device).split(max(PAIRS_AT_ONCE // max(len(kept), 1), 1)):
        overlaps = ssd_fast.reference.box_iou(boxes[rows], boxes[kept]) > iou_threshold
        suppressed = (overlaps & (kept_scores > scores[rows, None])).any(1)
        assert torch.equal(suppressed, ~is_kept[rows]), "a kept box is suppressed, or one that is not kept is not"


def race_nms(race: Any, boxes: Tensor, scores: Tensor, kind: str, verify: Callable[[Tensor], None]) -> None:
    kept = len(ssd_fast.nms(boxes, scores, IOU))
    race(
        "nms",
        (boxes, scores),
        Implementation("ssd_fast", lambda boxes, scores: ssd_fast.nms(boxes, scores, IOU)),
        rivals_nms.nms(IOU, len(boxes), boxes.device),
        verify=verify,
        boxes=kind,
        n=len(boxes),
        kept=kept,
    )


@pytest.mark.parametrize(("kind", "n"), CASES)
def bench_nms(race: Any, device: torch.device, kind: str, n: int) -> None:
    if n > LARGE[device.type]:
        pytest.skip("too large for this device, or for a quick run")
    boxes = BOXES[kind](n).to(device)
    scores = workloads.distinct_scores(n).to(device)
    if kind in BEST_FIRST:
        scores = scores.sort(descending=True).values
    race_nms(race, boxes, scores, kind, lambda result: verify_nms(result, boxes, scores))


@pytest.mark.parametrize(("name", "n"), [("coco_astronaut_t0.001", 270_000)])
def bench_nms_of_detectors(race: Any, device: torch.device, name: str, n: int) -> None:
    if QUICK:
        pytest.skip("too large for a quick run")
    boxes, scores, _ = (x.to(device) for x in workloads_nms.tiled_workload(name, n))
    race_nms(race, boxes, scores, name, lambda result: assert_greedy(result, boxes, scores, IOU))


@pytest.mark.parametrize(("n", "classes"), [(8_732, 20), (30_000, 90)])
def bench_batched_nms(race: Any, device: torch.device, n: int, classes: int) -> None:
    boxes, scores, idxs = (x.to(device) for x in workloads.boxes_of_classes(n, classes))

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
        rivals_nms.batched_nms(IOU, n, device),
        verify=verify,
        n=n,
        classes=classes,
        kept=kept,
    )


@pytest.mark.parametrize(("num_images", "classes", "n"), [(1, 20, 400), (8, 20, 400), (8, 90, 400), (32, 90, 400)])
def bench_nms_padded(race: Any, device: torch.device, num_images: int, classes: int, n: int) -> None:
    if device.type == "cpu" and num_images > 8:
        pytest.skip("large batches are for GPUs")
    boxes, scores = (x.to(device) for x in workloads.problems_of_images(num_images, classes, n))
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
        rivals_nms.nms_padded(IOU, max_output, num_images * classes * n * n, device),
        verify=verify,
        images=num_images,
        classes=classes,
        n=n,
    )
