"""compat.lufficc against lufficc/SSD, whose results are in tests/golden."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from helpers import adapter_inputs as inputs
from helpers import dialect_inputs
from helpers.adapter_checks import Original, assert_losses, excused_matches, matcher
from helpers.checks import assert_same_bits, unmodified
from ssd_fast.compat.lufficc import Container, MultiBoxLoss, PostProcessor, PriorBox, SSDTargetTransform
from ssd_fast.ground_truth import GroundTruthError

RATIOS300 = [[2], [2, 3], [2, 3], [2, 3], [2], [2]]
RATIOS512 = [[2], [2, 3], [2, 3], [2, 3], [2, 3], [2], [2]]
MAPS300, STRIDES300 = [38, 19, 10, 5, 3, 1], [8, 16, 32, 64, 100, 300]
MAPS512, STRIDES512 = [64, 32, 16, 8, 4, 2, 1], [8, 16, 32, 64, 128, 256, 512]
CONFIGS = {  # as in vgg_ssd*.yaml: side, maps, strides, ratios, the min sizes and the last max size
    "300_voc": (300, MAPS300, STRIDES300, RATIOS300, [30, 60, 111, 162, 213, 264, 315]),
    "300_coco": (300, MAPS300, STRIDES300, RATIOS300, [21, 45, 99, 153, 207, 261, 315]),
    "512_voc": (512, MAPS512, STRIDES512, RATIOS512, [35.84, 76.8, 153.6, 230.4, 307.2, 384.0, 460.8, 537.65]),
    "512_coco": (512, MAPS512, STRIDES512, RATIOS512, [20.48, 51.2, 133.12, 215.04, 296.96, 378.88, 460.8, 542.72]),
}


@pytest.fixture(scope="module")
def original() -> Original:
    return Original("lufficc")


@pytest.mark.parametrize("clip", [True, False])
def test_prior_box_has_same_bits(original, clip):
    expected = original["priors" if clip else "priors_unclipped"]
    assert (expected.max() > 1) != clip
    assert_same_bits(PriorBox(inputs.lufficc_cfg(clip=clip))(), expected)


@pytest.mark.parametrize("name", CONFIGS)
def test_prior_box_of_published_configurations(original, name):
    side, maps, strides, ratios, sizes = CONFIGS[name]
    cfg = inputs.lufficc_cfg()
    cfg.INPUT.IMAGE_SIZE = side
    cfg.MODEL.PRIORS = SimpleNamespace(
        FEATURE_MAPS=maps, STRIDES=strides, MIN_SIZES=sizes[:-1], MAX_SIZES=sizes[1:], ASPECT_RATIOS=ratios, CLIP=True
    )
    assert dialect_inputs.digest(PriorBox(cfg)().numpy()) == original[f"priors_{name}"]


# ---- PostProcessor --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", inputs.SETTINGS)
def test_post_processor_equals_original(original, setting):
    """Equal bit for bit and in order, also after the calls of lufficc's evaluation: resize, to, numpy."""
    given = inputs.scores(), inputs.boxes()
    with unmodified(given):
        images = PostProcessor(inputs.lufficc_cfg(setting))(given)
    assert len(images) == 2
    for n, image in enumerate(images):
        assert list(image) == original[f"keys_{setting}_{n}"]
        assert [image.img_width, image.img_height] == original[f"size_{setting}_{n}"].tolist()
        found = image.resize((640, 480)).to("cpu").numpy()
        assert isinstance(found, Container) and all(isinstance(found[key], np.ndarray) for key in found)
        assert len(found["scores"]) == (100 if setting == "default" else len(original[f"scores_{setting}_{n}"]))
        for key in ("boxes", "labels", "scores"):
            assert_same_bits(torch.from_numpy(found[key]), original[f"{key}_{setting}_{n}"])


def test_post_processor_without_detections():
    scores = torch.zeros(3, 4, 5)
    scores[..., 0] = 1
    scores[1, 2, 3] = 0.5
    images = PostProcessor(inputs.lufficc_cfg())((scores, torch.rand(3, 4, 4)))
    assert [len(image["scores"]) for image in images] == [0, 1, 0]
    assert images[0]["boxes"].shape == (0, 4) and images[0]["labels"].dtype == torch.int64
    assert images[1]["labels"].tolist() == [3]


