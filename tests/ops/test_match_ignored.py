"""match with ignored ground truths gives exactly the reference's indices on every backend."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_match import BOXES, SIZES, default_boxes_300, every_spec

import ssd_fast
from helpers import inputs
from helpers.checks import assert_numpy_agrees, assert_same_bits, assert_well_registered, specified, unmodified
from helpers.match_cases import IGNORED_HANDS, SPECS, packed
from ssd_fast import MatcherSpec


def flags(seed, *counts, one_in=3):
    """Draw flags for each image: about one in `one_in` of its ground truths is ignored."""
    return [inputs.integers(seed + n, 0, one_in, count) == 0 for n, count in enumerate(counts)]


def check(backend, gts, default_boxes, spec, ignored):
    """Return the op's result, checked against the reference's."""
    expected = specified("match", gts, default_boxes, spec, gt_ignored=ignored)
    gts, default_boxes, ignored = backend.to(gts), backend.to(default_boxes), backend.to(ignored)
    with unmodified(gts, default_boxes, ignored):
        actual = ssd_fast.match(gts, default_boxes, spec, gt_ignored=ignored)
    assert_same_bits(actual, expected)
    return actual.cpu()


# ---- by hand --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", IGNORED_HANDS)
def test_by_hand(backend, name):
    gts, indices, default_boxes, spec, expected = IGNORED_HANDS[name]
    ignored = torch.zeros(len(gts), dtype=torch.bool)
    ignored[indices] = True
    gts, default_boxes, ignored = backend.to((gts, default_boxes, ignored))
    assert ssd_fast.match([gts], default_boxes, spec, gt_ignored=[ignored]).tolist() == [expected]
    background = [-1] * len(expected)
    images, of_images = [gts[:0], gts, gts[:0], gts], [ignored[:0], ignored, ignored[:0], ignored]
    matched = ssd_fast.match(images, default_boxes, spec, gt_ignored=of_images)
    assert matched.tolist() == [background, expected, background, expected]


# ---- against the reference ------------------------------------------------------------------------------------------


@every_spec
def test_border_sizes_equal_reference(backend, spec):
    for n in SIZES:
        boxes = [inputs.boxes(1, 3), inputs.boxes(2, 0), inputs.grid_boxes(3, 9)]
        check(backend, boxes, inputs.boxes(n, n), spec, flags(n, 3, 0, 9))
        check(backend, [inputs.boxes(n, n), inputs.boxes(1, 2)], inputs.boxes(2, 70), spec, flags(n, n, 2))


@every_spec
@pytest.mark.parametrize("make_boxes", BOXES.values(), ids=BOXES.keys())
@pytest.mark.parametrize("make_gts", BOXES.values(), ids=BOXES.keys())
def test_kinds_of_boxes_equal_reference(backend, make_gts, make_boxes, spec):
    gts = [make_gts(1, 40), make_gts(2, 0), make_gts(3, 7)]
    check(backend, gts, make_boxes(4, 200), spec, flags(5, 40, 0, 7))


@given(
    seed=st.integers(0, 2**31),
    counts=st.lists(st.integers(0, 40), max_size=4),
    n=st.integers(0, 300),
    spec=st.sampled_from(list(SPECS.values())),
    share=st.sampled_from([1e-6, 0.25, 1 / 3, 0.5, 0.75, 1.0]),
    one_in=st.sampled_from([1, 2, 9]),
    make_gts=st.sampled_from(list(BOXES.values())),
    make_boxes=st.sampled_from(list(BOXES.values())),
)
def test_random_boxes_equal_reference(backend, seed, counts, n, spec, share, one_in, make_gts, make_boxes):
    gts = [make_gts(seed + i, count) for i, count in enumerate(counts)]
    spec = MatcherSpec(**{**vars(spec), "ignored_coverage": share})
    check(backend, gts, make_boxes(seed + 9, n), spec, flags(seed, *counts, one_in=one_in))


@every_spec
def test_background_is_ignored_by_covered_share(backend, spec):
    """On small whole numbers, every share is a fraction that plain integers can compute."""
    gts, default_boxes = inputs.grid_boxes(1, 30), inputs.grid_boxes(2, 200)
    ignored = flags(3, 30)[0]
    for share in (0.25, 0.5, 1.0):
        spec = MatcherSpec(**{**vars(spec), "ignored_coverage": share})
        matched = check(backend, [gts], default_boxes, spec, [ignored])[0].tolist()
        kept = ssd_fast.match([gts[~ignored]], default_boxes, spec)[0].tolist()  # without the ignored ones
        indices = (~ignored).nonzero()[:, 0].tolist()
        for box, (x1, y1, x2, y2) in enumerate(default_boxes.int().tolist()):
            shared = [
                max(0, min(x2, c) - max(x1, a)) * max(0, min(y2, d) - max(y1, b))
                for a, b, c, d in gts[ignored].int().tolist()
            ]
            covered = max(shared) >= share * (x2 - x1) * (y2 - y1)
            expected = indices[kept[box]] if kept[box] >= 0 else -2 if covered else kept[box]
            assert matched[box] == expected
        assert spec.rule == "threshold" or {-2, -1} < set(matched)


@every_spec
def test_nothing_ignored_changes_nothing(backend, spec):
    gts, default_boxes = [inputs.grid_boxes(1, 40), inputs.grid_boxes(2, 3)], inputs.grid_boxes(4, 300)
    expected = specified("match", gts, default_boxes, spec)
    nothing = [torch.zeros(len(x), dtype=torch.bool) for x in gts]
    assert_same_bits(check(backend, gts, default_boxes, spec, nothing), expected)


@pytest.mark.parametrize("share", [0.1, 1 / 3, 0.35, 0.5, 0.7])
def test_share_is_compared_in_float32(backend, share):
    default_boxes = torch.tensor([[0.0, 0, 60, 10]])
    gt = torch.tensor([[0.0, 0, 60 * share, 10]])
    covered = float(gt[0, 2] * 10 / torch.tensor(600.0))
    above = float(torch.nextafter(torch.tensor(covered), torch.tensor(1.0)))
    for wanted, expected in ((covered, -2), (above, -1)):
        spec = MatcherSpec("threshold", ignored_coverage=wanted)
        assert check(backend, [gt], default_boxes, spec, [torch.tensor([True])]).tolist() == [[expected]]


@pytest.mark.parametrize("name", ["last", "ignored", "caffe"])
def test_crowded_image_equals_reference(backend, name):
    """574 ground truths in one image are more than are staged at a time, and more than a block has threads."""
    gts = inputs.boxes(3, 574) * torch.tensor([0.9, 0.9, 0.85, 0.85])
    stride = 41 if name == "caffe" else 9 if backend.name == "emulated" else 1
    matched = check(
        backend, [gts, gts[:61], gts[:0]], default_boxes_300()[::stride], SPECS[name], flags(1, 574, 61, 0, one_in=2)
    )
    assert (matched == -2).any() and (matched >= 0).any()


# ---- forms of the argument ------------------------------------------------------------------------------------------


@every_spec
def test_forms_of_flags_agree(backend, spec):
    for counts in ((3, 0, 5), (0, 0), (1,), ()):
        gts = [inputs.grid_boxes(seed, count) for seed, count in enumerate(counts)]
        ignored, default_boxes = flags(1, *counts, one_in=2), inputs.grid_boxes(9, 70)
        expected = check(backend, gts, default_boxes, spec, ignored)
        joined = torch.cat([torch.empty(0, dtype=torch.bool), *ignored])
        as_bytes = joined * torch.tensor([1, 255, 128, 7, 1], dtype=torch.uint8).repeat(2)[: len(joined)]
        for boxes in (gts, packed(gts)):
            for form in (ignored, tuple(ignored), joined, as_bytes, as_bytes.split(counts) if counts else as_bytes):
                assert_same_bits(check(backend, boxes, default_boxes, spec, form), expected)


@every_spec
def test_offsets_out_of_range_are_clamped(backend, spec):
    boxes, default_boxes, ignored = inputs.grid_boxes(1, 9), inputs.grid_boxes(2, 70), flags(3, 9)[0]
    far = 2**40
    for offsets, clamped in (([-far, -1, 4, far], [(0, 0), (0, 4), (4, 9)]), ([5, 2, 7], [(5, 5), (2, 7)])):
        images, of_images = ([x[begin:end] for begin, end in clamped] for x in (boxes, ignored))
        expected = specified("match", images, default_boxes, spec, gt_ignored=of_images)
        arguments = backend.to((boxes, torch.tensor(offsets)))
        actual = ssd_fast.match(arguments, backend.to(default_boxes), spec, gt_ignored=backend.to(ignored))
        assert_same_bits(actual, expected)


def test_noncontiguous_flags_give_same_matches(backend):
    gts, default_boxes, ignored = inputs.boxes(1, 9), inputs.boxes(2, 70), flags(3, 9)[0]
    expected = check(backend, [gts], default_boxes, MatcherSpec(), [ignored])
    ignored = inputs.noncontiguous(backend.to(ignored))
    assert not ignored.is_contiguous()
    for form in ([ignored], ignored):
        actual = ssd_fast.match([backend.to(gts)], backend.to(default_boxes), MatcherSpec(), gt_ignored=form)
        assert_same_bits(actual.cpu(), expected)


def test_numpy_arrays_give_same_matches(backend):
    if backend.name != "cuda":
        gts, default_boxes = [inputs.boxes(1, 9), inputs.boxes(2, 0)], inputs.boxes(3, 70)
        ignored = flags(4, 9, 0)
        for spec in SPECS.values():
            assert_numpy_agrees(ssd_fast.match, gts, default_boxes, spec, gt_ignored=ignored)
            assert_numpy_agrees(ssd_fast.match, packed(gts), default_boxes, spec, gt_ignored=torch.cat(ignored).byte())


def test_op_is_well_registered(backend):
    gts, default_boxes = [inputs.boxes(1, 9), inputs.boxes(2, 0)], backend.to(inputs.boxes(3, 70))
    ignored = flags(4, 9, 0)
    for spec in (MatcherSpec(), SPECS["caffe"], SPECS["ignored"]):
        boxes, offsets = backend.to(packed(gts))
        joined = backend.to(torch.cat(ignored))
        assert_well_registered(
            lambda a, b, c, d, s=spec: ssd_fast.match((a, b), c, s, gt_ignored=d), boxes, offsets, default_boxes, joined
        )
        assert_well_registered(
            lambda a, b, c, d, e, s=spec: ssd_fast.match([a, b], c, s, gt_ignored=[d, e]),
            *backend.to(gts),
            default_boxes,
            *backend.to(ignored),
        )


def test_cuda_graph_replays_with_new_flags(cuda):
    boxes, default_boxes = torch.zeros(300, 4, device=cuda), default_boxes_300().to(cuda)
    offsets, ignored = torch.tensor([0, 100, 300], device=cuda), torch.zeros(300, dtype=torch.bool, device=cuda)
    for spec in (MatcherSpec(), SPECS["caffe"]):
        ssd_fast.match((boxes, offsets), default_boxes, spec, gt_ignored=ignored)  # kernels load outside the capture
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = ssd_fast.match((boxes, offsets), default_boxes, spec, gt_ignored=ignored)
        for seed in (1, 2):
            boxes.copy_(inputs.boxes(seed, 300))
            ignored.copy_(flags(seed, 300)[0])
            graph.replay()
            assert_same_bits(captured, ssd_fast.match((boxes, offsets), default_boxes, spec, gt_ignored=ignored))


BOX3 = torch.zeros(3, 4)
PACKED = (BOX3, torch.tensor([0, 3]))
TRUE3 = torch.ones(3, dtype=torch.bool)


@pytest.mark.parametrize(
    "gts, ignored, error, message",
    [
        ([BOX3], [TRUE3, TRUE3], ValueError, "gt_ignored: expected 1 images, got 2"),
        ([BOX3], [TRUE3[1:]], ValueError, r"gt_ignored\[0\]: expected shape \[3\], got \[2\]"),
        ([BOX3], [TRUE3[None]], ValueError, r"gt_ignored\[0\]: expected shape \[any\], got \[1, 3\]"),
        ([BOX3], [[True, False, True]], TypeError, r"gt_ignored\[0\]: expected a torch tensor, .* got list"),
        (
            [BOX3],
            [TRUE3.numpy()],
            TypeError,
            r"gt_ignored\[0\]: expected a torch tensor, as gt_boxes is, got a NumPy array",
        ),
        ([BOX3], True, TypeError, "gt_ignored: expected a torch tensor, .* got bool"),
        ([BOX3], TRUE3[1:], ValueError, r"gt_ignored: expected shape \[3\], got \[2\]"),
        (PACKED, [TRUE3[1:]], ValueError, r"gt_ignored: expected shape \[3\], got \[2\]"),
        (PACKED, TRUE3[:, None], ValueError, r"gt_ignored: expected shape \[3\], got \[3, 1\]"),
        (PACKED, TRUE3.long(), TypeError, "gt_ignored: expected bool or uint8, got int64 .*convert"),
        (PACKED, TRUE3.float(), TypeError, "gt_ignored: expected bool or uint8, got float32 .*convert"),
    ],
)
def test_rejected_flags(backend, gts, ignored, error, message):
    def to(x):
        return type(x)(map(to, x)) if isinstance(x, (list, tuple)) else backend.to(x) if torch.is_tensor(x) else x

    with pytest.raises(error, match=f"^match: {message}"):
        ssd_fast.match(to(gts), backend.to(BOX3), MatcherSpec(), gt_ignored=to(ignored))
