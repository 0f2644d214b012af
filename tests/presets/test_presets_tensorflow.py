"""Presets of TensorFlow's family against TensorFlow, TFLite's op and TF.js, whose results are in tests/golden."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

import ssd_fast
from helpers import dialect_inputs, goldens
from helpers.comparators import Candidates, Limits, assert_same_detections
from helpers.dialects import detected, ulp_difference
from ssd_fast import PostprocessSpec, reference

COLUMNS = 91
PRESETS = ["tf_ssdlite_mobilenet_v2", "tflite_ssd_mobilenet", "tflite_ssd_mobilenet_regular", "tfjs_coco_ssd"]


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("photo", goldens.TENSORFLOW)
def test_default_boxes_equal_tensorflow(name, photo):
    expected = goldens.tensorflow(photo).default_boxes
    assert ulp_difference(ssd_fast.default_boxes(ssd_fast.preset(name).default_boxes), expected).max() <= 2


@pytest.mark.parametrize("photo", goldens.TENSORFLOW)
def test_postprocess_equals_tensorflow(photo):
    case = goldens.tensorflow(photo)
    preset = ssd_fast.preset("tf_ssdlite_mobilenet_v2")
    boxes, spec = ssd_fast.default_boxes(preset.default_boxes), preset.postprocess
    arguments = case.cls_logits, case.bbox_regression, boxes, spec
    actual = ssd_fast.postprocess(*arguments, coder=preset.coder, image_sizes=(1, 1))
    candidates = Candidates(
        reference.decode_boxes(case.bbox_regression, boxes, preset.coder), case.cls_logits.sigmoid()
    )
    assert_same_detections(actual, case.expected, limits(spec), candidates)


def tflite_case(name):
    preset = ssd_fast.preset(name)
    default_boxes = goldens.tensorflow("astronaut").default_boxes
    logits, deltas = dialect_inputs.head_outputs(len(default_boxes), COLUMNS, background=None)
    logits = dialect_inputs.around_a_threshold(logits)
    golden = goldens.load("tflite", "detection_postprocess")
    assert dialect_inputs.digest(logits, deltas) == int(golden["inputs"])
    return preset, default_boxes, torch.from_numpy(logits), torch.from_numpy(deltas), golden


@pytest.mark.parametrize("setting", ["exported", "half"])
def test_regular_nms_equals_tflite(setting):
    preset, default_boxes, logits, deltas, golden = tflite_case("tflite_ssd_mobilenet_regular")
    spec = at_half(preset.postprocess) if setting == "half" else preset.postprocess
    actual = ssd_fast.postprocess(logits, deltas, default_boxes, spec, coder=preset.coder)
    expected = detected(golden, f"regular_{setting}")
    candidates = Candidates(reference.decode_boxes(deltas, default_boxes, preset.coder), logits.sigmoid())
    assert actual.counts.tolist() == [len(image["scores"]) for image in expected]
    # No tolerance at the threshold, where scores are exact: a score equal to it passes.
    excused = assert_same_detections(
        actual, expected, dataclasses.replace(limits(spec), score_threshold=-1), candidates
    )
    assert setting == "exported" or min((image["scores"] == 0.5).sum() for image in expected) >= 5
    assert all("tie" in text or "keep_top_k" in text for text in excused.excused)


@pytest.mark.parametrize("setting", ["exported", "half"])
def test_fast_nms_equals_tflite(setting):
    """Both order by score; among equal scores, TFLite puts the lower box first, as this package does."""
    preset, default_boxes, logits, deltas, golden = tflite_case("tflite_ssd_mobilenet")
    spec = at_half(preset.postprocess) if setting == "half" else preset.postprocess
    actual = ssd_fast.postprocess(logits, deltas, default_boxes, spec, coder=preset.coder)
    expected = detected(golden, f"fast_{setting}")
    assert [len(image["scores"]) for image in expected] == actual.counts.tolist()
    for n, image in enumerate(expected):
        k = len(image["scores"])
        np.testing.assert_allclose(actual.scores[n, :k], image["scores"], atol=1e-6)
        assert actual.labels[n, :k].tolist() == image["labels"].tolist()
        np.testing.assert_allclose(actual.boxes[n, :k], image["boxes"], atol=2e-5, rtol=1e-5)


def scores_of(preset, logits, boxes, **changes):
    spec = dataclasses.replace(preset.postprocess, **changes)
    deltas = torch.zeros(1, len(boxes), 4)
    found = ssd_fast.postprocess(logits, deltas, boxes, spec, coder=preset.coder, image_sizes=(1, 1))
    return found.scores[0, : int(found.counts)]


@pytest.mark.parametrize("scene", dialect_inputs.TFLITE)
@pytest.mark.parametrize(
    "name, prefix", [("tflite_ssd_mobilenet", "fast"), ("tflite_ssd_mobilenet_regular", "regular")]
)
def test_scenes_equal_tflite(name, prefix, scene):
    make, iou = dialect_inputs.TFLITE[scene]
    preset, expected = (
        ssd_fast.preset(name),
        goldens.load("tflite", "detection_postprocess")[f"{prefix}_{scene}_scores"],
    )
    # TFLite keeps 100 of the separate boxes per class, which the spec does not say: do so here.
    keep_top_k = 100 if (prefix, scene) == ("regular", "apart") else 2000
    changes = {"iou_threshold": iou} if scene == "equal" else {}
    actual = scores_of(preset, *(torch.from_numpy(x) for x in make()), keep_top_k=keep_top_k, **changes)
    assert len(actual) == len(expected) > 50
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


def test_faint_scores_equal_tensorflow():
    """All scores above the exported threshold, 1e-8, are detections; in other tests better ones fill the list."""
    preset = ssd_fast.preset("tf_ssdlite_mobilenet_v2")
    actual = scores_of(preset, *(torch.from_numpy(x) for x in dialect_inputs.apart(2, dialect_inputs.FAINT)))
    expected = goldens.load("tensorflow", preset.name)["faint_scores"]
    assert len(actual) == len(expected) > 50
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


def test_boxes_outside_image_are_kept_unlike_tensorflow():
    """TensorFlow drops detections without area after clipping, before it counts them; this package keeps them."""
    logits, boxes = (torch.from_numpy(x) for x in dialect_inputs.apart(2, dialect_inputs.FAINT))
    preset = ssd_fast.preset("tf_ssdlite_mobilenet_v2")
    boxes, deltas = boxes + 0.5, torch.zeros(1, len(boxes), 4)
    found = ssd_fast.postprocess(logits, deltas, boxes, preset.postprocess, coder=preset.coder, image_sizes=(1, 1))
    k = int(found.counts)
    inside = (found.boxes[0, :k, :2] < found.boxes[0, :k, 2:]).all(1)
    expected = goldens.load("tensorflow", preset.name)["outside_scores"]
    np.testing.assert_allclose(found.scores[0, :k][inside], expected, rtol=1e-6)
    assert k - len(expected) > 30


def at_half(spec: PostprocessSpec) -> PostprocessSpec:
    return dataclasses.replace(spec, score_threshold=0.5, keep_top_k=1000)


@pytest.mark.parametrize("setting, keep_top_k", [("default", 20), ("loose", 100), ("nested", 128), ("apart", 1024)])
def test_postprocess_equals_tfjs(setting, keep_top_k):
    """minScore serves as both thresholds: an IoU equal to it suppresses, a score equal to it is dropped."""
    scenes = {"nested": dialect_inputs.nested, "apart": dialect_inputs.apart}
    logits, boxes = (torch.from_numpy(x) for x in scenes.get(setting, dialect_inputs.halves)(90))
    golden = goldens.load("tfjs", "coco_ssd")
    assert dialect_inputs.digest(*dialect_inputs.halves(90)) == int(golden["inputs"])
    with_background = torch.nn.functional.pad(logits, (1, 0), value=9.0)  # its graph drops that column
    preset = ssd_fast.preset("tfjs_coco_ssd")
    spec = dataclasses.replace(preset.postprocess, keep_top_k=keep_top_k)
    assert setting != "default" or spec == preset.postprocess
    deltas = torch.zeros(1, len(boxes), 4)
    found = ssd_fast.postprocess(with_background, deltas, boxes, spec, coder=preset.coder)
    k = int(found.counts)
    assert found.box_idxs[0, :k].tolist() == golden[f"{setting}_box_idxs"].tolist()
    assert (found.labels[0, :k] - 1).tolist() == golden[f"{setting}_labels"].tolist()
    np.testing.assert_allclose(found.scores[0, :k], golden[f"{setting}_scores"], atol=1e-6)


def limits(spec: PostprocessSpec) -> Limits:
    return Limits(spec.score_threshold, spec.iou_threshold, spec.keep_top_k, spec.top_k, box=2e-5)