def test_post_processor_reads_configuration_when_called():
    cfg = inputs.lufficc_cfg()
    post_processor = PostProcessor(cfg)
    cfg.TEST.MAX_PER_IMAGE = 3
    assert [len(image["scores"]) for image in post_processor((inputs.scores(), inputs.boxes()))] == [3, 3]
    cfg.TEST.MAX_PER_IMAGE = -1
    with pytest.raises(ValueError, match="MAX_PER_IMAGE: expected an int >= 1, got -1"):
        post_processor((inputs.scores(), inputs.boxes()))


def test_post_processor_rejects_shapes():
    with pytest.raises(ValueError, match=r"PostProcessor: boxes: expected shape \[2, 790, 4\], got \[2, 3160\]"):
        PostProcessor(inputs.lufficc_cfg())((inputs.scores(), inputs.boxes().view(2, -1)))


def test_container_resizes_from_current_size():
    boxes = torch.tensor([[10.0, 20.0, 30.0, 40.0]])
    container = Container(boxes=boxes, name="a")
    with pytest.raises(ValueError, match=r"Container.resize: img_width, img_height: expected finite positive"):
        container.resize((1, 1))
    container.img_width, container.img_height = 100, 200
    container.resize((200, 100)).resize((100, 200))
    assert container["boxes"].tolist() == boxes.tolist() and container["name"] == "a"
    container["labels"] = 3
    assert list(container) == ["boxes", "name", "labels"]
    assert boxes.tolist() == [[10.0, 20.0, 30.0, 40.0]]
    assert container.resize((50, 400))["boxes"].tolist() == [[5.0, 40.0, 15.0, 80.0]]


# ---- targets and loss -----------------------------------------------------------------------------------------------


def transform(original) -> SSDTargetTransform:
    return SSDTargetTransform(original["priors"], 0.1, 0.2, 0.5)


def test_target_transform_equals_original(original):
    target_transform = transform(original)
    for n, (boxes, labels) in enumerate(inputs.ground_truth()):
        _, matched = target_transform(boxes, 1 + torch.arange(len(boxes)))
        expected = original[f"matched_{n}"]
        corners = target_transform.corner_form_priors
        assert excused_matches(matched - 1, expected, n, corners, matcher(), union_epsilon=1e-5) <= 1
        locations, row_labels = target_transform(boxes.numpy(), labels.numpy())
        same = matched - 1 == expected
        assert_same_bits(row_labels[same], original["labels"][n][same])
        positive = same & (expected >= 0)
        torch.testing.assert_close(locations[positive], original["locations"][n][positive], rtol=1e-5, atol=1e-5)
        assert not locations[row_labels == 0].any()


def test_target_transform_without_ground_truth_is_background(original):
    locations, labels = transform(original)(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    assert locations.shape == (inputs.ROWS, 4) and not locations.any() and not labels.any()


def test_target_transform_names_degenerate_box(original):
    boxes, labels = inputs.ground_truth()[0]
    boxes[3, 3] = boxes[3, 1]
    with pytest.raises(GroundTruthError, match=r"SSDTargetTransform: gt_boxes: ground truth 3 .*no height"):
        transform(original)(boxes, labels)
    with pytest.raises(ValueError, match=r"SSDTargetTransform: gt_labels: expected shape \[6\]"):
        transform(original)(inputs.ground_truth()[0][0], labels[:2])


def test_loss_and_gradients_equal_original(original):
    labels, locations = original["labels"], original["locations"]
    heads = [inputs.deltas(), inputs.logits()]
    assert_losses(
        original, heads, lambda loc, conf: MultiBoxLoss(3)(conf, loc, labels, locations), ("deltas", "logits")
    )


def test_loss_without_positives_is_zero(original):
    labels = torch.zeros(2, inputs.ROWS, dtype=torch.int64)
    locations = torch.full((2, inputs.ROWS, 4), torch.nan)  # as in the original without ground truth
    assert [float(x) for x in MultiBoxLoss(3)(inputs.logits(), inputs.deltas(), labels, locations)] == [0, 0]


def test_loss_rejects_shapes(original):
    with pytest.raises(ValueError, match=r"MultiBoxLoss: labels: expected shape \[2, 790\], got \[790\]"):
        MultiBoxLoss(3)(inputs.logits(), inputs.deltas(), original["labels"][0], original["locations"])
