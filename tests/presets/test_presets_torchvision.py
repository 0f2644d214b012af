"""The presets of torchvision's two SSDs against the models themselves, run in the tests."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torchvision.models import detection
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

import ssd_fast
from helpers import dialect_inputs
from helpers.checks import one_thread
from helpers.comparators import Candidates, Limits, assert_same_detections
from helpers.dialects import ulp_difference
from helpers.inputs import head_maps
from helpers.match_comparator import matching_differences
from ssd_fast import reference

COLUMNS = 21
MODELS = {
    "torchvision_ssd300_vgg16": (detection.ssd300_vgg16, 2),
    "torchvision_ssdlite320_mobilenet_v3_large": (detection.ssdlite320_mobilenet_v3_large, 1),
}


@pytest.fixture(params=MODELS, scope="module")
def case(request):
    make, boxes_ulp = MODELS[request.param]
    preset = ssd_fast.preset(request.param)
    with one_thread():
        model = make(weights=None, weights_backbone=None, num_classes=COLUMNS).eval()
        side = preset.default_boxes.image_size[0]
        images = ImageList(torch.zeros(2, 3, side, side), [(side, side)] * 2)
        anchors = model.anchor_generator(
            images, [torch.zeros(2, 1, *size) for size in preset.default_boxes.feature_maps]
        )
    outputs = dialect_inputs.head_outputs(preset.default_boxes.num_boxes, COLUMNS)
    logits, deltas = (torch.from_numpy(x) for x in outputs)
    return preset, model, anchors, logits, deltas, boxes_ulp


def ground_truth(side):
    truths = dialect_inputs.ground_truth(side, COLUMNS - 1)
    return [torch.from_numpy(boxes) for boxes, _ in truths], [torch.from_numpy(labels) for _, labels in truths]


def test_default_boxes_equal_torchvision(case):
    preset, _, anchors, *_, boxes_ulp = case
    assert ulp_difference(ssd_fast.default_boxes(preset.default_boxes), anchors[0]).max() <= boxes_ulp


def test_encode_and_decode_equal_torchvision(case):
    preset, model, anchors, _, deltas, _ = case
    boxes, _ = ground_truth(preset.default_boxes.image_size[0])
    matched = boxes[0][torch.arange(len(anchors[0])) % len(boxes[0])]
    encoded = model.box_coder.encode_single(matched, anchors[0])
    torch.testing.assert_close(ssd_fast.encode_boxes(matched, anchors[0], preset.coder), encoded, rtol=1e-5, atol=1e-5)
    decoded = model.box_coder.decode_single(deltas[0], anchors[0])
    assert ulp_difference(ssd_fast.decode_boxes(deltas[0], anchors[0], preset.coder), decoded).max() <= 4
    log_scale = 0.2 * deltas[0, :, 2:]
    assert log_scale.max() > 5 and log_scale.min() < -5  # only the upper side is clamped


def test_match_equals_torchvision(case):
    preset, model, anchors, *_ = case
    boxes, _ = ground_truth(preset.default_boxes.image_size[0])
    default_boxes = ssd_fast.default_boxes(preset.default_boxes)
    excused = 0
    for truth, actual in zip(boxes, ssd_fast.match(boxes, default_boxes, preset.matcher), strict=True):
        expected = model.proposal_matcher(box_iou(truth, anchors[0]))
        differences, more = matching_differences(actual, expected, truth, default_boxes, preset.matcher)
        assert not differences, "\n".join(differences[:10])
        excused += more
    assert excused <= 8


@pytest.mark.parametrize("first", [0, None], ids=["two", "one empty"])
def test_loss_equals_torchvision(case, first):
    """first: the first image's ground truth, or None for no ground truth, when only the divisor differs."""
    preset, model, anchors, logits, deltas, _ = case
    boxes, labels = ground_truth(preset.default_boxes.image_size[0])
    boxes, labels = [boxes[0], boxes[2]], [labels[0], labels[2]]
    matched = [model.proposal_matcher(box_iou(truth, anchors[0])) for truth in boxes]
    if first is None:
        boxes[0], labels[0], matched[0] = boxes[0][:0], labels[0][:0], torch.full_like(matched[0], -1)
    targets = [{"boxes": b, "labels": c} for b, c in zip(boxes, labels, strict=True)]
    heads = {"cls_logits": logits, "bbox_regression": deltas}
    expected = model.compute_loss(targets, heads, anchors, matched)
    actual = ssd_fast.multibox_loss(
        logits, deltas, boxes, labels, torch.stack(matched), anchors[0], coder=preset.coder, loss=preset.loss
    )
    for key, value in expected.items():
        assert float(value) > 1
        assert float(actual[key]) == pytest.approx(float(value), rel=1e-5)


