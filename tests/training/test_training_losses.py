"""Training with each loss, ignored ground truths and precisions learns, and its preset tells how to read the heads."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

import ssd_fast
from helpers.training_cases import CLASSES, make_dataset, make_sample, small_config, train_small
from ssd_fast import load_detector
from ssd_fast.assets import asset_path
from ssd_fast.datasets import DetectionDataset
from ssd_fast.models import load_network, make_network
from ssd_fast.training import loop, start_network, train, training_preset

LONG = {"epochs": 40, "warmup_iterations": 5, "learning_rate": 3e-3, "ema_decay": 0.9}
LONG |= {"flip": "none", "photometric": 0.0, "zoom_out_share": 0.0, "crop_share": 0.0}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("photos"))


def events(folder, event):
    found = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line for line in found if line["event"] == event]


def assert_learned(weights, dataset, device="cpu"):
    """Check that the losses fell, and that the best detection of each class is at its rectangle."""
    losses = [sum(line["losses"].values()) for line in events(weights.parent, "epoch")]
    assert losses[-1] < 0.3 * losses[0], losses
    detector = load_detector(weights, device=device)
    (found,) = detector(dataset.samples[0].path).to_list()
    for label, box in zip(dataset.samples[0].labels, dataset.samples[0].boxes, strict=True):
        best = found["boxes"][found["labels"] == int(label)][:1]
        assert ssd_fast.box_iou(best.cpu(), torch.from_numpy(box[None])).item() > 0.5
    return detector


@pytest.mark.parametrize("loss", ["softmax", "focal"])
def test_training_learns_with_either_loss(dataset, tmp_path, loss):
    weights = train_small(dataset, tmp_path, small_config(loss=loss, **LONG))
    preset = assert_learned(weights, dataset).preset
    assert preset.loss.classification == loss
    assert preset.postprocess.activation == ("softmax" if loss == "softmax" else "sigmoid")
    assert preset.loss.background == preset.postprocess.background == 0


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_training_learns_on_gpu(cuda, dataset, tmp_path, precision):
    weights = train_small(dataset, tmp_path, small_config(precision=precision, **LONG), device=cuda)
    assert_learned(weights, dataset, cuda)


@pytest.mark.parametrize("name", ssd_fast.list_presets())
def test_every_preset_can_be_trained_with_either_loss(name):
    preset = ssd_fast.preset(name)
    for loss in ("softmax", "focal"):
        trained = training_preset(preset, loss)
        assert trained.default_boxes == preset.default_boxes and trained.loss.classification == loss
        assert ssd_fast.SSDCriterion.from_preset(trained).loss is trained.loss


@pytest.mark.parametrize("name", ["ssdlite300_mobilenet_v2", "ssd300_vgg16", "ssd512_vgg16", "ssd300_resnet50"])
def test_boxes_have_unit_of_default_boxes(name, tmp_path):
    """Some networks' default boxes are in shares of the image, some in pixels: the trainer's match is the same."""
    with torch.device("meta"):
        network = make_network(name, 3)
    spec = network.preset.default_boxes
    pixels = ssd_fast.default_boxes(dataclasses.replace(spec, normalized=False))
    height, width = network.preprocessing.size
    boxes = torch.tensor([[0.1, 0.2, 0.4, 0.7], [0.5, 0.5, 0.6, 0.6]]) * torch.tensor([width, height] * 2)
    unit = loop._unit_of_default_boxes(network)
    matched = ssd_fast.match([boxes * unit], ssd_fast.default_boxes(spec), network.preset.matcher)
    assert torch.equal(matched, ssd_fast.match([boxes], pixels, network.preset.matcher)) and (matched >= 0).sum() > 4


def test_ignored_ground_truths_are_not_learned(tmp_path):
    """Ignored blue rectangles are learned neither as objects nor as background."""
    (tmp_path / "photos").mkdir()
    samples = []
    for index in range(6):
        boxes = [[8, 10 + 6 * index, 32, 34 + 6 * index], [70, 20, 110, 60]]
        sample = make_sample(tmp_path / "photos", f"photo{index}", boxes, [1, 2])
        samples.append(dataclasses.replace(sample, ignored=np.array([False, True])))
    dataset = DetectionDataset(samples, CLASSES)
    weights = train_small(dataset, tmp_path / "run", small_config(**LONG))
    (found,) = load_detector(weights, device="cpu")(samples[0].path).to_list()
    best = found["scores"][found["labels"] == 1]
    blue = found["scores"][found["labels"] == 2]
    assert best[0] > 0.5 and (len(blue) == 0 or blue[0] < 0.2)


def test_coco_network_can_be_fine_tuned(dataset, tmp_path):
    network = start_network(dataset, weights=asset_path("ssdlite300_mobilenet_v2_coco.safetensors"))
    source, _ = load_network(asset_path("ssdlite300_mobilenet_v2_coco.safetensors"))
    assert torch.equal(network.stem.weight, source.stem.weight) and network.num_classes == 3
    assert network.class_heads[0].predict.bias.shape == (9,)
    weights = train(network, dataset, small_config(epochs=1, learning_rate=1e-4), tmp_path)
    first = events(tmp_path, "iteration")[0]["losses"]
    assert 0 < first["bbox_regression"] < 10, "boxes and default boxes have different units"
    assert first["classification"] < 6, "new class heads do not begin with background"
    loaded, classes = load_network(weights)
    assert loaded.preset.postprocess.activation == "softmax", "trained with a softmax, but not read with one"
    assert loaded.preset.coder.order == "yx" and classes == ("background", "red", "blue")
    detections = load_detector(weights, device="cpu")([dataset[0][0]])
    assert (detections.labels[detections.labels >= 0] >= 1).all()
