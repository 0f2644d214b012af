"""compat.amdegroot against amdegroot/ssd.pytorch, whose results are in tests/golden."""

from __future__ import annotations

import pytest
import torch

from helpers import adapter_inputs as inputs
from helpers import dialect_inputs
from helpers.adapter_checks import Original, assert_boxes, assert_losses
from helpers.checks import assert_same_bits, unmodified
from helpers.comparators import Candidates, Limits, assert_same_detections
from helpers.dialects import PORTS, detected
from ssd_fast import reference
from ssd_fast.compat.amdegroot import Detect, MultiBoxLoss, PriorBox
from ssd_fast.ground_truth import GroundTruthError

VOC = {
    "feature_maps": [38, 19, 10, 5, 3, 1],
    "min_dim": 300,
    "steps": [8, 16, 32, 64, 100, 300],
    "min_sizes": [30, 60, 111, 162, 213, 264],
    "max_sizes": [60, 111, 162, 213, 264, 315],
    "aspect_ratios": [[2], [2, 3], [2, 3], [2, 3], [2], [2]],
    "variance": [0.1, 0.2],
    "clip": True,
    "name": "VOC",
}
COCO = VOC | {"min_sizes": [21, 45, 99, 153, 207, 261], "max_sizes": [45, 99, 153, 207, 261, 315]}


@pytest.fixture(scope="module")
def original() -> Original:
    return Original("amdegroot")


# ---- PriorBox -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clip", [True, False])
def test_prior_box_has_same_bits(original, clip):
    expected = original["priors" if clip else "priors_unclipped"]
    assert (expected.max() > 1) != clip
    assert_same_bits(PriorBox(inputs.amdegroot_cfg(clip)).forward(), expected)


@pytest.mark.parametrize("name, cfg", [("voc", VOC), ("coco", COCO)])
def test_prior_box_of_published_configurations(original, name, cfg):
    assert dialect_inputs.digest(PriorBox(cfg).forward().numpy()) == original[f"priors_{name}"]


def test_prior_box_spec_has_boxes_of_preset():
    assert PriorBox(VOC).spec.num_boxes == 8732
    assert PriorBox(VOC).image_size == 300


@pytest.mark.parametrize(
    "change, message",
    [({"variance": [0.1, 0]}, "variance: expected finite positive"), ({"steps": [8]}, "steps: expected 6 entries")],
)
def test_prior_box_rejects_configuration(change, message):
    with pytest.raises(ValueError, match=f"PriorBox: {message}"):
        PriorBox(VOC | change)


# ---- Detect ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", inputs.SETTINGS)
def test_detect_equals_original(original, setting):
    """The shape, order and padding are the original's; the scores are too, bit for bit."""
    expected = original[f"detect_{setting}"]
    top_k = expected.shape[2]
    counts = (expected[..., 0] > 0).sum(2)
    assert counts[:, 1:].min() >= 10 and counts[:, 1:].max() < top_k and counts[:, 0].max() == 0
    given = inputs.deltas(), inputs.scores(), original["priors"]
    with unmodified(given):
        actual = Detect(inputs.COLUMNS, 0, *inputs.SETTINGS[setting]).forward(*given)
    assert_same_bits(actual[..., 0], expected[..., 0])
    assert_boxes(actual, expected)


def test_detect_can_be_called_three_ways(original):
    given = inputs.deltas(), inputs.scores(), original["priors"]
    settings = (inputs.COLUMNS, 0, 50, 0.2, 0.3)
    expected = Detect(*settings).forward(*given)
    assert_same_bits(Detect(*settings)(*given), expected)
    assert_same_bits(Detect.apply(*settings, *given), expected)
    assert_same_bits(
        Detect(*settings)(given[0], given[1].view(-1, inputs.COLUMNS), given[2]), expected
    )  # the documented shape


def test_detect_equals_recording_of_ssd300():
    """Compare with the preset's recording: 8732 boxes and 21 columns."""
    dialect = next(d for d in PORTS if d.name == "amdegroot_ssd300_voc")
    logits, deltas = dialect.head_outputs()
    priors = PriorBox(VOC).forward()
    output = Detect(21, 0, 200, 0.01, 0.45)(deltas, logits.softmax(-1), priors)
    assert output.shape == (2, 21, 200, 5)
    found = []
    for image in output:
        labels, ranks = (image[..., 0] > 0).nonzero(as_tuple=True)
        order = image[labels, ranks, 0].sort(descending=True, stable=True).indices
        rows = image[labels, ranks][order]
        found.append({"boxes": rows[:, 1:], "scores": rows[:, 0], "labels": labels[order]})
    expected = detected(dialect.golden)
    assert min(len(image["scores"]) for image in expected) > 200  # the cut over all classes has no effect
    default_boxes = torch.from_numpy(dialect.golden["boxes_xyxy"].T.copy())
    candidates = Candidates(reference.decode_boxes(deltas, default_boxes, dialect.preset.coder), logits.softmax(-1))
    assert (
        len(assert_same_detections(found, expected, Limits(0.01, 0.45, 4000, 200, box=2e-5), candidates).excused) <= 2
    )


