"""match: arrays of other kinds, memory, registration, CUDA graphs, and rejected inputs."""

from __future__ import annotations

import pytest
import torch

import ssd_fast
from helpers import inputs
from helpers.checks import assert_numpy_agrees, assert_same_bits, assert_well_registered, peak_memory, unmodified
from helpers.match_cases import SPECS, packed
from ssd_fast import MatcherSpec, preset


def test_noncontiguous_arrays_give_same_matches(backend):
    gts, default_boxes = inputs.boxes(1, 9), inputs.boxes(2, 70)
    expected = ssd_fast.match([backend.to(gts)], backend.to(default_boxes), MatcherSpec())
    gts, default_boxes = (inputs.noncontiguous(backend.to(x)) for x in (gts, default_boxes))
    offsets = inputs.noncontiguous(backend.to(torch.tensor([0, 9])))
    with unmodified(gts, default_boxes, offsets):
        assert_same_bits(ssd_fast.match([gts], default_boxes, MatcherSpec()), expected)
        assert_same_bits(ssd_fast.match((gts, offsets), default_boxes, MatcherSpec()), expected)


def test_numpy_arrays_give_same_matches(backend):
    if backend.name != "cuda":
        gts, default_boxes = [inputs.boxes(1, 9), inputs.boxes(2, 0)], inputs.boxes(3, 70)
        for spec in SPECS.values():
            assert_numpy_agrees(ssd_fast.match, gts, default_boxes, spec)
            assert_numpy_agrees(ssd_fast.match, packed(gts), default_boxes, spec)


SCENE = """
center = torch.rand(20000, 2, generator=torch.Generator().manual_seed(1)) * 300
gts, boxes = torch.cat((center - 9, center + 9), 1), torch.cat((center[:8732] - 12, center[:8732] + 12), 1)
ssd_fast.match([gts[:9]], boxes, ssd_fast.MatcherSpec({rule!r}))
"""
MATCH = "assert len(ssd_fast.match([gts], boxes, ssd_fast.MatcherSpec({rule!r})).unique()) > 1000"


@pytest.mark.parametrize("rule", ["forced", "threshold"])
def test_memory_is_linear(rule):
    """A matrix of these IoUs would take 698 MB."""
    assert peak_memory(SCENE.format(rule=rule), MATCH.format(rule=rule)) < 16 * 1024  # KiB


def test_op_is_well_registered(backend):
    gts, default_boxes = [inputs.boxes(1, 9), inputs.boxes(2, 0)], backend.to(inputs.boxes(3, 70))
    for spec in (MatcherSpec(), SPECS["caffe"], SPECS["ignored"]):
        boxes, offsets = backend.to(packed(gts))
        assert_well_registered(lambda a, b, c, s=spec: ssd_fast.match((a, b), c, s), boxes, offsets, default_boxes)
        assert_well_registered(lambda a, b, c, s=spec: ssd_fast.match([a, b], c, s), *backend.to(gts), default_boxes)


def test_matches_have_no_gradient(backend):
    gts, default_boxes = (backend.to(inputs.boxes(seed, 9)).requires_grad_() for seed in (1, 2))
    assert not ssd_fast.match([gts], default_boxes, MatcherSpec()).requires_grad


def test_cuda_graph_replays_with_new_inputs(cuda):
    boxes, default_boxes = (
        torch.zeros(300, 4, device=cuda),
        ssd_fast.default_boxes(preset("torchvision_ssd300_vgg16").default_boxes, device=cuda),
    )
    offsets = torch.tensor([0, 100, 300], device=cuda)
    for spec in (MatcherSpec(), SPECS["caffe"]):
        ssd_fast.match((boxes, offsets), default_boxes, spec)  # kernels are loaded outside the capture
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = ssd_fast.match((boxes, offsets), default_boxes, spec)
        for seed, middle in ((1, 100), (2, 7)):
            boxes.copy_(inputs.boxes(seed, 300))
            offsets[1] = middle
            graph.replay()
            assert_same_bits(captured, ssd_fast.match((boxes, offsets), default_boxes, spec))


BOX3, OFFSETS = torch.zeros(3, 4), torch.tensor([0, 3])


