"""match gives exactly the reference's indices on every backend."""

from __future__ import annotations

import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from torchvision.models.detection._utils import SSDMatcher

import ssd_fast
from helpers import goldens, inputs
from helpers.checks import assert_same_bits, one_thread, specified, unmodified
from helpers.match_cases import HANDS, SPECS, assert_same_matches, packed
from ssd_fast import MatcherSpec, preset, reference

BOXES = {"random": inputs.boxes, "grid": inputs.grid_boxes, "strange": inputs.strange_boxes}
SIZES = sorted({*inputs.BORDER_SIZES, 127, 128, 129})  # 128 ground truths are staged at a time

every_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())


def default_boxes_300():
    return reference.default_boxes(preset("torchvision_ssd300_vgg16").default_boxes)


def check(backend, gts, default_boxes, spec):
    """Return the op's result, checked against the reference's."""
    expected = specified("match", gts, default_boxes, spec)
    gts, default_boxes = backend.to(gts), backend.to(default_boxes)
    with unmodified(gts, default_boxes):
        actual = ssd_fast.match(gts, default_boxes, spec)
    assert_same_bits(actual, expected)
    return actual.cpu()


# ---- by hand --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HANDS)
def test_by_hand(backend, name):
    gts, default_boxes, spec, expected = HANDS[name]
    gts, default_boxes = backend.to((gts, default_boxes))
    assert ssd_fast.match([gts], default_boxes, spec).tolist() == [expected]
    empty = gts[:0]
    background = [-1] * len(expected)
    matched = ssd_fast.match([empty, gts, empty, gts], default_boxes, spec)
    assert matched.tolist() == [background, expected, background, expected]


# ---- against the reference ------------------------------------------------------------------------------------------


@every_spec
def test_border_numbers_of_default_boxes_equal_reference(backend, spec):
    for n in SIZES:
        for make in (inputs.boxes, inputs.grid_boxes):
            check(backend, [make(1, 3), make(2, 0), make(3, 9)], make(n, n), spec)


@every_spec
def test_border_numbers_of_ground_truths_equal_reference(backend, spec):
    for n in SIZES:
        for make in (inputs.boxes, inputs.grid_boxes):
            check(backend, [make(n, n), make(1, 2)], make(2, 70), spec)


@every_spec
@pytest.mark.parametrize("make_boxes", BOXES.values(), ids=BOXES.keys())
@pytest.mark.parametrize("make_gts", BOXES.values(), ids=BOXES.keys())
def test_kinds_of_boxes_equal_reference(backend, make_gts, make_boxes, spec):
    check(backend, [make_gts(1, 40), make_gts(2, 0), make_gts(3, 7)], make_boxes(4, 200), spec)


@given(
    seed=st.integers(0, 2**31),
    counts=st.lists(st.integers(0, 40), max_size=4),
    n=st.integers(0, 300),
    rule=st.sampled_from(["forced", "bipartite", "threshold"]),
    claimed_twice=st.sampled_from(["last", "first"]),
    thresholds=st.tuples(st.sampled_from([0.1, 0.35, 0.5, 0.7, 1.0]), st.sampled_from([None, 0.0, 0.5, 1.0])),
    inclusive=st.booleans(),
    minimum=st.sampled_from([None, 0.0, 1e-6, 0.3, 0.5, 2.0]),
    make_gts=st.sampled_from(list(BOXES.values())),
    make_boxes=st.sampled_from(list(BOXES.values())),
)
def test_random_boxes_equal_reference(
    backend, seed, counts, n, rule, claimed_twice, thresholds, inclusive, minimum, make_gts, make_boxes
):
    positive, share = thresholds
    negative = None if share is None or rule == "bipartite" else share * positive
    spec = MatcherSpec(rule, positive, inclusive, negative, claimed_twice, minimum)
    check(backend, [make_gts(seed + i, count) for i, count in enumerate(counts)], make_boxes(seed + 9, n), spec)


coordinate = st.floats(width=32) | st.sampled_from([0.0, -0.0, 1.0, 10.0, 1e-40, inputs.INF, inputs.NAN, inputs.HUGE])
some_boxes = st.lists(st.tuples(coordinate, coordinate, coordinate, coordinate), max_size=7)


@given(some_boxes, some_boxes, st.sampled_from(list(SPECS.values())))
def test_any_floats_equal_reference(backend, gts, default_boxes, spec):
    gts, default_boxes = (torch.tensor(x, dtype=torch.float32).reshape(-1, 4) for x in (gts, default_boxes))
    check(backend, [gts], default_boxes, spec)


@every_spec
def test_distant_and_tied_boxes_equal_reference(backend, spec):
    boxes = inputs.boxes(1, 130)
    same, far = boxes[:1].repeat(130, 1), boxes + 1e6
    gts = [far[:5], same[:5], torch.cat((far[:3], boxes[:40], far[:3])), boxes[:130].flip(0)]
    for default_boxes in (boxes, same, far):
        check(backend, gts, default_boxes, spec)


