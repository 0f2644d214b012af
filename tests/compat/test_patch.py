"""torchvision's SSDs, patched: the same detections as before."""

from __future__ import annotations

import pytest
import torch
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.ssd import SSD

from helpers import dialect_inputs
from helpers.comparators import Candidates, assert_same_detections
from helpers.patch_models import (
    COLUMNS,
    MODELS,
    SIDE,
    anchors_of,
    assert_same_dicts,
    head_outputs,
    images,
    imitate_training,
    limits,
    make_torchvision_model,
    tiny_ssd,
)
from ssd_fast.compat import patch, patched, unpatch

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", params=list(MODELS))
def known(request) -> tuple[SSD, tuple[int, ...], int]:
    return make_torchvision_model(request.param)


@pytest.mark.parametrize("columns", [21, 91])
@pytest.mark.parametrize("n", [1, 8])
@pytest.mark.parametrize("density", ["sparse", "dense"])
def test_patched_torchvision_model_finds_same_detections(known, columns, n, density):
    model, maps, side = known
    anchors = anchors_of(model, maps, side, n)
    sparse = {(300, 21): 13.3, (300, 91): 14.4, (320, 21): 15.0, (320, 91): 16.2}[side, columns]
    if density == "dense":
        n = min(n, 2)  # torchvision's NMS of some ten thousand boxes is slow
        anchors = anchors[:n]
    heads = head_outputs(n, len(anchors[0]), columns, 9.0 if density == "dense" else sparse)
    scores = heads["cls_logits"].softmax(-1)
    candidates = int((scores[..., 1:] > model.score_thresh).sum()) / n
    assert candidates > 5000 if density == "dense" else 80 < candidates < 320, candidates

    sizes = [(side, side)] * n
    expected = model.postprocess_detections(heads, anchors, sizes)
    with patched(model):
        actual = model.postprocess_detections(heads, anchors, sizes)
    boxes = torch.stack([model.box_coder.decode_single(x, anchors[0]) for x in heads["bbox_regression"]])
    comparison = assert_same_detections(actual, expected, limits(model, columns), Candidates(boxes, scores))
    assert len(comparison.excused) <= 4 * n, comparison.excused
    assert sum(len(image["scores"]) for image in actual) > 30 * n
    assert all(image["labels"].dtype == torch.int64 for image in actual)


def test_patched_whole_model_finds_same_in_images_of_different_sizes(known):
    model, _, side = known
    batch = images((200, 300), (333, 500), (64, 64), (480, 100))[: 2 if side == 300 else 4]
    imitate_training(model, batch)
    with torch.no_grad():
        expected = model(batch)
        actual = patch(model)(batch)
        unpatch(model)
    found = [len(image["scores"]) for image in expected]
    assert min(found) > 30, found
    assert_same_detections(actual, expected, limits(model, 91))


