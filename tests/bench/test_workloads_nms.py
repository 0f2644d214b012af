"""The boxes that the benchmarks of NMS use have the property they are named after, at any size."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import ssd_fast
from helpers import goldens
from helpers.paths import ROOT

sys.path.append(str(ROOT / "bench"))

import workloads_nms

WORKLOADS = sorted({workload for workload, _ in goldens.NMS})


@pytest.mark.parametrize("n", [1, 2, 1023, 1025])
def test_disjoint_boxes_do_not_touch(n: int) -> None:
    boxes = workloads_nms.disjoint_boxes(n)
    grown = torch.cat((boxes[:, :2] - 1, boxes[:, 2:] + 1), -1)
    assert boxes.shape == (n, 4) and torch.equal(ssd_fast.box_iou(grown, grown) > 0, torch.eye(n, dtype=torch.bool))


@pytest.mark.parametrize("make", [workloads_nms.evenly_dense_boxes, workloads_nms.evenly_clustered_boxes])
def test_density_is_the_same_at_every_size(make: Callable[[int], Tensor]) -> None:
    def kept(n: int) -> float:
        scores = torch.rand(n, generator=torch.Generator().manual_seed(1))
        return len(ssd_fast.nms(make(n), scores, 0.5)) / n

    assert kept(4_000) == pytest.approx(kept(16_000), rel=0.1)


def test_log_sized_boxes_have_all_sizes() -> None:
    boxes = workloads_nms.log_sized_boxes(5_000)
    octaves = (boxes[:, 2:] - boxes[:, :2]).log2()
    assert octaves.histc(9, 0, 9).min() > 900  # of 10,000 sides
    assert octaves.min() > -0.1 and octaves.max() < 9.1


def test_giant_covers_all_others() -> None:
    boxes = workloads_nms.boxes_under_giant(500)
    assert (boxes[1:, :2] >= boxes[0, :2]).all() and (boxes[1:, 2:] <= boxes[0, 2:]).all()


@pytest.mark.parametrize("n", [1, 1024, 3000])
def test_isolated_boxes_overlap_nothing(n: int) -> None:
    boxes = workloads_nms.isolated_above_clustered(n)
    isolated = boxes[:1024]
    assert boxes.shape == (n, 4)
    assert torch.equal(ssd_fast.box_iou(isolated, boxes) > 0, torch.eye(len(isolated), n, dtype=torch.bool))
    assert n <= 1024 or len(ssd_fast.nms(boxes, torch.arange(n, 0, -1.0), 0.5)) < 1200


@pytest.mark.parametrize("name", WORKLOADS)
def test_tiled_workload_repeats_detector(name: str) -> None:
    """Each copy keeps what the detector's own boxes keep, the last as far as it goes; shifting rounds few IoUs."""
    boxes, scores, classes, threshold, kept = goldens.nms(name, "keep_tf_iou0.5")
    assert classes is not None
    copies, n = 5, len(boxes)
    tiled = workloads_nms.tiled_workload(name, copies * n)
    found = ssd_fast.batched_nms(tiled[0], tiled[1], tiled[2], threshold)
    assert (found // n).unique().tolist() == list(range(copies)) and len(tiled[1].unique()) == copies * n
    assert len(found) == pytest.approx(copies * len(kept), rel=1e-3)
    assert torch.equal(tiled[2], classes.repeat(copies))
    best = tiled[1].argsort(descending=True) % n
    assert torch.equal(best, scores.repeat(copies).sort(descending=True, stable=True).indices % n)
    part = workloads_nms.tiled_workload(name, n + 7)
    assert [len(x) for x in part] == [n + 7] * 3
