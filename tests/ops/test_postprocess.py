"""postprocess gives the reference's detections on every backend, exactly so where the rounding of exp cannot matter."""

from __future__ import annotations

import dataclasses
import functools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ssd_fast
from helpers import goldens, inputs
from helpers.checks import assert_same_bits, run_postprocess, specified
from helpers.comparators import Candidates, Limits, assert_same_detections
from ssd_fast import BoxCoderSpec, PostprocessSpec, reference

CODER = inputs.CODER
DEFAULT = reference.default_boxes(inputs.SMALL)
P = len(DEFAULT)


def check_exact(backend, *args, **kwargs):
    """Check for the reference's detections, bit for bit but for scores, where rounding can change no order or box."""
    result, expected = run_postprocess(backend, *args, **kwargs), specified("postprocess", *args, **kwargs)
    for field in ("counts", "labels", "box_idxs", "boxes"):
        assert_same_bits(getattr(result, field), getattr(expected, field))
    torch.testing.assert_close(result.scores, expected.scores, rtol=0, atol=1e-6)
    return result


def check(backend, cls_logits, deltas, default, spec, coder, expected=None, **sizes):
    """Check for the reference's detections for any inputs, but for at most two that the comparator excuses."""
    result = run_postprocess(backend, cls_logits, deltas, default, spec, coder=coder, **sizes)
    if expected is None:
        expected = specified("postprocess", cls_logits, deltas, default, spec, coder=coder, **sizes)
    boxes = reference.decode_boxes(deltas, default, coder)
    if spec.clip == "before_nms":
        height, width = sizes["image_sizes"]
        boxes = torch.minimum(boxes.clamp(min=0), torch.tensor([width, height, width, height]).float())
    logits = cls_logits.float()
    scores = logits.softmax(-1) if spec.activation == "softmax" else logits.sigmoid()
    limits = Limits(spec.score_threshold, spec.iou_threshold, spec.keep_top_k, spec.top_k, ties_defined=True)
    found = assert_same_detections(result, expected, limits, Candidates(boxes, scores))
    assert len(found.excused) <= 2, found.excused
    return result


# ---- by hand --------------------------------------------------------------------------------------------------------


def test_by_hand(backend):
    default = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 6], [30, 0, 40, 10]])
    cls_logits = torch.tensor([[[0.0, 2, -9], [0, 1, -9], [0, -9, 2]]])
    deltas = torch.zeros(1, 3, 4)
    spec = PostprocessSpec(score_threshold=0.1, keep_top_k=4)
    result = run_postprocess(backend, cls_logits, deltas, default, spec, coder=CODER)
    assert result.box_idxs.tolist() == [[0, 2, -1, -1]] and result.labels.tolist() == [[1, 2, -1, -1]]
    assert result.counts.tolist() == [2] and result.boxes[0, :2].tolist() == default[[0, 2]].tolist()
    torch.testing.assert_close(result.scores[0, :2], cls_logits.softmax(-1)[0, [0, 2], [1, 2]])

    sizes = {"image_sizes": (8, 20), "original_sizes": [(16, 20)]}
    after = dataclasses.replace(spec, clip="after_nms")
    boxes = run_postprocess(backend, cls_logits, deltas, default, after, coder=CODER, **sizes).boxes
    assert boxes[0, :2].tolist() == [[0, 0, 10, 16], [20, 0, 20, 16]]
    before = dataclasses.replace(spec, clip="before_nms", iou_threshold=0.7)
    kept = run_postprocess(backend, cls_logits, deltas, default, before, coder=CODER, **sizes)
    assert kept.box_idxs.tolist() == [[0, 2, -1, -1]]  # clipped, the IoU of 0 and 1 is 6/8 instead of 6/10


def test_borders_by_hand(backend):
    default = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5]])
    cls_logits, deltas = torch.zeros(1, 2, 2), torch.zeros(1, 2, 4)  # softmax and sigmoid: 1/2; IoU 1/2

    def kept(**spec):
        spec = PostprocessSpec(keep_top_k=3, **spec)
        return run_postprocess(backend, cls_logits, deltas, default, spec, coder=CODER).box_idxs.tolist()

    assert kept(score_threshold=0.5) == [[-1, -1, -1]]
    assert kept(score_threshold=0.5, score_inclusive=True, iou_threshold=0.5) == [[0, 1, -1]]
    assert kept(iou_threshold=0.5, iou_inclusive=True) == [[0, -1, -1]]
    assert kept(iou_threshold=0.5, top_k=1) == [[0, -1, -1]]
    assert kept(activation="sigmoid", background=None, iou_threshold=0.5) == [[0, 1, 0]]  # class 0 first: a tie
    assert kept(activation="sigmoid", background=-1, iou_threshold=0.5) == [[0, 1, -1]]
    assert kept(activation="sigmoid", background=None, iou_threshold=0.0) == [[0, 0, -1]]


# ---- exact: few distinct scores, boxes without a change of size ----------------------------------------------------

