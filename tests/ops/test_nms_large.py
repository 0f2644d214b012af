"""NMS on the CPU of so many boxes that it searches a grid and shares its work among threads: exactly the greedy result.

Up to 1024 kept boxes are a list, which the other tests cover. Here are more, in scenes that are hard for a grid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

import ssd_fast
from helpers import inputs
from helpers.checks import assert_same_bits, one_thread
from ssd_fast import reference
from ssd_fast.reference.nms import rank

MANY, SHARED = 3000, 18_600  # boxes: enough for a grid; also for threads to share the work
BLOCK = 64


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """Have torch use two threads, also on a machine with one core."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def greedy(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Return what nms must: candidates are taken in blocks, and those that are kept suppress all that follow."""
    with one_thread():
        return _greedy(boxes, rank(scores), torch.tensor(iou_threshold, dtype=boxes.dtype))


def _greedy(boxes: Tensor, order: Tensor, threshold: Tensor) -> Tensor:
    kept = []
    while len(order):
        block, order = order[:BLOCK], order[BLOCK:]
        overlaps = reference.box_iou(boxes[block], boxes[block]) > threshold
        is_kept = torch.ones(len(block), dtype=torch.bool)
        for i in range(1, len(block)):
            is_kept[i] = not (overlaps[i, :i] & is_kept[:i]).any()
        kept.append(block[is_kept])
        suppressed = reference.box_iou(boxes[kept[-1]], boxes[order]) > threshold
        order = order[~suppressed.any(0)]
    return torch.cat(kept) if kept else order


def check(boxes: Tensor, scores: Tensor, iou_threshold: float, least_kept: int = 0) -> None:
    """Check nms on one thread, two and three."""
    expected = greedy(boxes, scores, iou_threshold)
    assert len(expected) > least_kept  # the scene is one for a grid
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        assert_same_bits(ssd_fast.nms(boxes, scores, iou_threshold), expected)


# ---- scenes ---------------------------------------------------------------------------------------------------------


def around(center: Tensor, sides: Tensor) -> Tensor:
    return torch.cat((center - sides / 2, center + sides / 2), 1)


def uniform(n: int, extent: float = 1200.0) -> Tensor:
    return around(inputs.uniform(1, n, 2, high=extent), inputs.uniform(2, n, 2, low=8.0, high=100.0))


