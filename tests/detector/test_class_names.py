"""A detector's class names when none are given: COCO's names if the file is known, else numbers."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest
import torch

from ssd_fast.assets import COCO_CLASSES, asset_path
from ssd_fast.detector import Detector, load_detector
from ssd_fast.models import load_network, save_weights, ssd300_vgg16, ssdlite300_mobilenet_v2
from ssd_fast.models.weights.recognition import _COCO_FILES


def test_columns_without_names_are_numbered(tmp_path):
    detector = load_detector(device="cpu")
    numbers = ("background", *(f"class {column}" for column in range(1, 91)))
    assert Detector(detector.network).classes == numbers  # the classes are COCO's, but the network does not say so
    save_weights(detector.network, tmp_path / "mine.safetensors")
    assert load_detector(tmp_path / "mine.safetensors", device="cpu").classes == numbers
    spec = detector.preset.postprocess
    for background, expected in ((-1, ["class 0", "class 1", "background"]), (None, ["class 0", "class 1", "class 2"])):
        network = ssdlite300_mobilenet_v2(3)
        preset = dataclasses.replace(detector.preset, postprocess=dataclasses.replace(spec, background=background))
        assert Detector(network, preset=preset).classes == tuple(expected)


def test_published_files_are_known_by_content(tmp_path, monkeypatch):
    renamed = tmp_path / "mine.safetensors"
    renamed.write_bytes(asset_path("ssdlite300_mobilenet_v2_coco.safetensors").read_bytes())
    assert load_detector(renamed, device="cpu").classes == COCO_CLASSES
    detection = pytest.importorskip("torchvision.models.detection", reason="torchvision publishes the files")
    published = (detection.SSD300_VGG16_Weights.COCO_V1, detection.SSDLite320_MobileNet_V3_Large_Weights.COCO_V1)
    for weights in published:
        file = weights.url.rsplit("/", 1)[1]  # ends with the digits that torch.hub compares with the sha256
        assert _COCO_FILES[file.removesuffix(".pth").rsplit("-", 1)[1]] == file
        names = [{"__background__": "background", "N/A": "n/a"}.get(name, name) for name in weights.meta["categories"]]
        assert tuple(names) == COCO_CLASSES
    torch.save(ssd300_vgg16(91).state_dict(), tmp_path / "vgg.pth")
    assert load_network(tmp_path / "vgg.pth")[1] is None
    digits = hashlib.sha256((tmp_path / "vgg.pth").read_bytes()).hexdigest()[:8]
    monkeypatch.setitem(_COCO_FILES, digits, "as if torchvision had published it")
    assert load_network(tmp_path / "vgg.pth")[1] == COCO_CLASSES
