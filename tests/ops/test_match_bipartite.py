"""The bipartite rule where many ground truths want the same default boxes, against all pairs in one sorted list."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

import ssd_fast
from helpers import inputs
from helpers.match_cases import SPECS
from ssd_fast import MatcherSpec, reference

ANY_PAIR, OVERLAPPING = MatcherSpec("bipartite", 1.0), MatcherSpec("bipartite", 1.0, minimum_forced_iou=0.0)


def identical(n: int) -> Tensor:
    return torch.tensor([[20.0, 30.0, 80.0, 90.0]]).repeat(n, 1)


def nearly_identical(n: int) -> Tensor:
    return identical(n) + inputs.boxes(5, n) * 1e-6


def nested(n: int) -> Tensor:
    inset = torch.arange(n)[:, None] * (50 / n)
    return torch.cat((inset, inset, 100 - inset, 100 - inset), 1)


def without_area(n: int) -> Tensor:
    boxes = inputs.boxes(6, n)
    return torch.cat((boxes[:, :2], boxes[:, :2]), 1)


def far(n: int) -> Tensor:
    return inputs.boxes(7, n) + 1e6


def mixed(n: int) -> Tensor:
    kinds = (identical, nearly_identical, nested, without_area, far, lambda n: inputs.grid_boxes(8, n))
    return torch.cat([make(n // 6 + 1) for make in kinds])[torch.randperm(6 * (n // 6 + 1))[:n]]


CROWDS = (identical, nearly_identical, nested, without_area, far, mixed)


def match_by_sorting(gts: Tensor, default_boxes: Tensor, matcher: MatcherSpec) -> Tensor:
    """Match one image, int64 [P], with a positive threshold that only an IoU of 1 reaches."""
    ious = reference.box_iou(gts, default_boxes).t()  # box-major: of equal IoUs, lower boxes come first
    best = ious.amax(1)
    first = (ious == best[:, None]).int().argmax(1)
    matched = torch.where(best >= 1, first, -1)
    free_gts, free_boxes = np.ones(len(gts), bool), np.ones(len(default_boxes), bool)
    for place in np.argsort(-ious.flatten().numpy(), kind="stable"):
        box, gt = divmod(int(place), len(gts))
        if matcher.minimum_forced_iou is not None and not ious[box, gt] > matcher.minimum_forced_iou:
            break
        if free_gts[gt] and free_boxes[box]:
            matched[box] = gt
            free_gts[gt] = free_boxes[box] = False
            if not free_gts.any() or not free_boxes.any():
                break
    return matched


@pytest.mark.parametrize("matcher", [ANY_PAIR, OVERLAPPING], ids=["any-pair", "overlapping"])
@pytest.mark.parametrize("make_gts", CROWDS)
def test_crowd_equals_sorted_pairs(backend, make_gts, matcher):
    """On the CPU a ground truth loses hundreds of boxes here, so that it searches several times."""
    num_gts, num_boxes = (450, 600) if backend.name == "cpu" else (30, 50)
    gts = make_gts(num_gts)
    for make_boxes in (inputs.boxes, inputs.grid_boxes, lambda _, n: mixed(n)):
        default_boxes = make_boxes(3, num_boxes)
        expected = match_by_sorting(gts, default_boxes, matcher)
        actual = ssd_fast.match(backend.to([gts, gts[:7]]), backend.to(default_boxes), matcher).cpu()
        assert actual[0].tolist() == expected.tolist()
        assert actual[1].tolist() == match_by_sorting(gts[:7], default_boxes, matcher).tolist()
    assert (expected >= 0).any() or make_gts is without_area


@pytest.mark.parametrize("make_gts", [identical, nearly_identical, far])
def test_more_ground_truths_than_boxes_equal_sorted_pairs(backend, make_gts):
    gts, default_boxes = make_gts(70), inputs.boxes(3, 40)
    expected = match_by_sorting(gts, default_boxes, ANY_PAIR)
    actual = ssd_fast.match(backend.to([gts]), backend.to(default_boxes), ANY_PAIR)
    assert actual.tolist() == [expected.tolist()]
    assert (expected >= 0).all()


def test_thousands_of_identical_ground_truths_equal_sorted_boxes():
    """5000 ground truths, of which each may hold few pairs. Searching again for each loss took minutes."""
    gts = identical(5000)
    default_boxes = reference.default_boxes(ssd_fast.preset("torchvision_ssd300_vgg16").default_boxes)
    ious = reference.box_iou(gts[:1], default_boxes)[0]
    expected = torch.full((len(default_boxes),), -1)
    best_first = ious.sort(descending=True, stable=True).indices
    wanted = best_first[:5000]
    expected[wanted] = torch.arange(5000)
    assert ssd_fast.match([gts], default_boxes, SPECS["bipartite"])[0].tolist() == expected.tolist()