@pytest.mark.parametrize(
    "gts, default_boxes, error, message",
    [
        ([BOX3[:, :3]], BOX3, ValueError, r"gt_boxes\[0\]: expected shape \[any, 4\], got \[3, 3\]"),
        ([BOX3, BOX3[0]], BOX3, ValueError, r"gt_boxes\[1\]: expected shape \[any, 4\], got \[4\]"),
        ([BOX3, "boxes"], BOX3, TypeError, r"gt_boxes\[1\]: expected a torch tensor, .* got str"),
        ([BOX3.double()], BOX3, TypeError, "gt_boxes: expected float32, got float64 .*convert"),
        ([BOX3.half()], BOX3, TypeError, "gt_boxes: expected float32, got float16 .*convert"),
        (BOX3, BOX3, TypeError, r"gt_boxes: expected a list of \[G, 4\] or \(boxes, offsets\), got Tensor"),
        (None, BOX3, TypeError, r"gt_boxes: expected a list of \[G, 4\] or \(boxes, offsets\), got NoneType"),
        ([BOX3], BOX3[:, 1:], ValueError, r"default_boxes: expected shape \[any, 4\], got \[3, 3\]"),
        ([BOX3], BOX3[None], ValueError, r"default_boxes: expected shape \[any, 4\], got \[1, 3, 4\]"),
        ([BOX3], BOX3.double(), TypeError, "default_boxes: expected float32, got float64 .*convert"),
        ([BOX3], "boxes", TypeError, "default_boxes: expected a torch tensor, .* got str"),
        (
            [BOX3],
            BOX3.numpy(),
            TypeError,
            r"gt_boxes\[0\]: expected a NumPy array, as default_boxes is, got a torch tensor",
        ),
        (
            [BOX3.numpy()],
            BOX3,
            TypeError,
            r"gt_boxes\[0\]: expected a torch tensor, as default_boxes is, got a NumPy array",
        ),
        ((BOX3, OFFSETS.int()), BOX3, TypeError, "gt_boxes.offsets: expected int64, got int32 .*convert"),
        ((BOX3, OFFSETS[:0]), BOX3, ValueError, "gt_boxes.offsets: expected at least 1, got 0"),
        ((BOX3[:, 1:], OFFSETS), BOX3, ValueError, r"gt_boxes: expected shape \[any, 4\], got \[3, 3\]"),
        (
            (BOX3, torch.zeros(65537, dtype=torch.int64)),
            BOX3,
            ValueError,
            "gt_boxes.offsets: expected at most 65535 images, got 65536",
        ),
    ],
)
def test_rejected_boxes(backend, gts, default_boxes, error, message):
    def to(x):
        return type(x)(map(to, x)) if isinstance(x, (list, tuple)) else backend.to(x) if torch.is_tensor(x) else x

    with pytest.raises(error, match=f"^match: {message}"):
        ssd_fast.match(to(gts), to(default_boxes), MatcherSpec())


def test_rejected_matcher(backend):
    with pytest.raises(TypeError, match=r"^match: matcher: expected a MatcherSpec, got float"):
        ssd_fast.match([backend.to(BOX3)], backend.to(BOX3), 0.5)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"rule": "best"}, "rule: expected 'forced' or 'bipartite' or 'threshold', got 'best'"),
        ({"claimed_twice": "never"}, "claimed_twice: expected 'last' or 'first', got 'never'"),
        *(
            ({"positive_threshold": value}, rf"positive_threshold: expected a number in \[0, 1\], got {value}")
            for value in (-0.1, 1.1, inputs.NAN, inputs.INF)
        ),
        (
            {"positive_threshold": 0.0},
            r"positive_inclusive: expected positive_threshold > 0 \(else separate boxes would",
        ),
        *(
            (
                {"negative_threshold": value},
                rf"negative_threshold: expected a number in \[0, positive_.*\], got {value}",
            )
            for value in (-0.1, 0.6, inputs.NAN)
        ),
        (
            {"rule": "bipartite", "negative_threshold": 0.4},
            r'negative_threshold: expected None with rule "bipartite" \(no preset has both\), got 0.4',
        ),
        *(
            ({"ignored_coverage": value}, rf"ignored_coverage: expected a number in \(0, 1\], got {value}")
            for value in (0.0, -0.1, 1.1, inputs.NAN, inputs.INF, None)
        ),
        *(
            ({"minimum_forced_iou": value}, f"minimum_forced_iou: expected a number >= 0, got {value}")
            for value in (-0.1, inputs.NAN, inputs.INF)
        ),
    ],
)
def test_rejected_fields(fields, message):
    with pytest.raises(ValueError, match=f"^MatcherSpec: {message}"):
        MatcherSpec(**fields)
