"""The Python of README.md and docs/weights.md runs from top to bottom, given the files that it names."""

from __future__ import annotations

import re
import shutil
from typing import Any

import pytest
import torch

from helpers import goldens, weight_recipes
from helpers.paths import ROOT
from ssd_fast.assets import COCO_CLASSES, asset_path
from ssd_fast.models import load_network, ssd_tiny


def run(document: str, **names: Any) -> dict[str, Any]:
    """Run the document's blocks in one namespace, which begins with these names, and return it."""
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / document).read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) > 2
    for index, block in enumerate(blocks):
        downloads_nothing = block.replace('weights="DEFAULT"', "weights=None, weights_backbone=None")
        exec(compile(downloads_nothing, f"{document}, block {index}", "exec"), names)
    return names


def test_readme_runs(tmp_path, monkeypatch, capsys):
    pytest.importorskip("torchvision", reason="the README patches its SSD")
    monkeypatch.chdir(tmp_path)
    shutil.copy(asset_path("chelsea.jpg"), "photo.jpg")
    torch.manual_seed(0)
    training = {
        "network": ssd_tiny(3, (96, 96)),
        "images": torch.rand(2, 3, 96, 96),
        "gt_boxes": [torch.tensor([[8.0, 8.0, 40.0, 48.0]]), torch.zeros(0, 4)],
        "gt_labels": [torch.tensor([2]), torch.zeros(0, dtype=torch.int64)],
    }
    names = run("README.md", **training)
    assert capsys.readouterr().out.startswith("['cat']\n")
    assert names["boxes"].shape == (75, 4) and names["found"].boxes.shape == (2, 200, 4)
    assert all(parameter.grad is not None for parameter in names["network"].parameters())


def test_weights_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(load_network(asset_path("ssdlite300_mobilenet_v2_coco.safetensors"))[0].state_dict(), "my_copy.pth")
    tensors = goldens.load("weight_layouts", "mmdetection_ssd300_vgg16")["tensors"]
    torch.save(weight_recipes.fine_tuned(tensors, [0.0] * 5), "fine_tuned.pth")
    run("docs/weights.md")
    assert load_network("my_copy.safetensors")[1] == COCO_CLASSES
    network, _ = load_network("fine_tuned.safetensors")
    assert network.preset.name == "mmdet_ssd300_voc" and network.preset.postprocess.background == 0
