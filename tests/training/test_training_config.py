"""The start of a training: its numbers, its learning rates, its default boxes and its network."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from helpers import goldens, weight_recipes
from helpers.training_cases import make_dataset, make_sample
from ssd_fast import preset
from ssd_fast.assets import asset_path
from ssd_fast.datasets import DetectionDataset
from ssd_fast.models import load_network, save_weights, ssd_tiny, ssdlite300_mobilenet_v2
from ssd_fast.training import TrainingConfig, default_size, fit_sides, start_network, training_preset
from ssd_fast.training.state import learning_rate, parameter_groups

COCO = asset_path("ssdlite300_mobilenet_v2_coco.safetensors")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("photos"))


@pytest.mark.parametrize(
    "field, value, expected",
    [
        ("epochs", 0, "an int >= 1"),
        ("epochs", 1.5, "an int >= 1"),
        ("batch_size", True, "an int >= 1"),
        ("warmup_iterations", -1, "an int >= 0"),
        ("seed", -1, "an int >= 0"),
        ("seed", 2**63, r"an int >= 0 and below 2\*\*63"),
        ("learning_rate", 0.0, "> 0"),
        ("learning_rate", float("nan"), "> 0"),
        ("weight_decay", -0.1, "a finite number >= 0"),
        ("weight_decay", float("inf"), "a finite number >= 0"),
        ("box_weight", "1", "a finite number >= 0"),
        ("ema_decay", 1.0, r"a number in \[0, 1\)"),
        ("momentum", -0.1, r"a number in \[0, 1\)"),
        ("photometric", 1.1, r"a share in \[0, 1\]"),
        ("zoom_out", 0.9, "a factor >= 1"),
        ("crop", 1.5, r"a share in \(0, 1\]"),
        ("crop_share", 2, r"a share in \[0, 1\]"),
        ("gradient_clip", 0.0, "> 0 or None"),
        ("optimizer", "adam", "'adamw' or 'sgd'"),
        ("precision", "fp8", "'fp32' or 'bf16' or 'fp16'"),
        ("flip", "vertical", "'none' or 'horizontal' or 'both'"),
        ("loss", "l2", "'softmax' or 'focal'"),
    ],
)
def test_config_rejects_numbers(field, value, expected):
    with pytest.raises(ValueError, match=f"TrainingConfig: {field}: expected {expected}.*, got "):
        TrainingConfig(**{field: value})


def test_config_survives_to_dict():
    config = TrainingConfig(epochs=3, gradient_clip=10.0)
    assert TrainingConfig(**config.to_dict()) == config


def test_learning_rate_warms_up_and_falls():
    rates = [learning_rate(1.0, iteration, 100, 4) for iteration in range(101)]
    assert rates[:5] == sorted(rates[:5]) and rates[0] == pytest.approx(0.2) and max(rates) == rates[4] > 0.99
    assert rates[50] == pytest.approx(0.5) and 0 < rates[99] < 0.001 and rates[100] == pytest.approx(0)
    assert learning_rate(3.0, 0, 10, 0) == 3.0 and learning_rate(3.0, 50, 100, 4) == pytest.approx(1.5)


def test_weight_decay_spares_norms_and_biases():
    network = ssd_tiny(2, (16, 16))
    decayed, spared = parameter_groups(network, 0.1)
    assert decayed["weight_decay"] == 0.1 and spared["weight_decay"] == 0
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    assert all("norm" not in names[id(p)] and "bias" not in names[id(p)] for p in decayed["params"])
    assert all("norm" in names[id(p)] or "bias" in names[id(p)] for p in spared["params"])
    assert len(decayed["params"]) + len(spared["params"]) == len(names)


def test_heads_trained_with_softmax_are_read_with_softmax():
    before = preset("tf_ssdlite_mobilenet_v2")
    after = training_preset(before, "softmax")
    assert after.postprocess.activation == "softmax" and after.postprocess.background == 0
    assert after.loss is not None and after.loss.background == 0 and after.postprocess.score_threshold == 0.01
    assert (after.default_boxes, after.coder, after.matcher) == (before.default_boxes, before.coder, before.matcher)
    tiny = ssd_tiny(2).preset
    assert training_preset(tiny, "softmax") == tiny, "changed something"


def test_fit_sides_gives_ladder_around_ground_truths(tmp_path):
    sides = [[16, 16], [32, 8], [64, 64], [64, 64], [256, 256]]  # areas of squares of 16, 16, 64, 64, 256
    samples = [make_sample(tmp_path, f"{i}", [[0, 0, *side]], [1], (512, 512)) for i, side in enumerate(sides)]
    fitted = fit_sides(DetectionDataset(samples, ("a",)), (256, 256))
    assert [len(level) for level in fitted] == [3, 2, 2]
    ladder = [side for level in fitted for side in level]
    assert ladder[0] == pytest.approx(8, abs=0.1) and ladder[-1] == pytest.approx(128, rel=0.03)
    steps = np.array(ladder[1:]) / ladder[:-1]
    assert steps.min() == pytest.approx(steps.max(), rel=0.02)
    # An ignored giant changes nothing; photos of another shape are measured in pixels of the input.
    giant = dataclasses.replace(
        make_sample(tmp_path, "giant", [[0, 0, 512, 512]], [1], (512, 512)), ignored=np.array([True])
    )
    assert fit_sides(DetectionDataset([*samples, giant], ("a",)), (256, 256)) == fitted
    assert fit_sides(DetectionDataset(samples, ("a",)), (512, 128)) == fitted, "the areas are the same"


def test_one_size_of_object_gives_a_ladder(tmp_path):
    dataset = DetectionDataset([make_sample(tmp_path, "a", [[0, 0, 40, 40]], [1])], ("a",))
    ladder = [side for level in fit_sides(dataset, (96, 128)) for side in level]
    assert ladder[3] == 40 and ladder == sorted(set(ladder)) and ladder[0] > 25 and ladder[-1] < 60


def test_fit_sides_needs_a_ground_truth(tmp_path):
    dataset = DetectionDataset([make_sample(tmp_path, "a", [], [])], ("a",))
    with pytest.raises(ValueError, match="expected at least one ground truth that is not ignored, got 0"):
        fit_sides(dataset, (96, 128))


@pytest.mark.parametrize(
    "size, expected", [((480, 640), (240, 320)), ((300, 300), (272, 272)), ((100, 800), (96, 784))]
)
def test_default_size_keeps_shape_of_photos(tmp_path, size, expected):
    dataset = DetectionDataset([make_sample(tmp_path, "a", [], [], size)], ("a",))
    assert default_size(dataset) == expected


def test_start_is_reproducible_and_keeps_torch_random_state(dataset):
    state = torch.get_rng_state()
    first, again, other = (start_network(dataset, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.stem.conv.weight, again.stem.conv.weight)
    assert not torch.equal(first.stem.conv.weight, other.stem.conv.weight)
    assert first.num_classes == 3 and first.preprocessing.size == default_size(dataset)
    assert first.sides == fit_sides(dataset, default_size(dataset))


def test_start_from_own_weights_keeps_size_and_boxes(dataset, tmp_path):
    source = ssd_tiny(8, (64, 96), ((9.0,), (20.0,), (50.0,)))
    save_weights(source, tmp_path / "a.safetensors")
    network = start_network(dataset, weights=tmp_path / "a.safetensors")
    assert network.arguments == source.arguments and network.preset == source.preset and network.num_classes == 3
    assert torch.equal(network.box_heads[0].weight, source.box_heads[0].weight)
    with pytest.raises(ValueError, match=r"size: expected 64 x 96, the size of .*a\.safetensors, got 32 x 32"):
        start_network(dataset, weights=tmp_path / "a.safetensors", size=(32, 32))


def test_start_from_coco_leaves_out_class_heads(dataset):
    network, source = start_network(dataset, weights=COCO), load_network(COCO)[0]
    assert isinstance(network, type(ssdlite300_mobilenet_v2(3))) and network.num_classes == 3
    for name, value in network.state_dict().items():
        if not name.startswith("class_heads."):
            assert torch.equal(value, source.state_dict()[name]), name


def test_start_from_weights_of_other_project_needs_preset(dataset, tmp_path):
    tensors = goldens.load("weight_layouts", "mmdetection_ssd300_vgg16")["tensors"]
    torch.save(weight_recipes.fine_tuned(tensors, [0.0] * 5), tmp_path / "theirs.pth")
    with pytest.raises(ValueError, match=r'theirs\.pth: .*choose one, as in load_network\(path, preset="mmdet_ssd300'):
        start_network(dataset, weights=tmp_path / "theirs.pth")
    source, _ = load_network(tmp_path / "theirs.pth", preset="mmdet_ssd300_coco")
    save_weights(source, tmp_path / "ours.safetensors")
    network = start_network(dataset, weights=tmp_path / "ours.safetensors")
    assert network.preset == source.preset and network.preprocessing == source.preprocessing
    assert network.num_classes == 3 and network.preset.postprocess.background == 0
    assert torch.equal(network.backbone.scale_weight, source.backbone.scale_weight)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"name": "ssd"}, "name: expected one of .*ssd_tiny.*, got 'ssd'"),
        ({"name": "ssd_tiny", "weights": COCO}, "expected ssdlite300_mobilenet_v2, the network of .*, got 'ssd_tiny'"),
        (
            {"name": "ssdlite300_mobilenet_v2", "size": (240, 320)},
            r"expected 300 x 300, .* ssdlite300.*, got 240 x 320",
        ),
    ],
)
def test_start_network_rejects_options(dataset, options, message):
    with pytest.raises(ValueError, match=message):
        start_network(dataset, **options)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        start_network(dataset, weights="nowhere.safetensors")
