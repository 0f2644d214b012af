"""The specification of match against hand-worked tables, torchvision's matcher and its outputs in tests/golden."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torchvision.models.detection._utils import SSDMatcher

from helpers import goldens, inputs
from helpers.checks import one_thread
from helpers.match_cases import HANDS, IGNORED_HANDS, assert_same_matches, bars, packed
from ssd_fast import reference
from ssd_fast.presets import preset
from ssd_fast.specs import MatcherSpec


@pytest.fixture(autouse=True)
def single_threaded():
    with one_thread():
        yield


@pytest.mark.parametrize("name", HANDS)
def test_by_hand(name):
    gts, default_boxes, spec, expected = HANDS[name]
    matched = reference.match([gts], default_boxes, spec)
    assert matched.dtype == torch.int64 and matched.tolist() == [expected]


def test_images_and_packing_by_hand():
    gts, default_boxes, spec, expected = HANDS["forced-last"]
    images = [gts[:0], gts, gts[2:]]
    expected = [[-1] * 5, expected, [0, -1, -1, -1, -1]]
    assert reference.match(images, default_boxes, spec).tolist() == expected
    assert reference.match((torch.cat(images), torch.tensor([0, 0, 3, 4])), default_boxes, spec).tolist() == expected
    assert reference.match([], default_boxes, spec).shape == (0, 5)
    assert reference.match([gts], default_boxes[:0], spec).shape == (1, 0)


@pytest.mark.parametrize("name", IGNORED_HANDS)
def test_ignored_by_hand(name):
    gts, indices, default_boxes, spec, expected = IGNORED_HANDS[name]
    ignored = torch.zeros(len(gts), dtype=torch.bool)
    ignored[indices] = True
    images, of_images = [gts[:0], gts], [ignored[:0], ignored]
    expected = [[-1] * len(expected), expected]
    joined = torch.cat(of_images)
    for boxes in (images, packed(images)):
        for form in (of_images, joined, joined * torch.tensor(255, dtype=torch.uint8)):
            assert reference.match(boxes, default_boxes, spec, gt_ignored=form).tolist() == expected


def test_strange_boxes_cover_by_hand():
    """Nothing covers a box without a finite area; a box whose area overflows covers nothing that can be computed."""
    strange = torch.tensor(inputs.STRANGE_BOXES)
    matched = reference.match(
        [strange], strange, MatcherSpec("threshold"), gt_ignored=[torch.ones(len(strange), dtype=torch.bool)]
    )
    assert [index for index, value in enumerate(matched[0].tolist()) if value == -2] == [0, 15, 16]
    assert set(matched[0].tolist()) == {-2, -1}


@pytest.mark.parametrize("rule", ["forced", "bipartite", "threshold"])
def test_strange_boxes_by_hand(rule):
    """Only three strange boxes overlap any: 0 and 15 are the same box, and 16 overlaps itself."""
    strange = torch.tensor(inputs.STRANGE_BOXES)
    spec = MatcherSpec(rule, minimum_forced_iou=0.0)
    expected = [-1] * len(strange)
    expected[0], expected[15], expected[16] = 0, 0, 16
    if rule == "forced":
        expected[0] = 15
    if rule == "bipartite":
        expected[15] = 15
    assert reference.match([strange], strange, spec).tolist() == [expected]


@pytest.mark.parametrize("threshold", [0.1, 1 / 3, 0.35, 0.7])
def test_thresholds_are_float32(threshold):
    """An IoU that rounds to the threshold reaches it and does not exceed it."""
    gts, default_boxes = bars((0, 60)), bars((0, 60), (0, 60 * threshold))
    iou = float(reference.box_iou(gts, default_boxes)[0, 1])
    assert abs(iou - threshold) < 1e-7
    for inclusive, expected in ((True, 0), (False, -2)):
        spec = MatcherSpec(positive_threshold=iou, positive_inclusive=inclusive, negative_threshold=iou)
        assert reference.match([gts], default_boxes, spec).tolist() == [[0, expected]]
    for minimum, expected in ((iou, -1), (iou - 1e-3, 0)):
        spec = MatcherSpec("forced", positive_threshold=1.0, minimum_forced_iou=minimum)
        assert reference.match([gts], default_boxes[1:], spec).tolist() == [[expected]]


# ---- torchvision ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network, photo", goldens.MATCHES)
def test_matches_equal_torchvision_outputs(network, photo):
    gts, default_boxes, expected, largest = goldens.match(network, photo)
    iou = reference.box_iou(gts, default_boxes)
    assert torch.equal(iou.amax(0), largest)
    matched = reference.match([gts], default_boxes, MatcherSpec())[0]
    assert_same_matches(matched, expected, iou)
    assert set(matched.tolist()) == set(range(-1, len(gts)))


@pytest.mark.parametrize("make", [inputs.boxes, inputs.grid_boxes], ids=["random", "grid"])
@pytest.mark.parametrize("threshold", [0.5, 0.35])
def test_matches_equal_torchvision_matcher(make, threshold):
    default_boxes = reference.default_boxes(inputs.SMALL)
    if make is inputs.grid_boxes:
        default_boxes = inputs.grid_boxes(99, 101)
    differ = 0
    for seed in range(40):
        gts = make(seed, 1 + seed) / (3 if make is inputs.boxes else 1)  # in an image of 96 pixels
        iou = torchvision.ops.box_iou(gts, default_boxes)
        expected = SSDMatcher(threshold)(iou)
        matched = reference.match([gts], default_boxes, MatcherSpec(positive_threshold=threshold))[0]
        differ += assert_same_matches(matched, expected, iou)
        assert (matched >= 0).any()
    assert make is inputs.grid_boxes or differ == 0


def test_full_size_equals_torchvision_matcher():
    default_boxes = reference.default_boxes(preset("torchvision_ssd300_vgg16").default_boxes)
    for seed in range(20):
        gts = inputs.boxes(seed, 1 + seed % 9).clamp(0, 300)
        iou = torchvision.ops.box_iou(gts, default_boxes)
        assert_same_matches(reference.match([gts], default_boxes, MatcherSpec())[0], SSDMatcher(0.5)(iou), iou)


def test_assert_same_matches_refuses_wrong_matches():
    iou = torch.tensor([[0.9, 0.6, 0.9, 0.1], [0.2, 0.6, 0.3, 0.2]])
    theirs = torch.tensor([0, 0, -1, -1])
    assert assert_same_matches(theirs, theirs, iou) == 0
    assert assert_same_matches(torch.tensor([-1, 1, 0, -1]), theirs, iou) == 3
    for wrong in ([0, 0, -1, 1], [0, 0, -1, 0], [0, -1, -1, -1]):
        with pytest.raises(AssertionError, match="default boxes"):
            assert_same_matches(torch.tensor(wrong), theirs, iou)