def test_patched_tiny_model_finds_same_in_batch_of_eight():
    model = tiny_ssd()
    batch = images(*[(40 + 9 * i, 90 - 7 * i) for i in range(8)])
    with torch.no_grad():
        expected = model(batch)
        assert_same_dicts(patch(model)(batch), expected)
    assert all(len(image["scores"]) > 20 for image in expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_heads_are_computed_in_float32(dtype):
    model = tiny_ssd()
    anchors = [anchor.to(dtype) for anchor in anchors_of(model, (8, 4), SIDE, 2)]
    heads = {name: head.to(dtype) for name, head in head_outputs(2, len(anchors[0]), COLUMNS, 3.0).items()}
    wide = {name: head.float() for name, head in heads.items()}
    sizes = [(SIDE, SIDE)] * 2
    expected = model.postprocess_detections(wide, [anchor.float() for anchor in anchors], sizes)
    actual = patch(model).postprocess_detections(heads, anchors, sizes)
    assert_same_detections(actual, expected, limits(model, COLUMNS))
    assert actual[0]["boxes"].dtype == actual[0]["scores"].dtype == torch.float32


def test_float64_model_runs_torchvision_methods():
    """In eval mode and in training, bit for bit: the model computes in float64, which the kernels would not."""
    model, batch = tiny_ssd().double(), [image.double() for image in images((64, 64), (50, 90))]
    boxes = torch.tensor([[5.0, 5.0, 40.0, 40.0]], dtype=torch.float64)
    targets = [{"boxes": boxes, "labels": torch.tensor([n + 1])} for n in range(2)]
    expected, expected_losses = model.eval()(batch), model.train()(batch, targets)
    patch(model)
    actual, losses = model.eval()(batch), model.train()(batch, targets)
    assert min(len(image["scores"]) for image in expected) > 20
    for ours, theirs in zip(actual, expected, strict=True):
        assert ours["boxes"].dtype == ours["scores"].dtype == torch.float64
        assert all(torch.equal(ours[field], theirs[field]) for field in theirs)
    assert losses == expected_losses and losses["classification"].dtype == torch.float64


def test_float64_heads_run_torchvision_methods():
    """Such heads come from a model that has its own forward."""
    model = tiny_ssd()
    anchors = [anchor.double() for anchor in anchors_of(model, (8, 4), SIDE, 1)]
    heads = {name: head.double() for name, head in head_outputs(1, len(anchors[0]), COLUMNS, 3.0).items()}
    targets = [{"boxes": anchors[0][:1], "labels": torch.tensor([1])}]
    matched = [torch.arange(len(anchors[0])).eq(0).long() - 1]
    expected = model.postprocess_detections(heads, anchors, [(SIDE, SIDE)])
    expected_losses = model.compute_loss(targets, heads, anchors, matched)
    patch(model)
    assert_same_dicts(model.postprocess_detections(heads, anchors, [(SIDE, SIDE)]), expected)
    for given in (matched, torch.stack(matched)):
        assert model.compute_loss(targets, heads, anchors, given) == expected_losses


def test_patched_model_runs_under_autocast():
    model = patch(tiny_ssd())
    with torch.no_grad():
        precise = model(images((50, 70)))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            (detections,) = model(images((50, 70)))
    assert detections["boxes"].isfinite().all()
    assert detections["scores"][0] == pytest.approx(precise[0]["scores"][0].item(), abs=0.05)


def test_patched_model_obeys_settings_changed_later():
    model, reference = patch(tiny_ssd()), tiny_ssd()
    batch = images((64, 64), (30, 80))
    changes = [
        ("score_thresh", 0.6),
        ("score_thresh", -1.0),  # torchvision then takes every score
        ("nms_thresh", 0.7),
        ("detections_per_img", 7),
        ("detections_per_img", 10**9),
        ("topk_candidates", 3),
        ("box_coder", BoxCoder((8.0, 9.0, 4.0, 3.0), bbox_xform_clip=0.3)),
    ]
    with torch.no_grad():
        last = reference(batch)
        for attribute, value in changes:
            for each in (model, reference):
                setattr(each, attribute, value)
            expected = reference(batch)
            assert_same_dicts(model(batch), expected)
            changed = [len(image["scores"]) for image in expected] != [len(image["scores"]) for image in last]
            assert changed or not torch.equal(expected[0]["boxes"], last[0]["boxes"]), "the change changes nothing"
            last = expected


def test_patched_model_agrees_exactly_at_thresholds():
    """A score equal to the threshold is dropped; two boxes whose IoU equals it are both kept."""
    logits, boxes, _ = (torch.from_numpy(x) for x in dialect_inputs.exact_scene())
    model = tiny_ssd()
    model.score_thresh, model.nms_thresh = 0.5, 0.5
    heads = {"cls_logits": logits, "bbox_regression": torch.zeros(1, len(boxes), 4)}
    expected = model.postprocess_detections(heads, [boxes], [(1, 1)])
    with patched(model):
        actual = model.postprocess_detections(heads, [boxes], [(1, 1)])
    assert len(actual[0]["scores"]) == len(expected[0]["scores"]) == 96
    assert torch.equal(actual[0]["scores"], expected[0]["scores"])


def test_negative_threshold_takes_scores_of_zero():
    model = tiny_ssd()
    model.score_thresh, model.nms_thresh, model.detections_per_img = -1.0, 1.0, 10**9
    anchors = anchors_of(model, (8, 4), SIDE, 1)
    heads = head_outputs(1, len(anchors[0]), COLUMNS, 300.0)
    counts = []
    for each in (model, patch(model)):
        (found,) = each.postprocess_detections(heads, anchors, [(SIDE, SIDE)])
        assert not found["scores"].any()
        counts.append(len(found["scores"]))
    assert counts == [len(anchors[0]) * (COLUMNS - 1)] * 2


def test_images_may_have_different_anchors_and_windows():
    model = tiny_ssd()
    anchors = anchors_of(model, (8, 4), SIDE, 3)
    anchors[1] = anchors[1] + 5
    heads = head_outputs(3, len(anchors[0]), COLUMNS, 3.0)
    sizes = [(64, 64), (50, 60), (33, 64)]
    for given in (anchors, anchors[:1] * 3):
        expected = model.postprocess_detections(heads, given, sizes)
        with patched(model):
            assert_same_dicts(model.postprocess_detections(heads, given, sizes), expected)
            assert model.postprocess_detections(heads, [], []) == []


@pytest.mark.parametrize("setting", [("score_thresh", 1.0), ("topk_candidates", 0), ("detections_per_img", 0)])
def test_patched_model_may_find_nothing(setting):
    model = patch(tiny_ssd())
    assert len(model(images((64, 64)))[0]["scores"]) > 20
    setattr(model, *setting)
    (found,) = model(images((64, 64)))
    assert found["boxes"].shape == (0, 4) and found["labels"].dtype == torch.int64