def test_preset_has_settings_of_model(case):
    """The settings are exactly the model's: one candidate or detection more would rarely change the detections."""
    preset, model, *_ = case
    spec = preset.postprocess
    ours = spec.score_threshold, spec.top_k, spec.iou_threshold, spec.keep_top_k
    assert ours == (model.score_thresh, model.topk_candidates, model.nms_thresh, model.detections_per_img)


@pytest.mark.parametrize("keep_top_k", [None, 4000])
def test_postprocess_equals_torchvision(case, keep_top_k):
    """keep_top_k: the model's, or so many that the number of candidates of NMS shows."""
    preset, model, anchors, logits, deltas, _ = case
    spec = preset.postprocess
    if keep_top_k is not None:
        spec = dataclasses.replace(spec, keep_top_k=keep_top_k)
    side = preset.default_boxes.image_size[0]
    default_boxes = ssd_fast.default_boxes(preset.default_boxes)
    original, model.detections_per_img = model.detections_per_img, spec.keep_top_k
    assert keep_top_k is not None or model.detections_per_img == original
    try:
        heads = {"cls_logits": logits, "bbox_regression": deltas}
        expected = model.postprocess_detections(heads, anchors, [(side, side)] * 2)
    finally:
        model.detections_per_img = original
    maps = [head_maps(x, preset.default_boxes, "AC", "HWA") for x in (logits, deltas)]  # torchvision's maps
    actual = ssd_fast.postprocess(*maps, default_boxes, spec, coder=preset.coder, image_sizes=(side, side))
    candidates = Candidates(
        reference.decode_boxes(deltas, default_boxes, preset.coder).clamp(0, side), logits.softmax(-1)
    )
    limits = Limits(
        spec.score_threshold,
        spec.iou_threshold,
        spec.keep_top_k,
        spec.top_k,
        largest_coordinate=(COLUMNS + 1) * side,  # torchvision keeps classes apart by an offset
    )
    assert actual.counts.min() >= 100
    excused = assert_same_detections(actual, expected, limits, candidates).excused
    assert len(excused) <= 8


def test_exact_thresholds_equal_torchvision(case):
    """An IoU of exactly 0.5 matches and is kept by NMS; a score equal to the threshold is dropped."""
    preset, model, *_ = case
    logits, boxes, truths = (torch.from_numpy(x) for x in dialect_inputs.exact_scene())
    matched = ssd_fast.match([truths], boxes, preset.matcher)[0]
    assert torch.equal(matched, model.proposal_matcher(box_iou(truths, boxes)))
    unit_boxes, pairs = (torch.from_numpy(x) for x in dialect_inputs.bipartite_scene())
    matched = ssd_fast.match([pairs], unit_boxes, preset.matcher)[0]
    assert torch.equal(matched, model.proposal_matcher(box_iou(pairs, unit_boxes)))

    deltas = torch.zeros(1, len(boxes), 4)
    settings = model.score_thresh, model.nms_thresh
    model.score_thresh, model.nms_thresh = 0.5, 0.5
    try:
        heads = {"cls_logits": logits, "bbox_regression": deltas}
        (expected,) = model.postprocess_detections(heads, [boxes], [(1, 1)])
    finally:
        model.score_thresh, model.nms_thresh = settings
    spec = dataclasses.replace(preset.postprocess, score_threshold=0.5, iou_threshold=0.5)
    found = ssd_fast.postprocess(logits, deltas, boxes, spec, coder=preset.coder, image_sizes=(1, 1))
    assert len(expected["scores"]) == 96 == int(found.counts)
    torch.testing.assert_close(found.scores[0, :96], expected["scores"])


def test_boxes_outside_image_equal_torchvision(case):
    """Boxes clipped to lines and points are still detections."""
    preset, model, *_ = case
    logits, boxes = (torch.from_numpy(x) for x in dialect_inputs.apart(COLUMNS))
    boxes, deltas, spec = boxes + 0.5, torch.zeros(1, len(boxes), 4), preset.postprocess
    heads = {"cls_logits": logits, "bbox_regression": deltas}
    expected = model.postprocess_detections(heads, [boxes], [(1, 1)])
    assert (expected[0]["boxes"][:, :2] == expected[0]["boxes"][:, 2:]).any(1).sum() > 100
    found = ssd_fast.postprocess(logits, deltas, boxes, spec, coder=preset.coder, image_sizes=(1, 1))
    limits = Limits(spec.score_threshold, spec.iou_threshold, spec.keep_top_k, spec.top_k, box=1e-6)
    candidates = Candidates(boxes[None].clamp(0, 1), logits.softmax(-1))
    assert not assert_same_detections(found, expected, limits, candidates).excused