LEVELS = torch.tensor([-9.0, -2.0, 0.0, 1.0, 2.0])


def level_logits(seed, *shape):
    """Draw logits whose sigmoid scores are equal or far apart."""
    return LEVELS[inputs.integers(seed, 0, len(LEVELS), *shape)]


def row_logits(seed, n, p, c, rows=6):
    """Draw few different rows, so that softmax scores are equal or far apart."""
    return (inputs.bell(seed, rows, c) * 2)[inputs.integers(seed + 1, 0, rows, n, p)]


@pytest.mark.parametrize("p", inputs.BORDER_SIZES)
def test_border_sizes_equal_reference(backend, p):
    default, deltas = inputs.grid_boxes(p, p), torch.zeros(2, p, 4)
    for columns in (2, 5):
        softmax = PostprocessSpec(score_threshold=0.05, top_k=40, keep_top_k=30, iou_threshold=0.5)
        check_exact(backend, row_logits(p, 2, p, columns), deltas, default, softmax, coder=CODER)
        sigmoid = dataclasses.replace(softmax, activation="sigmoid", background=None, top_k=None)
        check_exact(backend, level_logits(p, 2, p, columns), deltas, default, sigmoid, coder=CODER)


@pytest.mark.parametrize("columns", [2, 3, 21, 31, 32, 33, 64, 65, 91])
def test_border_numbers_of_columns_equal_reference(backend, columns):
    default, deltas = inputs.grid_boxes(1, 40), torch.zeros(1, 40, 4)
    spec = PostprocessSpec(score_threshold=1e-3, top_k=20, keep_top_k=64, background=-1)
    check_exact(backend, row_logits(2, 1, 40, columns), deltas, default, spec, coder=CODER)
    sigmoid = dataclasses.replace(spec, activation="sigmoid", background=columns // 2)
    check_exact(backend, level_logits(3, 1, 40, columns), deltas, default, sigmoid, coder=CODER)


@pytest.mark.parametrize("keep_top_k", [1, 31, 32, 33, 64, 65, 255, 256, 257, 700])
def test_class_then_index_decide_if_all_are_tied(backend, keep_top_k):
    """All scores are equal: class, then index, decides which candidates enter, suppress and stay."""
    default, deltas = inputs.grid_boxes(1, 130), torch.zeros(2, 130, 4)
    for top_k in (None, 1, 33, 100):
        spec = PostprocessSpec(score_threshold=0.1, top_k=top_k, keep_top_k=keep_top_k, iou_threshold=0.8)
        result = check_exact(backend, torch.zeros(2, 130, 7), deltas, default, spec, coder=CODER)
        order = result.labels[0, : result.counts[0]] * 130 + result.box_idxs[0, : result.counts[0]]
        assert (order.diff() > 0).all()


@pytest.mark.parametrize("threshold", [0.0, 0.25, 0.5])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_strange_logits_equal_reference(backend, activation, threshold):
    """A NaN spoils its row's softmax or its own sigmoid; infinities have a value where the formula gives one."""
    values = torch.tensor([inputs.NAN, inputs.INF, -inputs.INF, 0.0, -0.0, 3e38, -3e38, 1.0])
    cls_logits = torch.cartesian_prod(values, values, values)[None]
    default, deltas = inputs.grid_boxes(5, 512), torch.zeros(1, 512, 4)
    for background, inclusive in ((0, False), (2, True), (None, False)):
        spec = PostprocessSpec(
            activation, background, threshold, score_inclusive=inclusive, top_k=None, iou_threshold=0.9, keep_top_k=600
        )
        assert check_exact(backend, cls_logits, deltas, default, spec, coder=CODER).counts[0] > 10


def test_strange_boxes_equal_reference(backend):
    """Boxes with NaN, of infinite size or without size are detections like others, but suppress nothing."""
    default = torch.tensor(inputs.STRANGE_BOXES).repeat(3, 1)
    n = len(default)
    deltas = torch.zeros(1, 3 * n, 4)
    deltas[0, :n, 0], deltas[0, n : 2 * n, 3] = inputs.NAN, inputs.INF
    spec = PostprocessSpec("sigmoid", None, 0.1, top_k=None, keep_top_k=200)
    for clip in ("none", "before_nms", "after_nms"):
        spec = dataclasses.replace(spec, clip=clip)
        logits = level_logits(3, 1, 3 * n, 2)
        check_exact(backend, logits, deltas, default.repeat(3, 1), spec, coder=CODER, image_sizes=(40, 30))


@pytest.mark.parametrize("top_k, keep_top_k", [(None, 5000), (1500, 40), (400, 200)])
def test_many_candidates_equal_reference(backend, top_k, keep_top_k):
    """A class has more candidates than a block has threads, or than its shared memory holds."""
    default, deltas = inputs.boxes(1, 3000, extent=2000.0), torch.zeros(1, 3000, 4)
    spec = PostprocessSpec("sigmoid", 0, 0.1, top_k=top_k, keep_top_k=keep_top_k)
    check_exact(backend, level_logits(4, 1, 3000, 2), deltas, default, spec, coder=CODER)


def test_images_are_independent(backend):
    logits, deltas = row_logits(1, 5, P, 4), inputs.bell(2, 5, P, 4)
    logits[3] = -30.0
    logits[3, :, 0] = 30.0  # an image without a candidate
    together = run_postprocess(backend, logits, deltas, DEFAULT, inputs.LOOSE, coder=CODER)
    assert together.counts[3] == 0
    for n in range(5):
        alone = run_postprocess(backend, logits[n : n + 1], deltas[n : n + 1], DEFAULT, inputs.LOOSE, coder=CODER)
        assert_same_bits([field[n : n + 1] for field in together], list(alone))


def test_no_images_and_no_rows_give_no_detections(backend):
    result = run_postprocess(backend, torch.zeros(0, P, 3), torch.zeros(0, P, 4), DEFAULT, inputs.LOOSE, coder=CODER)
    assert result.counts.shape == (0,)
    result = run_postprocess(
        backend, torch.zeros(2, 0, 3), torch.zeros(2, 0, 4), DEFAULT[:0], inputs.LOOSE, coder=CODER
    )
    assert result.counts.tolist() == [0, 0]


# ---- any inputs -----------------------------------------------------------------------------------------------------


# Every (clip, rescale) that a spec may have.
STAGES = [(clip, "after_nms") for clip in ("none", "before_nms", "after_nms")]
STAGES += [(clip, "before_nms") for clip in ("none", "before_nms")]


@given(
    seed=st.integers(0, 2**31),
    shape=st.tuples(st.integers(1, 2), st.integers(1, 21)),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
    spec=st.builds(
        lambda stages, **fields: PostprocessSpec(clip=stages[0], rescale=stages[1], **fields),
        stages=st.sampled_from(STAGES),
        activation=st.sampled_from(["softmax", "sigmoid"]),
        background=st.sampled_from([0, -1, None]),
        score_threshold=st.sampled_from([0.0, 1e-8, 0.01, 0.1, 0.3]),
        score_inclusive=st.booleans(),
        top_k=st.sampled_from([None, 1, 10, 400]),
        iou_threshold=st.sampled_from([0.1, 0.45, 0.6]),
        iou_inclusive=st.booleans(),
        keep_top_k=st.sampled_from([1, 7, 100, 300]),
    ),
    coder=st.sampled_from([CODER, inputs.CLAMPED, BoxCoderSpec((0.05, 0.1, 0.2, 0.25), order="yx")]),
    rescaled=st.booleans(),
)
def test_random_heads_equal_reference(backend, seed, shape, dtype, spec, coder, rescaled):
    images, columns = shape[0], shape[1] + 1
    logits = inputs.logits(seed, images, P, columns).to(dtype)
    deltas = inputs.bell(seed + 3, images, P, 4).to(dtype)
    sizes = {"image_sizes": (90, 80)} if spec.clip != "none" or rescaled else {}
    if rescaled:
        sizes["original_sizes"] = [(45 + n, 160 - n) for n in range(images)]
    check(backend, logits, deltas, DEFAULT, spec, coder, **sizes)


@functools.cache
def full_size():
    """Make SSD300 heads with COCO's 91 columns, torchvision's settings, and the reference's (slow) result."""
    preset = ssd_fast.preset("torchvision_ssd300_vgg16")
    default = reference.default_boxes(preset.default_boxes)
    args = inputs.logits(1, 1, 8732, 91, background=7.0), inputs.bell(2, 1, 8732, 4), default, preset.postprocess
    return args, preset.coder, specified("postprocess", *args, coder=preset.coder, image_sizes=(300, 300))


def test_full_size_equals_reference(backend):
    args, coder, expected = full_size()
    result = check(backend, *args, coder, expected, image_sizes=(300, 300))
    assert result.counts.tolist() == [200]


# ---- other runtimes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("photo, setting", goldens.OPENCV)
def test_detections_equal_opencv(backend, photo, setting):
    case = goldens.opencv(photo, setting)
    result = run_postprocess(backend, *case[:4], coder=case.coder)
    limits = Limits(case.spec.score_threshold, case.spec.iou_threshold, case.spec.keep_top_k, box=1e-5)
    assert not assert_same_detections(result, case.expected, limits).excused


@pytest.mark.parametrize("photo", goldens.TENSORFLOW)
def test_detections_equal_tensorflow(backend, photo):
    case = goldens.tensorflow(photo)
    result = run_postprocess(backend, *case[:4], coder=case.coder, image_sizes=case.image_sizes)
    limits = Limits(case.spec.score_threshold, case.spec.iou_threshold, case.spec.keep_top_k, box=1e-5)
    assert not assert_same_detections(result, case.expected, limits).excused
    assert_same_bits(result.box_idxs, case.expected.box_idxs)
