"""The Python of README.md and docs/ runs from top to bottom, given the files that it speaks of."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from helpers import goldens, weight_recipes
from helpers.paths import ROOT
from helpers.snippets import PAGES, Snippet, check_names, run, snippets
from ssd_fast.assets import COCO_CLASSES, asset_path
from ssd_fast.models import load_network

OTHERS = tuple(page for page in PAGES if page not in ("README.md", "docs/weights.md") and snippets(page, "python"))


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with the photos and annotations that the pages speak of."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    Path("photos").mkdir()
    for name in ("photo.jpg", "a.jpg", "b.jpg", "photos/a.jpg", "photos/b.jpg"):
        shutil.copy(asset_path("chelsea.jpg"), name)
    images = {"a.jpg": [{"box": [12, 30, 95, 180], "label": "cat"}], "b.jpg": []}
    annotations = {"images": images, "splits": {"train": ["a.jpg", "b.jpg"]}}
    Path("photos/annotations.json").write_text(json.dumps(annotations))
    Path("boxes.csv").write_text("image,x1,y1,x2,y2,class\na.jpg,10,20,200,180,cat\nb.jpg,30,30,90,120,dog\n")
    return tmp_path


def test_readme_runs(files, capsys):
    pytest.importorskip("torchvision", reason="the README patches its SSD")
    run("README.md")
    assert capsys.readouterr().out.startswith("['cat']\n")


def test_weights_page_runs(files):
    torch.save(load_network(asset_path("ssdlite300_mobilenet_v2_coco.safetensors"))[0].state_dict(), "my_copy.pth")
    tensors = goldens.load("weight_layouts", "mmdetection_ssd300_vgg16")["tensors"]
    torch.save(weight_recipes.fine_tuned(tensors, [0.0] * 5), "fine_tuned.pth")
    run("docs/weights.md")
    assert load_network("my_copy.safetensors")[1] == COCO_CLASSES
    network, _ = load_network("fine_tuned.safetensors")
    assert network.preset.name == "mmdet_ssd300_voc" and network.preset.postprocess.background == 0


@pytest.mark.filterwarnings("ignore::UserWarning")  # of torch.utils.data, and of photos that are small for training
@pytest.mark.parametrize("page", OTHERS)
def test_page(page, files, monkeypatch):
    detection = pytest.importorskip("torchvision", reason="pages patch its SSDs, and training uses it").models.detection
    # Made in a tenth of the time; test_readme_runs patches the other.
    monkeypatch.setattr(detection, "ssd300_vgg16", detection.ssdlite320_mobilenet_v3_large)
    if "ssd_fast.evaluation" in (ROOT / page).read_text():
        pytest.importorskip("pycocotools", reason="the page evaluates")
    run(page)


@pytest.mark.parametrize(
    ("comment", "code", "fault"),
    [
        ("<!-- slow -->", "pass", "slow"),
        ("<!-- not run: needs a GPU -->", "ssd_fast.nmz", "nmz"),
        ("<!-- not run: needs a GPU -->", "print(model)", "model"),
        ("<!-- not run: needs a GPU -->", "from ssd_fast.models import ssd_huge", "ssd_huge"),
    ],
)
def test_faults_of_snippets_that_are_not_run_are_found(comment, code, fault):
    with pytest.raises(AssertionError, match=fault):
        check_names(Snippet("page.md", 1, "python", code, comment), {"ssd_fast"})


def test_what_a_snippet_is_given_exists():
    comment = "<!-- not run: needs a GPU; given: model, photos -->"
    check_names(Snippet("page.md", 1, "python", "print(model, [photo for photo in photos])", comment), set())
