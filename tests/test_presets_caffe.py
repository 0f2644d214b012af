"""Caffe's presets against OpenCV's DNN module, whose answers to the same inputs are in tests/golden."""

from __future__ import annotations

import dataclasses

import dialect_inputs
import goldens
import numpy as np
import pytest
import torch
from checks import assert_same_bits
from comparators import Candidates, Limits, assert_same_detections
from dialects import detected

import ssd_fast
from ssd_fast import reference

COLUMNS = 21
BOXES = {
    "caffe_ssd300_voc": ("priorbox_opencv", "ssd300_vgg_voc"),
    "caffe_ssd300_coco": ("priorbox_opencv", "ssd300_vgg_coco"),
    "caffe_ssd512_voc": ("priorbox_opencv", "ssd512_vgg_voc"),
    "caffe_ssd512_coco": ("caffe_opencv", "caffe_ssd512_coco"),
    "caffe_mobilenet_ssd_voc": ("priorbox_opencv", "mobilenet_ssd_voc"),
    "opencv_res10": ("res10_face_ssd", "astronaut"),
}


@pytest.mark.parametrize("name", BOXES)
def test_default_boxes(name):
    golden = goldens.load(*BOXES[name])
    keys = [key for key in ("boxes_xyxy", "prior_corners_norm", "mbox_priorbox") if key in golden]
    expected = golden[keys[0]].T if keys[0] == "boxes_xyxy" else golden[keys[0]]
    actual = ssd_fast.default_boxes(ssd_fast.preset(name).default_boxes)
    assert_same_bits(actual, torch.from_numpy(np.ascontiguousarray(expected)))


@pytest.mark.parametrize("prefix", ["detected", "all"])
@pytest.mark.parametrize("name", ["caffe_ssd300_voc", "caffe_mobilenet_ssd_voc"])
def test_postprocess(name, prefix):
    """all: whatever NMS keeps, which shows how many candidates it is given: keep_top_k hides that."""
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


def test_exact_thresholds():
    """An IoU of exactly NMS's threshold is kept, a score of exactly the other is not."""
    logits, boxes, _ = (torch.from_numpy(x) for x in dialect_inputs.exact_scene())
    expected = goldens.load("caffe_opencv", "caffe_ssd300_voc")["exact_scores"]
    preset = ssd_fast.preset("caffe_ssd300_voc")
    spec = dataclasses.replace(preset.postprocess, score_threshold=0.5, iou_threshold=0.5)
    found = ssd_fast.postprocess(logits, torch.zeros(1, len(boxes), 4), boxes, spec, coder=preset.coder)
    assert int(found.counts) == len(expected)
    np.testing.assert_allclose(found.scores[0, : len(expected)], expected, atol=1e-6)
