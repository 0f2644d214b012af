"""`ssd-fast eval`: its output, its files and its exit status."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from helpers import cli_checks
from helpers.checks import one_thread
from helpers.cli_checks import FAILED, FINE, WRONG_USE, run
from ssd_fast.assets import asset_path

pytest.importorskip("pycocotools", reason="pycocotools, which computes COCO AP, is not installed")


# The shipped photos: their sizes (w, h), and the class that the shipped detector finds first.
PHOTOS = {"chelsea.jpg": (451, 300), "coffee.jpg": (600, 400), "astronaut.jpg": (512, 512)}
OBJECTS = {"chelsea.jpg": "cat", "coffee.jpg": "cup", "astronaut.jpg": "person"}


pytestmark = pytest.mark.usefixtures("one_thread")


def one_line(result, *parts: object) -> None:
    """Check that the command failed, said why in one line, and printed nothing else."""
    cli_checks.one_line(result, *parts)
    assert result.stdout == "", result.output


@pytest.fixture(scope="module")
def boxes() -> dict[str, list[float]]:
    """The box that the shipped detector finds for the object in each photo."""
    from ssd_fast import load_detector

    with one_thread():
        found = load_detector(device="cpu")([asset_path(name) for name in PHOTOS], 0.5).to_list()
    return {name: image["boxes"][0].tolist() for name, image in zip(PHOTOS, found, strict=True)}


@pytest.fixture
def photos(tmp_path, boxes) -> Path:
    """A dataset in COCO's format: three photos with one object each."""
    for name in PHOTOS:
        shutil.copy(asset_path(name), tmp_path / name)
    write(tmp_path, boxes)
    return tmp_path / "instances_test.json"


def write(folder: Path, boxes: dict[str, list[float]], **renamed: str) -> None:
    """Write the JSON with class names replaced, and with a class "zebra" that has no objects."""
    names = ["zebra", *(renamed.get(name, name) for name in OBJECTS.values())]
    content: dict[str, Any] = {"images": [], "annotations": [], "categories": []}
    content["categories"] = [{"id": 7 * i, "name": name} for i, name in enumerate(names)]
    for i, (name, (width, height)) in enumerate(PHOTOS.items()):
        content["images"].append({"id": 100 + i, "file_name": name, "width": width, "height": height})
        x1, y1, x2, y2 = boxes[name]
        box = [x1, y1, x2 - x1, y2 - y1]
        content["annotations"].append({"id": i, "image_id": 100 + i, "category_id": 7 * (i + 1), "bbox": box})
    (folder / "instances_test.json").write_text(json.dumps(content))


def test_eval_json_is_one_object_and_nothing_else(photos, tmp_path):
    plot, found = tmp_path / "new" / "pr.png", tmp_path / "found.json"
    result = run("eval", photos, "--json", "--batch-size", 2, "--plot", plot, "--detections", found, "--device", "cpu")
    assert result.exit_code == FINE, result.output
    report = json.loads(result.stdout)
    assert (report["ap50"], report["voc07"], report["voc12"]) == pytest.approx((1, 1, 1))
    assert report["ap"] > 0.9 and report["ap_small"] is None and report["images"] == report["ground_truths"] == 3
    assert [entry["name"] for entry in report["per_class"]] == ["zebra", "cat", "cup", "person"]
    assert report["absent_classes"] == ["zebra"] and report["per_class"][0]["ap"] is None
    assert report["images_per_second"] > 0 and report["problems"] == [] and report["device"] == "cpu"
    assert (report["dataset"], report["weights"], report["split"]) == (str(photos), None, None)
    assert (report["plot_file"], report["detections_file"]) == (str(plot), str(found))
    with PIL.Image.open(plot) as picture:
        assert min(picture.size) > 300
    results = json.loads(found.read_text())
    assert len(results) == report["detections"] == sum(entry["detections"] for entry in report["per_class"])
    best = max((entry for entry in results if entry["image_id"] == 1), key=lambda entry: entry["score"])
    assert (best["file_name"], best["category"], best["category_id"]) == ("chelsea.jpg", "cat", 2)
    assert best["bbox"] == pytest.approx([1, 2, 406, 296], abs=3)
    assert "evaluating" in result.stderr and "3/3" in result.stderr


