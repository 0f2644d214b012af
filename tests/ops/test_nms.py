"""nms, batched_nms and nms_padded give exactly the reference's indices on every backend."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ssd_fast
from helpers import goldens, inputs
from helpers.checks import (
    assert_numpy_agrees,
    assert_same_bits,
    assert_well_registered,
    peak_memory,
    specified,
    unmodified,
)
from ssd_fast import _backend, reference

BOXES = {"random": inputs.boxes, "grid": inputs.grid_boxes, "strange": inputs.strange_boxes}
SCORES = {"random": inputs.scores, "tied": inputs.tied_scores, "strange": inputs.strange_scores}


def check(backend, op_name, *args):
    """Return the op's result, checked bit for bit against the reference's."""
    expected = specified(op_name, *args)
    args = [backend.to(arg) if isinstance(arg, torch.Tensor) else arg for arg in args]
    with unmodified(args):
        actual = getattr(ssd_fast, op_name)(*args)
    assert_same_bits(actual, expected)
    return actual


def padded(boxes, classes=None):
    """Return the boxes as two images, with scores for each image or for each of the given number of classes."""
    batch = torch.stack((boxes, boxes.flip(0)))
    n = len(boxes)
    return batch, inputs.scores(n, 2, n) if classes is None else inputs.scores(n, 2, classes, n)


# ---- by hand --------------------------------------------------------------------------------------------------------


def test_by_hand(backend):
    boxes = torch.tensor([[0.0, 0, 10, 5], [0, 0, 10, 10], [20, 0, 30, 10], [0, 0, 10, 10], [0, 0, 10, 5.1]])
    scores = torch.tensor([0.6, 0.9, 0.7, 0.9, 0.5])
    boxes, scores, idxs = backend.to((boxes, scores, torch.tensor([0, 0, 0, 7, 7])))
    assert ssd_fast.nms(boxes, scores, 0.5).tolist() == [
        1,
        2,
        0,
    ]  # the IoU of 1 and 0 is 1/2, not above; 1 wins a tie
    assert ssd_fast.nms(boxes, scores, 0.49).tolist() == [1, 2]
    assert ssd_fast.nms(boxes, scores, 0.0).tolist() == [1, 2]
    assert ssd_fast.nms(boxes, scores, 1.0).tolist() == [1, 3, 2, 0, 4]  # equal boxes: IoU 1 is not above 1
    assert ssd_fast.batched_nms(boxes, scores, idxs, 0.49).tolist() == [1, 3, 2]
    kept, counts = ssd_fast.nms_padded(boxes[None], torch.stack((scores, -scores))[None], 0.49, 3)
    assert kept.tolist() == [[[1, 2, -1], [4, 2, -1]]] and counts.tolist() == [[2, 2]]
    kept, counts = ssd_fast.nms_padded(boxes[None], scores[None], 0.49, 1)
    assert kept.tolist() == [[1]] and counts.tolist() == [1]


def test_strange_scores_by_hand(backend):
    boxes = torch.tensor([[0.0, 0, 10, 10]]).repeat(6, 1)
    boxes += 20 * torch.arange(6)[:, None]
    scores = torch.tensor([-0.0, inputs.NAN, 0.0, inputs.INF, -inputs.INF, 0.5])
    boxes, scores = backend.to((boxes, scores))
    assert ssd_fast.nms(boxes, scores, 0.5).tolist() == [3, 5, 0, 2, 4]
    assert ssd_fast.nms(torch.zeros_like(boxes), scores, 0.5).tolist() == [3, 5, 0, 2, 4]  # points suppress nothing
    assert ssd_fast.nms(boxes, torch.full_like(scores, inputs.NAN), 0.5).tolist() == []


# ---- against the reference ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", inputs.BORDER_SIZES)
def test_border_sizes_equal_reference(backend, n):
    for boxes in (inputs.boxes(n, n), inputs.grid_boxes(n, n)):
        scores, idxs = inputs.tied_scores(n, n), inputs.integers(n, 0, 3, n)
        check(backend, "nms", boxes, scores, 0.5)
        check(backend, "nms", boxes.double(), scores.double(), 0.3)
        check(backend, "batched_nms", boxes, scores, idxs, 0.5)
        check(backend, "nms_padded", *padded(boxes), 0.5, 20)
        check(backend, "nms_padded", *padded(boxes, classes=3), 0.5, 20)


@pytest.mark.parametrize("make_scores", SCORES.values(), ids=SCORES.keys())
@pytest.mark.parametrize("make_boxes", BOXES.values(), ids=BOXES.keys())
def test_kinds_of_boxes_and_scores_equal_reference(backend, make_boxes, make_scores):
    boxes, scores = make_boxes(1, 300), make_scores(2, 300)
    for threshold in (0.0, 0.3, 0.5, 0.55, 1.0):
        check(backend, "nms", boxes, scores, threshold)
        check(backend, "batched_nms", boxes, scores, inputs.integers(3, -2, 3, 300), threshold)
        check(backend, "nms_padded", boxes.reshape(3, 100, 4), make_scores(4, 3, 2, 100), threshold, 30)


def test_lower_index_is_kept_if_all_are_tied(backend):
    boxes = torch.tensor([[0.0, 0, 10, 10], [50, 50, 60, 60]]).repeat(150, 1)
    kept = check(backend, "nms", boxes, torch.zeros(300), 0.5)
    assert kept.tolist() == [0, 1]
    apart = torch.tensor([[0.0, 0, 10, 10]]) + 20 * torch.arange(300)[:, None]
    assert check(backend, "nms", apart, torch.zeros(300), 0.5).tolist() == list(range(300))


@given(
    seed=st.integers(0, 2**31),
    n=st.integers(0, 300),
    threshold=st.sampled_from([0.0, 0.1, 1 / 3, 0.45, 0.5, 0.55, 0.6, 0.9, 1.0, 7.0]),
    double=st.booleans(),
    boxes=st.sampled_from(list(BOXES.values())),
    scores=st.sampled_from(list(SCORES.values())),
)
def test_random_boxes_equal_reference(backend, seed, n, threshold, double, boxes, scores):
    dtype = torch.float64 if double else torch.float32
    args = boxes(seed, n).to(dtype), scores(seed + 7, n).to(dtype)
    check(backend, "nms", *args, threshold)
    check(backend, "batched_nms", *args, inputs.integers(seed + 8, 0, 1 + seed % 9, n), threshold)


@given(
    seed=st.integers(0, 2**31),
    shape=st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 90)),
    max_output=st.integers(1, 100),
    has_classes=st.booleans(),
)
def test_random_padded_boxes_equal_reference(backend, seed, shape, max_output, has_classes):
    images, classes, n = shape
    scores = list(SCORES.values())[seed % 3](seed, *((images, classes, n) if has_classes else (images, n)))
    boxes = list(BOXES.values())[seed // 3 % 3](seed + 1, images * n).reshape(images, n, 4)
    check(backend, "nms_padded", boxes, scores, 0.45, max_output)


coordinate = st.floats(width=32) | st.sampled_from([0.0, -0.0, 1.0, 10.0, 1e-40, inputs.INF, inputs.NAN, inputs.HUGE])
score = st.floats(width=32) | st.sampled_from([0.0, -0.0, 0.5])


@given(st.lists(st.tuples(coordinate, coordinate, coordinate, coordinate, score), max_size=8), st.floats(0, 1))
def test_any_floats_equal_reference(backend, rows, threshold):
    rows = torch.tensor(rows, dtype=torch.float32).reshape(-1, 5)
    check(backend, "nms", rows[:, :4], rows[:, 4], threshold)


@pytest.mark.parametrize("threshold", [1 / 3, 0.5, 0.55, 0.6])
def test_iou_at_threshold_is_kept(backend, threshold):
    """IoUs are compared in the dtype of the boxes: one that rounds to the threshold does not exceed it."""
    boxes = torch.tensor([[0.0, 0, 60, 10], [0, 0, 60 * threshold, 10]])
    for dtype in (torch.float32, torch.float64):
        pair = boxes.to(dtype)
        pair[1, 2] = 60 * threshold
        exact = float(reference.box_iou(pair[:1], pair[1:]))
        scores = torch.tensor([0.9, 0.8], dtype=dtype)
        assert len(check(backend, "nms", pair, scores, exact)) == 2
        below = float(torch.nextafter(torch.tensor(exact, dtype=dtype), torch.tensor(0.0, dtype=dtype)))
        assert len(check(backend, "nms", pair, scores, below)) == 1


@pytest.mark.parametrize("n", [2000, 5000])
def test_many_candidates_equal_reference(backend, n):
    """There are more candidates than a block has threads, or than its shared memory holds."""
    boxes, scores = inputs.boxes(n, n, extent=800.0), inputs.scores(n, n)
    check(backend, "nms", boxes, scores, 0.5)
    check(backend, "batched_nms", boxes, scores, inputs.integers(n, 0, 20, n), 0.5)
    check(backend, "nms_padded", boxes[None], scores[None], 0.5, 200)


def test_full_size_equals_reference(backend):
    boxes, scores = inputs.boxes(5, 8732), inputs.tied_scores(6, 91, 8732) * inputs.scores(7, 91, 8732)
    scores = torch.where(scores > 0.7, scores, inputs.NAN)  # most are not candidates, as after a score threshold
    check(backend, "nms_padded", boxes[None], scores[None], 0.45, 20)


@pytest.mark.parametrize("workload, key", goldens.NMS)
def test_nms_equals_tensorflow(backend, workload, key):
    boxes, scores, classes, threshold, expected = goldens.nms(workload, key)
    boxes, scores = backend.to((boxes, scores))
    if classes is None:
        kept = ssd_fast.nms(boxes, scores, threshold)
    else:
        kept = ssd_fast.batched_nms(boxes, scores, backend.to(classes), threshold)
    assert_same_bits(goldens.by_class(kept.cpu(), classes), expected)


SCENE = """
corner = torch.rand(20000, 2, generator=torch.Generator().manual_seed(1)) * 9000
boxes, scores = torch.cat((corner, corner + 9), 1), torch.arange(20000.0)
idxs = torch.zeros(20000, dtype=torch.int64)
ssd_fast.nms(boxes[:9], scores[:9], 0.5)
"""


@pytest.mark.parametrize("call", ["nms(boxes, scores, 0.5)", "batched_nms(boxes, scores, idxs, 0.5)"])
def test_memory_is_linear(call):
    """One bit per pair of these boxes would take 50 MB, their IoUs 1.6 GB."""
    assert peak_memory(SCENE, f"assert len(ssd_fast.{call}) > 15000") < 16 * 1024  # KiB


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_workspace_is_linear(backend, dtype):
    """Only the CUDA kernels need workspace."""
    sizes = [_backend.C.nms_workspace(backend.to(torch.zeros(n, 4, dtype=dtype))) for n in (10_000, 20_000, 40_000)]
    assert sizes[2] <= 2.1 * sizes[1] <= 4.41 * sizes[0]
    assert (sizes[0] > 0) == (backend.name != "cpu")


# ---- arrays, registration, rejections -------------------------------------------------------------------------------


def test_noncontiguous_arrays_give_same_indices(backend):
    boxes, scores, idxs = backend.to((inputs.boxes(1, 65), inputs.scores(2, 65), inputs.integers(3, 0, 3, 65)))
    strided = tuple(map(inputs.noncontiguous, (boxes, scores, idxs)))
    with unmodified(strided):
        assert_same_bits(ssd_fast.nms(*strided[:2], 0.5), ssd_fast.nms(boxes, scores, 0.5))
        assert_same_bits(ssd_fast.batched_nms(*strided, 0.5), ssd_fast.batched_nms(boxes, scores, idxs, 0.5))
        batch = strided[0].reshape(5, 13, 4).transpose(1, 2).contiguous().transpose(1, 2)
        result = ssd_fast.nms_padded(batch, inputs.noncontiguous(scores.reshape(5, 13)), 0.5, 9)
        assert_same_bits(result, ssd_fast.nms_padded(boxes.reshape(5, 13, 4), scores.reshape(5, 13), 0.5, 9))


def test_numpy_arrays_give_same_indices(backend):
    if backend.name != "cuda":
        boxes, scores = inputs.boxes(1, 65), inputs.scores(2, 65)
        assert_numpy_agrees(ssd_fast.nms, boxes, scores, 0.5)
        assert_numpy_agrees(ssd_fast.nms, boxes.double(), scores.double(), 0.5)
        assert_numpy_agrees(ssd_fast.batched_nms, boxes, scores, inputs.integers(3, 0, 3, 65), 0.5)
        assert_numpy_agrees(ssd_fast.nms_padded, boxes[None], scores[None, None], 0.5, 9)


def test_ops_are_well_registered(backend):
    boxes, scores, idxs = backend.to((inputs.boxes(1, 65), inputs.scores(2, 65), inputs.integers(3, 0, 3, 65)))
    assert_well_registered(lambda a, b: ssd_fast.nms(a, b, 0.5), boxes, scores)
    assert_well_registered(lambda a, b, c: ssd_fast.batched_nms(a, b, c, 0.5), boxes, scores, idxs)
    assert_well_registered(lambda a, b: ssd_fast.nms_padded(a, b, 0.5, 9), boxes[None], scores[None])


def test_cuda_graph_replays_nms_padded(cuda):
    boxes, scores = torch.zeros(2, 300, 4, device=cuda), torch.zeros(2, 5, 300, device=cuda)
    ssd_fast.nms_padded(boxes, scores, 0.5, 40)  # kernels are loaded outside the capture
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = ssd_fast.nms_padded(boxes, scores, 0.5, 40)
    for seed in (1, 2):
        boxes.copy_(inputs.boxes(seed, 2, 300))
        scores.copy_(inputs.tied_scores(seed, 2, 5, 300))
        graph.replay()
        assert_same_bits(captured, ssd_fast.nms_padded(boxes, scores, 0.5, 40))


BOX3, SCORE3, IDX3 = torch.zeros(3, 4), torch.zeros(3), torch.zeros(3, dtype=torch.int64)
thresholds = [(-0.1, "-0.1"), (inputs.NAN, "nan"), (inputs.INF, "inf")]


@pytest.mark.parametrize(
    "op, args, error, message",
    [
        ("nms", (BOX3[:, :3], SCORE3, 0.5), ValueError, r"boxes: expected shape \[any, 4\], got \[3, 3\]"),
        ("nms", (BOX3, SCORE3[1:], 0.5), ValueError, r"scores: expected shape \[3\], got \[2\]"),
        ("nms", (BOX3, SCORE3[None], 0.5), ValueError, r"scores: expected shape \[3\], got \[1, 3\]"),
        ("nms", (BOX3.half(), SCORE3.half(), 0.5), TypeError, "boxes: expected float32 or float64, got float16"),
        ("nms", (BOX3, SCORE3.double(), 0.5), TypeError, "scores: expected float32, got float64 .*convert"),
        ("nms", ("boxes", SCORE3, 0.5), TypeError, "boxes: expected a torch tensor, .* got str"),
        *(
            ("nms", (BOX3, SCORE3, value), ValueError, f"iou_threshold: expected a finite number >= 0, got {text}")
            for value, text in thresholds
        ),
        ("batched_nms", (BOX3, SCORE3, IDX3[1:], 0.5), ValueError, r"idxs: expected shape \[3\], got \[2\]"),
        ("batched_nms", (BOX3, SCORE3, IDX3.int(), 0.5), TypeError, "idxs: expected int64, got int32 .*convert"),
        ("nms_padded", (BOX3, SCORE3, 0.5, 9), ValueError, r"boxes: expected shape \[any, any, 4\], got \[3, 4\]"),
        ("nms_padded", (BOX3[None], SCORE3, 0.5, 9), ValueError, r"scores: expected shape \[1, 3\], got \[3\]"),
        (
            "nms_padded",
            (BOX3[None], SCORE3.expand(2, 5, 3), 0.5, 9),
            ValueError,
            r"scores: expected shape \[1, any, 3\], got \[2, 5, 3\]",
        ),
        ("nms_padded", (BOX3[None], SCORE3[None], 0.5, 0), ValueError, "max_output: expected at least 1, got 0"),
        ("nms_padded", (BOX3[None], SCORE3[None], 0.5, -3), ValueError, "max_output: expected at least 1, got -3"),
        ("nms_padded", (BOX3[None].double(), SCORE3[None].double(), 0.5, 9), TypeError, "boxes: expected float32"),
    ],
)
def test_rejected_arguments(backend, op, args, error, message):
    args = [backend.to(arg) if isinstance(arg, torch.Tensor) else arg for arg in args]
    with pytest.raises(error, match=f"^{op}: {message}"):
        getattr(ssd_fast, op)(*args)
