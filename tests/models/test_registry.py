"""An own network: registered by its function's name, trained, saved, and read back by that name."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from helpers.training_cases import CLASSES, SIZE, make_dataset
from ssd_fast import BoxCoderSpec, DefaultBoxSpec, LossSpec, MatcherSpec, PostprocessSpec, Preset, load_detector, models
from ssd_fast.models import registry
from ssd_fast.training import TrainingConfig, start_network, train

pytestmark = pytest.mark.usefixtures("one_thread")

LEVELS = ((12, 16), (6, 8))  # cells of two maps on images of 48 x 64


class TwoMaps(models.SSDNetwork):
    name = "two_maps"
    class_head_prefix = "classifiers."
    preprocessing = models.Preprocessing(SIZE, (0.5,) * 3, (0.5,) * 3, 1.0, "half_pixel")

    def __init__(self, num_classes: int, width: int) -> None:
        boxes = DefaultBoxSpec(SIZE, LEVELS, (((16, 16),), ((24, 24), (40, 40))))
        specs = BoxCoderSpec(), MatcherSpec(), LossSpec(), PostprocessSpec()
        super().__init__(num_classes, Preset("two_maps", boxes, *specs))
        self.width = width
        self.stages = nn.ModuleList([nn.Conv2d(3, width, 4, stride=4), nn.Conv2d(width, width, 2, stride=2)])
        self.regressors = nn.ModuleList(nn.Conv2d(width, count * 4, 3, padding=1) for count in (1, 2))
        self.classifiers = nn.ModuleList(nn.Conv2d(width, count * num_classes, 3, padding=1) for count in (1, 2))

    @property
    def arguments(self) -> dict[str, Any]:
        return {"width": self.width}

    @classmethod
    def fitted_arguments(cls, dataset: Any, size: tuple[int, int] | None) -> dict[str, Any]:
        return {"width": 4 * len(dataset.classes)}

    def head_maps(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        boxes, classes = [], []
        for stage, regress, classify in zip(self.stages, self.regressors, self.classifiers, strict=True):
            images = stage(images).relu()
            boxes.append(regress(images))
            classes.append(classify(images))
        return boxes, classes


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    monkeypatch.setattr(registry, "_NETWORKS", dict(registry._NETWORKS))


@pytest.fixture
def two_maps():
    @models.register_network(TwoMaps)
    def two_maps(num_classes: int, width: int = 6) -> TwoMaps:
        return TwoMaps(num_classes, width)

    return two_maps


def test_registered_network_is_found_by_name(two_maps):
    assert "two_maps" in models.list_networks() and models.network_class("two_maps") is TwoMaps
    network = models.make_network("two_maps", 3, width=5)
    assert isinstance(network, TwoMaps) and network.arguments == {"width": 5}
    assert two_maps(3).arguments == {"width": 6}, "the decorator returns the function"
    bbox_regression, cls_logits = network(torch.zeros(2, 3, *SIZE))
    rows = network.preset.default_boxes.num_boxes
    assert bbox_regression.shape == (2, rows, 4) and cls_logits.shape == (2, rows, 3)


@pytest.mark.filterwarnings("error")
def test_registered_network_trains_saves_and_loads(two_maps, tmp_path):
    dataset = make_dataset(tmp_path / "photos", count=5)
    network = start_network(dataset, name="two_maps")
    assert network.arguments == {"width": 8}, "fitted to the dataset"
    config = TrainingConfig(epochs=1, batch_size=2, warmup_iterations=0)
    weights = train(network, dataset, config, tmp_path / "run")
    logged = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in logged if line["event"] == "iteration"] == [1, 2]

    loaded, classes = models.load_network(weights)
    assert isinstance(loaded, TwoMaps) and loaded.arguments == {"width": 8} and classes == ("background", *CLASSES)
    assert loaded.preset.default_boxes == network.preset.default_boxes
    detector = load_detector(weights, device="cpu")
    assert isinstance(detector.network, TwoMaps) and detector.classes == classes
    assert len(detector([dataset[0][0]]).counts) == 1


def test_weights_of_registered_network_start_training_for_other_classes(two_maps, tmp_path):
    models.save_weights(two_maps(7), tmp_path / "seven.safetensors")
    network = start_network(make_dataset(tmp_path / "photos"), weights=tmp_path / "seven.safetensors")
    source, _ = models.load_network(tmp_path / "seven.safetensors")
    assert network.num_classes == 3 and torch.equal(network.stages[0].weight, source.stages[0].weight)
    for head in network.classifiers:
        assert head.bias[::3].eq(3.0).all() and head.weight.abs().max() < 0.1, "new class heads begin with background"


def test_file_of_unregistered_network_is_refused(two_maps, monkeypatch, tmp_path):
    models.save_weights(two_maps(3), tmp_path / "own.safetensors")
    monkeypatch.delitem(registry._NETWORKS, "two_maps")
    expected = r"own\.safetensors holds a network that this version cannot make: .*'two_maps'.*import the module that"
    with pytest.raises(ValueError, match=expected):
        models.load_network(tmp_path / "own.safetensors")


def test_function_must_have_name_of_network():
    def three_maps(num_classes: int) -> TwoMaps:
        raise NotImplementedError

    expected = "expected a function named two_maps, the class's name, got three_maps"
    with pytest.raises(ValueError, match=f"^register_network: {expected}$"):
        models.register_network(TwoMaps)(three_maps)
    assert "three_maps" not in models.list_networks()


def test_function_must_return_network_of_its_class(two_maps, monkeypatch):
    monkeypatch.setitem(registry._NETWORKS, "two_maps", (TwoMaps, lambda num_classes: models.ssd_tiny(num_classes)))
    expected = "make_network: two_maps: expected the registered function to return a TwoMaps, got SSDTiny"
    with pytest.raises(TypeError, match=f"^{expected}$"):
        models.make_network("two_maps", 3)


def test_taken_network_name_is_refused():
    class Tiny(models.SSDTiny):
        name = "ssd_tiny"

    def ssd_tiny(num_classes: int) -> Tiny:
        raise NotImplementedError

    with pytest.raises(ValueError, match=r"^register_network: expected a name that is not taken, got ssd_tiny$"):
        models.register_network(Tiny)(ssd_tiny)
    assert models.network_class("ssd_tiny") is models.SSDTiny


def test_class_of_other_module_does_not_replace_network():
    stranger = type("SSDTiny", (models.SSDTiny,), {"__module__": "elsewhere"})

    def ssd_tiny(num_classes: int) -> models.SSDTiny:
        raise NotImplementedError

    with pytest.raises(ValueError, match="expected a name that is not taken, got ssd_tiny"):
        models.register_network(stranger)(ssd_tiny)


@pytest.mark.parametrize("kind", [3, nn.Linear, models.SSDNetwork, lambda num_classes: None])
def test_register_network_refuses_what_is_not_named_network(kind):
    with pytest.raises(
        TypeError, match=r"^register_network: kind: expected a subclass of SSDNetwork with a name, as in "
    ):
        models.register_network(kind)


def test_class_head_prefix_must_match_parameters(two_maps, monkeypatch, tmp_path):
    models.save_weights(two_maps(3), tmp_path / "own.safetensors")
    monkeypatch.setattr(TwoMaps, "class_head_prefix", "nothing.")
    with pytest.raises(ValueError, match=r"^TwoMaps: class_head_prefix: expected the prefix of some parameters, got "):
        start_network(make_dataset(tmp_path), weights=tmp_path / "own.safetensors")
