"""compat.qfgaohao against qfgaohao/pytorch-ssd, whose results are in tests/golden."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from helpers import adapter_inputs as inputs
from helpers import dialect_inputs
from helpers.adapter_checks import Original, assert_losses, excused_matches, matcher
from helpers.checks import assert_same_bits, unmodified
from ssd_fast.compat.qfgaohao import MatchPrior, MultiboxLoss, Predictor, generate_ssd_priors

IMAGE = np.arange(48 * 64 * 3, dtype=np.uint32).reshape(48, 64, 3).astype(np.uint8)


@pytest.fixture(scope="module")
def original() -> Original:
    return Original("qfgaohao")


@pytest.mark.parametrize("clamp", [True, False])
def test_priors_have_same_bits(original, clamp):
    expected = original["priors" if clamp else "priors_unclipped"]
    assert (expected.max() > 1) != clamp
    assert_same_bits(generate_ssd_priors(inputs.qfgaohao_specs(), 300, clamp), expected)


@pytest.mark.parametrize(
    "name, maps, steps, sizes, ratios",
    [
        (
            "vgg16",
            [38, 19, 10, 5, 3, 1],
            [8, 16, 32, 64, 100, 300],
            [30, 60, 111, 162, 213, 264, 315],
            [[2], [2, 3], [2, 3], [2, 3], [2], [2]],
        ),
        (
            "mobilenet",
            [19, 10, 5, 3, 2, 1],
            [16, 32, 64, 100, 150, 300],
            [60, 105, 150, 195, 240, 285, 330],
            [[2, 3]] * 6,
        ),
    ],
)
def test_priors_of_published_configurations(original, name, maps, steps, sizes, ratios):
    specs = [
        SimpleNamespace(
            feature_map_size=m, shrinkage=s, box_sizes=SimpleNamespace(min=low, max=high), aspect_ratios=ratio
        )
        for m, s, low, high, ratio in zip(maps, steps, sizes[:-1], sizes[1:], ratios, strict=True)
    ]
    assert dialect_inputs.digest(generate_ssd_priors(specs, 300).numpy()) == original[f"priors_{name}"]


# ---- Predictor ------------------------------------------------------------------------------------------------------


def predictor(setting: str = "default", image: int = 0, **changes) -> Predictor:
    candidates, threshold, nms_threshold = inputs.SETTINGS[setting]
    options = {"iou_threshold": nms_threshold, "filter_threshold": threshold, "candidate_size": candidates}
    heads = inputs.Heads(inputs.scores()[image : image + 1], inputs.boxes()[image : image + 1])
    return Predictor(heads, 30, np.array([1, 2, 3]), 128.0, device="cpu", **(options | changes))


@pytest.mark.parametrize("image", [0, 1])
@pytest.mark.parametrize("setting", inputs.SETTINGS)
def test_predict_equals_original(original, setting, image):
    """Equal bit for bit, by class as in the original, whose 1e-5 in the union changes nothing for such large boxes."""
    pytest.importorskip("cv2", reason="OpenCV, which resizes the image, is not installed")
    with unmodified(inputs.scores(), inputs.boxes()):
        if setting == "default":
            found = predictor(setting, image).predict(IMAGE)
        else:
            found = predictor(setting, image).predict(IMAGE, top_k=7, prob_threshold=0.25)
    expected = [original[f"{key}_{setting}_{image}"] for key in ("boxes", "labels", "probs")]
    assert len(expected[1]) >= 4 * 7 and expected[1].diff().min() == 0
    assert_same_bits(found, tuple(expected))


def test_transform_equals_original(original):
    pytest.importorskip("cv2", reason="OpenCV, which resizes the image, is not installed")
    assert_same_bits(predictor().transform(IMAGE), original["transformed"])


def test_transform_says_that_opencv_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ImportError, match=r"Predictor.transform: needs OpenCV.*pip install opencv-python-headless"):
        predictor().predict(IMAGE)


def test_postprocess_scales_boxes_and_limits_detections(original):
    """`postprocess` is the part of `predict` after the network; it needs no network and no OpenCV."""
    scores, boxes = inputs.scores()[0], inputs.boxes()[0]
    found = predictor("other").postprocess(scores, boxes, 64, 48, 7, 0.25)
    assert_same_bits(found, tuple(original[f"{key}_other_0"] for key in ("boxes", "labels", "probs")))
    few = predictor("other").postprocess(scores, boxes, 64, 48, 1, 0.25)
    assert few[1].tolist() == [1, 2, 3, 4]
    assert_same_bits(predictor().postprocess(scores, boxes, prob_threshold=0), predictor().postprocess(scores, boxes))
    strict = predictor("other").postprocess(scores, boxes, prob_threshold=0.45)[2]
    assert 0 < len(strict) < len(predictor("other").postprocess(scores, boxes)[2]) and strict.min() > 0.45
    shares = predictor("other").postprocess(scores, boxes, top_k=7, prob_threshold=0.25)
    torch.testing.assert_close(shares[0] * torch.tensor([64.0, 48.0, 64.0, 48.0]), found[0])


def test_postprocess_without_detections():
    boxes, labels, probs = predictor().postprocess(torch.zeros(6, 3), torch.rand(6, 4))
    assert (boxes.shape, labels.shape, probs.shape) == ((0, 4), (0,), (0,)) and labels.dtype == torch.int64


def test_predictor_rejects_settings_and_shapes():
    with pytest.raises(ValueError, match="Predictor: nms_method: expected None or 'hard', got 'soft'"):
        predictor(nms_method="soft")
    with pytest.raises(ValueError, match="Predictor: candidate_size: expected an int >= 1"):
        predictor(candidate_size=0)
    with pytest.raises(ValueError, match=r"Predictor: boxes: expected shape \[6, 4\], got \[5, 4\]"):
        predictor().postprocess(torch.zeros(6, 3), torch.zeros(5, 4))


# ---- targets and loss -----------------------------------------------------------------------------------------------


def test_match_prior_equals_original(original):
    match_prior = MatchPrior(original["priors"], 0.1, 0.2, 0.5)
    for n, (boxes, labels) in enumerate(inputs.ground_truth()):
        _, matched = match_prior(boxes, 1 + torch.arange(len(boxes)))
        expected = original[f"matched_{n}"]
        corners = match_prior.corner_form_priors
        assert excused_matches(matched - 1, expected, n, corners, matcher(), union_epsilon=1e-5) <= 1
        locations, row_labels = match_prior(boxes.numpy(), labels.numpy())
        same = matched - 1 == expected
        assert_same_bits(row_labels[same], original["labels"][n][same])
        positive = same & (expected >= 0)
        torch.testing.assert_close(locations[positive], original["locations"][n][positive], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("variances", [(0.1, 0.2), (0.3, 0.05)])
def test_match_prior_encodes_with_variances(original, variances):
    boxes, labels = inputs.ground_truth()[0]
    locations, row_labels = MatchPrior(original["priors"], *variances, 0.5)(boxes, labels)
    standard, _ = MatchPrior(original["priors"], 0.1, 0.2, 0.5)(boxes, labels)
    factors = torch.tensor([0.1 / variances[0]] * 2 + [0.2 / variances[1]] * 2)
    torch.testing.assert_close(locations, standard * factors)
    assert (row_labels > 0).sum() >= 8


def test_match_prior_obeys_threshold(original):
    boxes, labels = inputs.ground_truth()[0]
    positives = [int((MatchPrior(original["priors"], 0.1, 0.2, t)(boxes, labels)[1] > 0).sum()) for t in (0.4, 0.5, 1)]
    assert positives[0] > positives[1] > positives[2] == len(boxes)  # at 1, only the best box of each ground truth


def test_loss_and_gradients_equal_original(original):
    labels, locations = original["labels"], original["locations"]
    criterion = MultiboxLoss(original["priors"], 0.5, 3, 0.1, 0.2, torch.device("cpu"))
    heads = [inputs.deltas(), inputs.logits()]
    assert_losses(original, heads, lambda loc, conf: criterion(conf, loc, labels, locations), ("deltas", "logits"))


def test_loss_rejects_shapes():
    criterion = MultiboxLoss(torch.zeros(790, 4), 0.5, 3, 0.1, 0.2, "cpu")
    with pytest.raises(ValueError, match=r"MultiboxLoss: gt_locations: expected shape \[2, 790, 4\], got \[2, 790\]"):
        labels = torch.zeros(2, 790, dtype=torch.int64)
        criterion(inputs.logits(), inputs.deltas(), labels, labels)