def clustered(n: int) -> Tensor:
    """Return pairs of boxes that differ little, as a detector finds them."""
    objects = uniform(n // 2, extent=5000.0).repeat_interleave(2, 0)
    return objects + inputs.bell(3, len(objects), 4) * 0.08 * (objects[:, 2:] - objects[:, :2]).repeat(1, 2)


def log_sized(n: int) -> Tensor:
    return around(inputs.uniform(1, n, 2, high=300.0), torch.exp2(inputs.uniform(2, n, 2, low=-6.0, high=6.0)))


def staircase(n: int) -> Tensor:
    """Return equal boxes side by side, of which some overlap by a little more than any threshold."""
    x = inputs.uniform(1, n, high=40.0).cumsum(0)
    sides = torch.full((n,), 100.0)
    return around(torch.stack((x, torch.zeros(n)), 1), torch.stack((sides, sides), 1))


def nested(n: int) -> Tensor:
    """Return boxes about few centers, of sides at ratios of any size."""
    return around(inputs.integers(1, 0, 30, n, 2) * 1e3, torch.exp2(inputs.uniform(2, n, 2, low=-9.0, high=9.0)))


def whole_numbers(n: int) -> Tensor:
    """Return boxes of whole sides, of which many have an IoU that is a threshold."""
    corner = inputs.integers(1, 0, 220, n, 2)
    return torch.cat((corner, corner + inputs.integers(2, 1, 9, n, 2)), 1).float()


def disjoint(n: int) -> Tensor:
    """Return boxes of which none overlap, though some touch."""
    places = torch.arange(n)
    corner = 10.0 * torch.stack((places % 150, places // 150), 1)
    return torch.cat((corner, corner + inputs.uniform(1, n, 2, low=5.0, high=10.0).round()), 1)


def giant_among_small(n: int) -> Tensor:
    boxes = uniform(n)
    boxes[:: n // 3] = torch.tensor([-1e4, -1e4, 1e4, 1e4])
    return boxes


def far(n: int) -> Tensor:
    """Return boxes at coordinates that are multiples of 1, or 1/2."""
    return uniform(n) + torch.tensor([1e7, -6e6, 1e7, -6e6])


def extreme(n: int) -> Tensor:
    """Return boxes of which most areas underflow or overflow, or come close to it."""
    return uniform(n) * torch.exp2(12.0 * inputs.integers(5, -9, 6, n)).unsqueeze(1)


def tiny_among_others(n: int) -> Tensor:
    """Return ordinary boxes, others of float areas about the least that the grid takes, and some of subnormal areas."""
    return uniform(n) * torch.tensor([1.0, 2**-56, 2**-78])[inputs.integers(5, 0, 3, n, 1)]


def not_boxes(n: int) -> Tensor:
    """Return boxes of which some are flipped, empty, infinite or NaN."""
    return torch.where(inputs.integers(5, 0, 3, n, 1) == 0, inputs.strange_boxes(6, n), uniform(n))


SCENES: tuple[Callable[[int], Tensor], ...] = (
    *(uniform, clustered, log_sized, staircase, nested, whole_numbers),
    *(disjoint, giant_among_small, far, extreme, tiny_among_others, not_boxes),
)
THRESHOLDS = (0.0, 1e-3, 0.1, 1 / 3, 0.5, 0.7, 0.99, 0.9999, 1.0)
every_scene = pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)


@every_scene
def test_grid_gives_the_greedy_result(scene):
    for i, threshold in enumerate(THRESHOLDS):
        dtype = (torch.float32, torch.float64)[i % 2]
        scores = inputs.scores(9, MANY) if i % 3 else inputs.tied_scores(9, MANY)
        check(scene(MANY).to(dtype), scores.to(dtype), threshold)


@every_scene
def test_threads_share_the_greedy_result(scene):
    """Each box has five copies, which it suppresses from within its batch or from an earlier one."""
    boxes = scene(SHARED // 6).repeat(6, 1)
    check(boxes, inputs.scores(9, len(boxes)), 0.5, least_kept=1024)
    shuffled = boxes[inputs.scores(10, len(boxes)).argsort()].double()
    check(shuffled, inputs.tied_scores(9, len(boxes)).double(), 0.3)


def test_isolated_boxes_above_stacked_ones():
    """The grid is full before the first box comes that others suppress; then a batch holds boxes of one place only."""
    isolated, stacked = disjoint(2000), uniform(1).repeat(SHARED, 1) + 2e4 + inputs.uniform(3, SHARED, 4)
    boxes = torch.cat((isolated, stacked))
    for threshold in (0.0, 0.5, 0.95):
        check(boxes, torch.linspace(1, 0, len(boxes)), threshold, least_kept=2000)


def test_all_boxes_are_one():
    boxes = uniform(1).repeat(SHARED, 1)
    assert ssd_fast.nms(boxes, torch.zeros(SHARED), 0.5).tolist() == [0]
    assert_same_bits(ssd_fast.nms(boxes, torch.zeros(SHARED), 1.0), torch.arange(SHARED))


@pytest.mark.parametrize("classes", [1, 2, 30, 1000])
def test_classes_do_not_meet(classes):
    """Boxes of one class are as hard to search as those above; boxes of two do not suppress each other."""
    n = SHARED + 1000
    boxes, scores, idxs = uniform(n, extent=600.0), inputs.scores(2, n), inputs.integers(3, 0, classes, n)
    if classes == 30:
        idxs = idxs.clamp(max=1) * -7  # a class of which threads share the work, and one of which they do not
    expected = torch.zeros(n, dtype=torch.bool)
    for group in idxs.unique():
        members = (idxs == group).nonzero()[:, 0]
        expected[members[greedy(boxes[members], scores[members], 0.4)]] = True
    order = rank(scores)
    assert_same_bits(ssd_fast.batched_nms(boxes, scores, idxs, 0.4), order[expected[order]])


def test_padded_problems_do_not_meet():
    """A thread solves one problem after another, large and small, in the same memory."""
    boxes = torch.stack((uniform(MANY), whole_numbers(MANY), disjoint(MANY)))
    scores = inputs.scores(4, 3, 2, MANY)
    scores[1, 0, 100:] = inputs.NAN
    idxs, counts = ssd_fast.nms_padded(boxes, scores, 0.5, MANY)
    for image, label in torch.cartesian_prod(torch.arange(3), torch.arange(2)).tolist():
        expected = greedy(boxes[image], scores[image, label], 0.5)
        assert counts[image, label] == len(expected)
        assert_same_bits(idxs[image, label, : len(expected)], expected)
        assert (idxs[image, label, len(expected) :] == -1).all()
