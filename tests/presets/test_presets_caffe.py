"""Caffe's presets against OpenCV's DNN module, and against the parts of Caffe that test_presets.py does not compare.

The results of both for the same inputs are in tests/golden.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

import ssd_fast
from helpers import dialect_inputs, goldens
from helpers.checks import assert_same_bits
from helpers.comparators import Candidates, Limits, assert_same_detections
from helpers.dialects import CAFFE, detected
from ssd_fast import reference

COLUMNS = 21
BOXES = {
    "caffe_ssd300_voc": ("priorbox_opencv", "ssd300_vgg_voc"),
    "caffe_ssd300_coco": ("priorbox_opencv", "ssd300_vgg_coco"),
    "caffe_mobilenet_ssd_voc": ("priorbox_opencv", "mobilenet_ssd_voc"),
    "opencv_res10": ("res10_face_ssd", "astronaut"),
}


@pytest.mark.parametrize("name", BOXES)
def test_default_boxes_equal_opencv(name):
    assert_same_bits(ssd_fast.default_boxes(ssd_fast.preset(name).default_boxes), opencv_boxes(*BOXES[name]))


def test_opencv_keeps_fractions_that_caffe_drops():
    """Caffe truncates 76.8 pixels to 76, which shortens the sides of the 1:3 box by 0.8 * sqrt(3)."""
    actual = ssd_fast.default_boxes(ssd_fast.preset("caffe_ssd512_voc").default_boxes)
    difference = (opencv_boxes("priorbox_opencv", "ssd512_vgg_voc") - actual).abs() * 512
    assert float(difference.max()) == pytest.approx(0.8 * 3**0.5 / 2, rel=1e-3)


def opencv_boxes(folder: str, name: str) -> torch.Tensor:
    golden = goldens.load(folder, name)
    keys = [key for key in ("prior_corners_norm", "mbox_priorbox") if key in golden]
    return torch.from_numpy(golden[keys[0]])


@pytest.mark.parametrize("prefix", ["detected", "all"])
@pytest.mark.parametrize("name", ["caffe_ssd300_voc", "caffe_mobilenet_ssd_voc"])
def test_postprocess_equals_opencv(name, prefix):
    """ "all": every box that NMS keeps, which shows how many candidates it is given; keep_top_k hides that."""
    preset, golden = ssd_fast.preset(name), goldens.load("caffe_opencv", name)
    spec = preset.postprocess
    if prefix == "all":
        spec = dataclasses.replace(spec, keep_top_k=5000)
    default_boxes = ssd_fast.default_boxes(preset.default_boxes)
    floor = -6.5 if name == "caffe_mobilenet_ssd_voc" else -10.5  # enough candidates above its threshold, 0.25
    outputs = dialect_inputs.head_outputs(len(default_boxes), COLUMNS, floor=floor)
    assert dialect_inputs.digest(*outputs) == int(golden["inputs"])
    logits, deltas = (torch.from_numpy(x) for x in outputs)

    actual = ssd_fast.postprocess(logits, deltas, default_boxes, spec, coder=preset.coder)
    expected = detected(golden, prefix)
    assert min(len(image["scores"]) for image in expected) >= 100
    assert actual.counts.max() < 5000
    candidates = Candidates(reference.decode_boxes(deltas, default_boxes, preset.coder), logits.softmax(-1))
    limits = Limits(spec.score_threshold, spec.iou_threshold, spec.keep_top_k, spec.top_k, box=2e-5)
    excused = assert_same_detections(actual, expected, limits, candidates).excused
    assert len(excused) <= 4


def test_exact_thresholds_equal_opencv():
    """An IoU equal to NMS's threshold is kept; a score equal to the score threshold is not."""
    logits, boxes, _ = (torch.from_numpy(x) for x in dialect_inputs.exact_scene())
    expected = goldens.load("caffe_opencv", "caffe_ssd300_voc")["exact_scores"]
    preset = ssd_fast.preset("caffe_ssd300_voc")
    spec = dataclasses.replace(preset.postprocess, score_threshold=0.5, iou_threshold=0.5)
    found = ssd_fast.postprocess(logits, torch.zeros(1, len(boxes), 4), boxes, spec, coder=preset.coder)
    assert int(found.counts) == len(expected)
    np.testing.assert_allclose(found.scores[0, : len(expected)], expected, atol=1e-6)


# ---- Caffe itself ---------------------------------------------------------------------------------------------------

DIALECTS = {dialect.name: dialect for dialect in CAFFE}
IMAGES = (0, 2)


def multibox_loss(name: str, truths: list[tuple[torch.Tensor, torch.Tensor]], matched_idxs: torch.Tensor):
    """Return (losses, gradient of the logits, gradient of the offsets)."""
    preset = ssd_fast.preset(name)
    logits, deltas = (x.requires_grad_() for x in DIALECTS[name].head_outputs())
    losses = ssd_fast.multibox_loss(
        logits,
        deltas,
        [boxes for boxes, _ in truths],
        [labels for _, labels in truths],
        matched_idxs,
        ssd_fast.default_boxes(preset.default_boxes),
        coder=preset.coder,
        loss=preset.loss,
    )
    gradients = torch.autograd.grad(losses["bbox_regression"] + losses["classification"], (logits, deltas))
    return [float(losses[key].detach()) for key in ("bbox_regression", "classification")], *gradients


@pytest.fixture(params=DIALECTS)
def name(request) -> str:
    return request.param


def test_mining_and_gradients_equal_caffe(name):
    """With Caffe's matching, the hard negatives and the gradients of the loss are Caffe's."""
    golden = DIALECTS[name].golden
    boxes, labels = DIALECTS[name].ground_truth()
    matched = torch.from_numpy(golden["matched_idxs"]).long()[list(IMAGES)]
    _, logits_gradient, deltas_gradient = multibox_loss(name, [(boxes[n], labels[n]) for n in IMAGES], matched)
    for n in range(2):
        positives = (matched[n] >= 0).nonzero()[:, 0]
        negatives = torch.from_numpy(golden[f"mined_{n}"]).long()
        assert len(negatives) == 3 * len(positives) > 100
        rows = logits_gradient[n].any(1)
        assert rows[positives].all()
        rows[positives] = False
        assert rows.nonzero()[:, 0].tolist() == negatives.tolist()
        expected = torch.from_numpy(golden[f"bbox_gradient_{n}"])
        torch.testing.assert_close(deltas_gradient[n, positives], expected, rtol=1e-5, atol=1e-7)
        expected = torch.from_numpy(golden[f"cls_gradient_{n}"])
        sampled = torch.cat((positives, negatives))[::8]
        torch.testing.assert_close(logits_gradient[n, sampled], expected, rtol=1e-5, atol=1e-8)


def test_bipartite_scene_has_described_matches(name):
    """The matches that test_presets.py compares are those in the scene's description."""
    assert DIALECTS[name].golden["bipartite_matched_idxs"].tolist() == [-1, 1, 2, -1, 3, 4, 6, 5]
