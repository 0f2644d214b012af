"""The metadata of weight files: classes, network and preset."""

import dataclasses
import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import ssd_fast
from ssd_fast.detector import Detector
from ssd_fast.models import list_networks, load_network, make_network, save_weights, ssdlite300_mobilenet_v2
from ssd_fast.presets import Preset


@pytest.mark.parametrize("name", ssd_fast.list_presets())
def test_preset_survives_json(name):
    preset = ssd_fast.preset(name)
    assert Preset.from_dict(json.loads(json.dumps(preset.to_dict(), allow_nan=False))) == preset


def test_preset_without_loss_survives_json():
    preset = dataclasses.replace(ssd_fast.preset("torchvision_ssd300_vgg16"), loss=None)
    assert Preset.from_dict(preset.to_dict()) == preset


def test_damaged_preset_is_refused():
    fields = ssd_fast.preset("torchvision_ssd300_vgg16").to_dict()
    with pytest.raises(
        ValueError, match=r"Preset: fields: expected name, default_boxes, .*, got a dict without 'matcher'"
    ):
        Preset.from_dict({key: value for key, value in fields.items() if key != "matcher"})
    with pytest.raises(ValueError, match=r"BoxCoderSpec.*surplus"):
        Preset.from_dict({**fields, "coder": {**fields["coder"], "surplus": 1}})
    with pytest.raises(ValueError, match="MatcherSpec: positive_threshold"):
        Preset.from_dict({**fields, "matcher": {**fields["matcher"], "positive_threshold": 7.0}})
    with pytest.raises(ValueError, match="LossSpec: expected its fields by name"):
        Preset.from_dict({**fields, "loss": [1]})


def test_load_network_restores_preset_of_file(tmp_path):
    network = ssdlite300_mobilenet_v2(3)
    spec = dataclasses.replace(network.preset.postprocess, activation="softmax", score_threshold=0.01)
    network.preset = dataclasses.replace(network.preset, name="mine", postprocess=spec)
    save_weights(network, tmp_path / "mine.safetensors", classes=("background", "cup", "spoon"))
    restored, _ = load_network(tmp_path / "mine.safetensors")
    assert restored.preset == network.preset
    assert Detector(restored).preset.postprocess.activation == "softmax"


def test_metadata_alone_names_network_of_file(tmp_path):
    """A file whose tensors look like one network but that names another is refused, not guessed at."""
    save_weights(ssdlite300_mobilenet_v2(3), tmp_path / "mine.safetensors")
    with safe_open(tmp_path / "mine.safetensors", framework="pt") as file:
        metadata = file.metadata()
    assert json.loads(metadata["network"]) == {"name": "ssdlite300_mobilenet_v2", "num_classes": 3}
    tensors = load_file(tmp_path / "mine.safetensors")
    for network, message in (
        ({"name": "ssd300_vgg16", "num_classes": 3}, "does not fit SSD300VGG16"),
        ({"name": "ssd9000", "num_classes": 3}, "ssd9000"),
        ({"name": "ssd300_vgg16"}, "cannot make"),
        ({"name": "ssd300_vgg16", "num_classes": 3, "depth": 9}, "depth"),
        ([1], "cannot make"),
    ):
        save_file(tensors, tmp_path / "other.safetensors", metadata={"network": json.dumps(network)})
        with pytest.raises(ValueError, match=message):
            load_network(tmp_path / "other.safetensors")
    del metadata["ssd_fast_sha256"]
    save_file(tensors, tmp_path / "other.safetensors", metadata={**metadata, "preset": "{"})
    with pytest.raises(ValueError, match="damaged metadata"):
        load_network(tmp_path / "other.safetensors")


def test_make_network_takes_known_names_only():
    for name in list_networks():
        assert make_network(name, 3).name == name
    with pytest.raises(ValueError, match=r"expected one of .*ssd300_vgg16.*got 'ssd9000'"):
        make_network("ssd9000", 3)
    with torch.device("meta"), pytest.raises(ValueError, match="depth"):
        make_network("ssd300_vgg16", 3, depth=19)


def test_wrapped_network_is_saved_unwrapped(tmp_path):
    network = ssdlite300_mobilenet_v2(3)
    save_weights(torch.nn.DataParallel(network), tmp_path / "wrapped.safetensors")
    restored, _ = load_network(tmp_path / "wrapped.safetensors")
    assert torch.equal(restored.stem.weight, network.stem.weight) and restored.preset == network.preset