def test_detect_without_detections(original):
    scores = torch.zeros(2, inputs.ROWS, inputs.COLUMNS)
    scores[..., 0] = 1  # the background is not a class
    output = Detect(inputs.COLUMNS, 0, 200, 0.01, 0.45)(inputs.deltas(), scores, original["priors"])
    assert output.shape == (2, inputs.COLUMNS, 200, 5) and not output.any()


@pytest.mark.parametrize(
    "settings, message",
    [
        ((21, 1, 200, 0.01, 0.45), "bkg_label: expected 0"),
        ((21, 0, 200, 0.01, 0), "nms_thresh: expected a positive"),
        ((21, 0, 0, 0.01, 0.45), "top_k: expected an int >= 1"),
        ((21, 0, 2.5, 0.01, 0.45), "top_k: expected an int >= 1, got 2.5"),
    ],
)
def test_detect_rejects_settings(settings, message):
    with pytest.raises(ValueError, match=f"Detect: {message}"):
        Detect(*settings)


def test_detect_rejects_shapes(original):
    priors = original["priors"]
    detect = Detect(inputs.COLUMNS, 0, 200, 0.01, 0.45)
    with pytest.raises(ValueError, match=r"Detect: loc_data: expected shape \[N, 790, 4\], got \[2, 3160\]"):
        detect(inputs.deltas().view(2, -1), inputs.scores(), priors)
    with pytest.raises(
        ValueError, match=r"Detect: conf_data: expected as many scores as \[2, 790, 5\], got \[2, 790, 4\]"
    ):
        detect(inputs.deltas(), inputs.scores()[..., :4], priors)
    with pytest.raises(TypeError, match="Detect: conf_data: expected a torch tensor, got ndarray"):
        detect(inputs.deltas(), inputs.scores().numpy(), priors)
    with pytest.raises(ValueError, match=r"Detect.apply: args: expected 5 arguments"):
        Detect.apply(21, 0, 200)


# ---- MultiBoxLoss ---------------------------------------------------------------------------------------------------


def criterion(columns: int = inputs.COLUMNS, **changes) -> MultiBoxLoss:
    options = {
        "num_classes": columns,
        "overlap_thresh": 0.5,
        "prior_for_matching": True,
        "bkg_label": 0,
        "neg_mining": True,
        "neg_pos": 3,
        "neg_overlap": 0.5,
        "encode_target": False,
    }
    return MultiBoxLoss(**(options | changes))


def targets() -> list[torch.Tensor]:
    return [torch.cat((boxes, labels[:, None] - 1.0), 1) for boxes, labels in inputs.ground_truth()]


def test_loss_and_gradients_equal_original(original):
    loss = criterion()
    heads = [inputs.deltas(), inputs.logits()]
    assert_losses(
        original, heads, lambda loc, conf: loss((loc, conf, original["priors"]), targets()), ("deltas", "logits")
    )


def test_loss_uses_as_many_priors_as_rows(original):
    predictions = inputs.deltas(), inputs.logits(), original["priors"]
    longer = (*predictions[:2], torch.cat((predictions[2], torch.full((5, 4), torch.nan))))
    assert_same_bits(criterion()(longer, targets()), criterion()(predictions, targets()))


def test_loss_without_ground_truth_is_zero(original):
    predictions = inputs.deltas(), inputs.logits(), original["priors"]
    assert [float(x) for x in criterion()(predictions, [torch.zeros(0, 5)] * 2)] == [0, 0]


def test_loss_names_faulty_ground_truth(original):
    wrong = targets()
    wrong[1][7, 2] = wrong[1][7, 0]
    with pytest.raises(GroundTruthError, match=r"MultiBoxLoss: targets\[1\]: ground truth 7 .*no width"):
        criterion()((inputs.deltas(), inputs.logits(), original["priors"]), wrong)
    wrong = targets()
    wrong[0][2, 4] = inputs.COLUMNS - 1  # one too many: the background is not counted
    with pytest.raises(GroundTruthError, match=r"targets\[0\]: ground truth 2 .*label"):
        criterion()((inputs.deltas(), inputs.logits(), original["priors"]), wrong)


def test_loss_rejects_settings_and_shapes(original):
    with pytest.raises(ValueError, match="MultiBoxLoss: bkg_label: expected 0"):
        criterion(bkg_label=20)
    with pytest.raises(ValueError, match="MultiBoxLoss: targets: expected 2 images, as in loc, got 1"):
        criterion()((inputs.deltas(), inputs.logits(), original["priors"]), targets()[:1])
    with pytest.raises(ValueError, match=r"MultiBoxLoss: conf: expected shape \[2, 790, 21\]"):
        criterion(21)((inputs.deltas(), inputs.logits(), original["priors"]), targets())