@pytest.mark.parametrize("threshold", [0.1, 1 / 3, 0.35, 0.5, 0.7])
def test_iou_at_threshold_obeys_rule(backend, threshold):
    """IoUs are compared in float32, whatever double the spec holds."""
    boxes = torch.tensor([[0.0, 0, 60, 10], [0, 0, 60 * threshold, 10]])
    iou = float(reference.box_iou(boxes[:1], boxes[1:]))
    above, below = (float(torch.nextafter(torch.tensor(iou), torch.tensor(end))) for end in (1.0, 0.0))
    for positive, inclusive, expected in ((iou, True, 0), (iou, False, -2), (above, True, -2), (below, False, 0)):
        spec = MatcherSpec("threshold", positive, inclusive, negative_threshold=below)
        assert check(backend, [boxes[:1]], boxes, spec).tolist() == [[0, expected]]
    for negative, expected in ((iou, -2), (above, -1)):
        spec = MatcherSpec("threshold", 0.9, negative_threshold=negative)
        assert check(backend, [boxes[:1]], boxes, spec).tolist() == [[0, expected]]


@pytest.mark.parametrize("name", ["last", "ignored", "caffe"])
def test_crowded_image_equals_reference(backend, name):
    """574 ground truths in one image are more than are staged at a time, and more than a block has threads."""
    gts = inputs.boxes(3, 574) * torch.tensor([0.9, 0.9, 0.85, 0.85])
    stride = 41 if name == "caffe" else 9 if backend.name == "emulated" else 1  # the reference is slow for pairs
    default_boxes = default_boxes_300()[::stride]
    check(backend, [gts, gts[:61], gts[:0]], default_boxes, SPECS[name])


def test_full_size_equals_reference(backend):
    gts = [inputs.boxes(seed, 1 + 3 * seed).clamp(0, 300) for seed in range(3)]
    default_boxes = default_boxes_300()
    assert len(default_boxes) == 8732
    check(backend, gts, default_boxes, MatcherSpec())
    check(backend, gts[1:2], default_boxes, SPECS["caffe"])


# ---- torchvision ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network, photo", goldens.MATCHES)
def test_matches_equal_torchvision_outputs(backend, network, photo):
    gts, default_boxes, expected, _ = goldens.match(network, photo)
    matched = check(backend, [gts], default_boxes, MatcherSpec())[0]
    assert_same_matches(matched, expected, reference.box_iou(gts, default_boxes))


def test_matches_equal_torchvision_matcher(backend):
    """Match 1000 random scenes (25 if kernels are emulated), each with a thirteenth of SSD300's default boxes."""
    default_boxes, stride = default_boxes_300(), 13
    matcher, differ = SSDMatcher(0.5), 0
    for batch in range(1 if backend.name == "emulated" else 40):
        boxes = default_boxes[batch % stride :: stride].contiguous()
        gts = [inputs.boxes(100 * batch + i, 1 + i % 17).clamp(0, 300) for i in range(25)]
        if batch % 2:
            gts = [x.round() for x in gts]
        matched = ssd_fast.match(backend.to(gts), backend.to(boxes), MatcherSpec()).cpu()
        with one_thread():
            for ours, scene in zip(matched, gts, strict=True):
                iou = torchvision.ops.box_iou(scene, boxes)
                differ += assert_same_matches(ours, matcher(iou), iou)
    assert differ < 100


# ---- packed ground truth --------------------------------------------------------------------------------------------


@every_spec
def test_packed_ground_truth_equals_list(backend, spec):
    for counts in ((3, 0, 5), (0, 0), (1,), ()):
        gts = [inputs.grid_boxes(seed, count) for seed, count in enumerate(counts)]
        default_boxes = inputs.grid_boxes(9, 70)
        expected = check(backend, gts, default_boxes, spec)
        assert expected.shape == (len(counts), 70)
        assert_same_bits(check(backend, packed(gts), default_boxes, spec), expected)
        assert_same_bits(check(backend, tuple(gts), default_boxes, spec), expected)


@every_spec
def test_offsets_out_of_range_are_clamped(backend, spec):
    boxes, default_boxes = inputs.grid_boxes(1, 9), inputs.grid_boxes(2, 70)
    far = 2**40
    for offsets, clamped in (
        ([-far, -1, 4, far], [(0, 0), (0, 4), (4, 9)]),
        ([far, 3, 3, far], [(9, 9), (3, 3), (3, 9)]),
        ([5, 2, 7], [(5, 5), (2, 7)]),
        ([10, 11], [(9, 9)]),
    ):
        expected = specified("match", [boxes[begin:end] for begin, end in clamped], default_boxes, spec)
        arguments = backend.to((boxes, torch.tensor(offsets)))
        assert_same_bits(ssd_fast.match(arguments, backend.to(default_boxes), spec), expected)


@every_spec
def test_overlapping_images_are_harmless(backend, spec):
    """The bipartite rule may then give its pairs to either image; other rules are not affected."""
    boxes, default_boxes = inputs.boxes(1, 300), inputs.boxes(2, 70)
    offsets = torch.tensor([0, 280, 20, 300, 0, 300])
    ranges = [(0, 280), (280, 280), (20, 300), (300, 300), (0, 300)]
    expected = specified("match", [boxes[begin:end] for begin, end in ranges], default_boxes, spec)
    matched = ssd_fast.match(backend.to((boxes, offsets)), backend.to(default_boxes), spec).cpu()
    assert matched.shape == expected.shape and (matched >= -2).all() and (matched < 300).all()
    if spec.rule != "bipartite":
        assert_same_bits(matched, expected)