def test_eval_prints_tables(photos):
    result = run("eval", photos, "--split", "test", "--weights", asset_path("ssdlite300_mobilenet_v2_coco.safetensors"))
    assert result.exit_code == FINE, result.output
    assert all(name in result.stdout for name in ("zebra", "cat", "cup", "person", "mean of 3", "VOC07", "images/s"))
    assert "AP, IoU 0.50:0.95" in result.stdout and "1.000" in result.stdout
    assert "without ground truths, so not in the means: zebra" in result.stdout


def test_eval_names_classes_unknown_to_detector(photos, boxes):
    write(photos.parent, boxes, cat="pussycat")
    one_line(run("eval", photos), "'pussycat'", "--ignore-missing")
    result = run("eval", photos, "--ignore-missing", "--json")
    assert result.exit_code == FINE, result.output
    assert json.loads(result.stdout)["missing_classes"] == ["pussycat"] and json.loads(result.stdout)["images"] == 3


def test_eval_shows_annotation_problems(photos, boxes):
    write(photos.parent, boxes | {"coffee.jpg": [50, 50, 50, 80]})
    result = run("eval", photos, "--json")
    assert result.exit_code == FINE, result.output
    (problem,) = json.loads(result.stdout)["problems"]
    assert "annotations[1]" in problem and "warning: " in result.stderr and "annotations[1]" in result.stderr


def test_eval_failures_are_one_line(photos, tmp_path):
    one_line(run("eval", tmp_path / "gone"), tmp_path / "gone")
    one_line(run("eval", photos, "--split", "moon"), "moon", "test")
    one_line(run("eval", photos, "--weights", tmp_path / "gone.safetensors"), "no such file", "gone.safetensors")
    one_line(run("eval", photos, "--images", tmp_path / "elsewhere"), "elsewhere")
    one_line(run("eval", photos, "--format", "voc"), "VOC")
    one_line(run("eval", photos, "--plot", photos / "pr.png"), photos)
    with PIL.Image.open(tmp_path / "coffee.jpg") as photo:
        photo.crop((0, 0, 600, 200)).resize((600, 400)).save(tmp_path / "coffee.jpg")
    data = (tmp_path / "coffee.jpg").read_bytes()
    (tmp_path / "coffee.jpg").write_bytes(data[: len(data) // 2])
    one_line(run("eval", photos), "coffee.jpg")


def test_eval_refuses_dataset_without_ground_truths(photos):
    content = json.loads(photos.read_text())
    photos.write_text(json.dumps(content | {"annotations": []}))
    one_line(run("eval", photos), "got 3 images without any")


@pytest.mark.parametrize(
    "arguments",
    [
        ["eval"],
        ["eval", "data", "--batch-size", "0"],
        ["eval", "data", "--format", "yolo"],
        ["eval", "data", "--plot", "curves.gif"],
        ["eval", "data", "--detections", "found.csv"],
        ["eval", "data", "--device", "quantum"],
        ["eval", "data", "--no-such-option"],
    ],
)
def test_wrong_use_prints_usage_error(arguments):
    result = run(*arguments)
    assert result.exit_code == WRONG_USE
    assert result.stdout == "" and "Error" in result.stderr


@pytest.mark.parametrize(
    ("module", "extra", "options"), [("pycocotools", "train", []), ("matplotlib", "bench", ["--plot", "pr.png"])]
)
def test_missing_package_is_one_line(photos, module, extra, options):
    script = f"import sys; sys.modules[{module!r}] = None; sys.argv[0] = 'ssd-fast'; import ssd_fast.cli as c; c.main()"
    result = subprocess.run(
        [sys.executable, "-c", script, "eval", photos, *options],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == FAILED and result.stdout == ""
    assert result.stderr.count("\n") == 1 and f"pip install ssd_fast[{extra}]" in result.stderr


def test_help_names_options_of_eval():
    assert "eval" in run("--help").stdout
    shown = run("eval", "--help").stdout
    assert all(option in shown for option in ("--weights", "--split", "--plot", "--detections", "--ignore-missing"))
