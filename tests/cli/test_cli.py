"""The command line: its output, its files and its exit status."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from safetensors.torch import save_file

import ssd_fast
from helpers.cli_checks import FAILED, FINE, WRONG_USE, one_line, run
from ssd_fast.assets import asset_path
from ssd_fast.cli.demo import comparison

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}  # of subprocesses


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def photos(tmp_path) -> Path:
    """A folder with two photos and a text file."""
    folder = tmp_path / "photos"
    folder.mkdir()
    shutil.copy(asset_path("coffee.jpg"), folder / "b.JPG")
    shutil.copy(asset_path("chelsea.jpg"), folder / "a.jpg")
    (folder / "notes.txt").write_text("not a picture")
    return folder


def test_detect_json_is_one_array_and_nothing_else(photos):
    result = run("detect", "--json", photos, asset_path("astronaut.jpg"))
    assert result.exit_code == FINE
    images = json.loads(result.stdout)
    assert [Path(image["image"]).name for image in images] == ["a.jpg", "b.JPG", "astronaut.jpg"]
    assert [[found["label"] for found in image["detections"]] for image in images] == [
        ["cat"],
        ["cup", "dining table"],
        ["person"],
    ]
    cat = images[0]["detections"][0]
    assert set(cat) == {"label", "label_id", "score", "box"} and cat["label_id"] == 17
    assert 0.9 < cat["score"] <= 1 and cat["box"] == pytest.approx([1, 2, 407, 298], abs=3)
    assert "detecting" in result.stderr and "3/3" in result.stderr, "a folder shows progress, on stderr"


def test_detect_prints_tables_and_writes_pictures(photos, tmp_path):
    out = tmp_path / "new" / "out"
    shutil.copy(photos / "a.jpg", tmp_path / "a.jpg")
    result = run("detect", photos / "a.jpg", tmp_path / "a.jpg", photos / "b.JPG", "--out", out)
    assert result.exit_code == FINE and result.stderr == ""
    assert "cat" in result.stdout and "dining table" in result.stdout and "3 images written" in result.stdout
    names = sorted(path.name for path in out.iterdir())
    assert names == ["a_detections.png", "a_detections_2.png", "b_detections.png"]
    with PIL.Image.open(out / "b_detections.png") as picture, PIL.Image.open(photos / "b.JPG") as photo:
        assert picture.size == photo.size
        changed = np.asarray(picture.convert("L")).astype(int) - np.asarray(photo.convert("L"))
        assert (np.abs(changed) > 20).sum() > 2000


def test_detect_never_overwrites_an_image(photos):
    with PIL.Image.open(asset_path("coffee.jpg")) as photo:
        photo.save(photos / "a_detections.png")
    before = (photos / "a_detections.png").read_bytes()
    assert run("detect", photos, "--out", photos).exit_code == FINE
    assert (photos / "a_detections.png").read_bytes() == before
    assert {"a_detections_2.png", "a_detections_detections.png"} <= {path.name for path in photos.iterdir()}


def test_detect_obeys_score(photos):
    few, many = (json.loads(run("detect", "--json", photos / "b.JPG", "--score", s).stdout) for s in (0.9, 0.05))
    assert [found["label"] for found in few[0]["detections"]] == ["cup"]
    assert len(many[0]["detections"]) > 10
    result = run("detect", photos / "b.JPG", "--score", 1)
    assert result.exit_code == FINE and "nothing found" in result.stdout


def test_detect_finds_small_objects_in_tiles(tmp_path):
    picture = PIL.Image.new("RGB", (960, 640), (120, 130, 120))
    with PIL.Image.open(asset_path("chelsea.jpg")) as photo:
        picture.paste(photo.resize((150, 100)), (565, 350))
    picture.save(tmp_path / "large.png")
    whole, tiled, apart = (
        [
            (found["label"], found["box"])
            for found in json.loads(run("detect", "--json", tmp_path / "large.png", *options).stdout)[0]["detections"]
        ]
        for options in ([], ["--tile", 320, "--out", tmp_path], ["--tile", 320, "--overlap", 0])
    )
    assert "cat" not in dict(whole)
    assert dict(tiled)["cat"] == pytest.approx([565, 350, 700, 450], abs=25)
    assert apart != tiled, "without overlap, an edge cuts the cat"
    with PIL.Image.open(tmp_path / "large_detections.png") as drawn:
        assert drawn.size == (960, 640) and np.any(np.asarray(drawn) != np.asarray(picture))


def test_detect_says_that_overlap_needs_tiles():
    result = run("detect", "x.jpg", "--overlap", "0.2")
    assert "--overlap" in result.stderr and "give --tile too" in result.stderr


def test_detect_names_and_skips_unreadable_image(photos):
    photo = (photos / "a.jpg").read_bytes()
    (photos / "aa.jpg").write_bytes(photo[: len(photo) // 2])
    (photos / "ab.png").write_text("no picture")
    result = run("detect", "--json", photos)
    assert result.exit_code == FAILED
    assert [Path(image["image"]).name for image in json.loads(result.stdout)] == ["a.jpg", "b.JPG"]
    assert result.stderr.count("error: ") == 2
    assert str(photos / "aa.jpg") in result.stderr and str(photos / "ab.png") in result.stderr


def test_detect_names_missing_file_and_empty_folder(tmp_path):
    result = run("detect", "--json", tmp_path / "gone.jpg")
    one_line(result, tmp_path / "gone.jpg", "no such file")
    assert json.loads(result.stdout) == []
    result = run("detect", tmp_path)
    one_line(result, tmp_path, "no images")
    assert "detecting" not in result.stderr, "an empty bar"


def test_detect_names_weights_that_do_not_load(tmp_path):
    photo = asset_path("chelsea.jpg")
    one_line(run("detect", photo, "--weights", tmp_path / "gone.safetensors"), "no such file", "gone.safetensors")
    one_line(run("detect", photo, "--weights", "no_such_network"), "no_such_network")
    save_file({"conv.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    one_line(run("detect", photo, "--weights", tmp_path / "other.safetensors"), "no known network", "conv.weight")
    (tmp_path / "broken.pth").write_bytes(b"\x80\x02 nonsense")
    one_line(run("detect", photo, "--weights", tmp_path / "broken.pth"), "damaged")


def test_detect_loads_weights_from_file(tmp_path):
    shipped = asset_path("ssdlite300_mobilenet_v2_coco.safetensors")
    result = run("detect", "--json", asset_path("chelsea.jpg"), "--weights", shipped)
    assert json.loads(result.stdout)[0]["detections"][0]["label"] == "cat"


@pytest.mark.parametrize(
    "arguments",
    [
        ["detect"],
        ["detect", "x.jpg", "--score", "3"],
        ["detect", "x.jpg", "--score", "much"],
        ["detect", "x.jpg", "--device", "quantum"],
        ["detect", "x.jpg", "--device", "meta"],
        ["detect", "x.jpg", "--tile", "31"],
        ["detect", "x.jpg", "--tile", "320.5"],
        ["detect", "x.jpg", "--tile", "320", "--overlap", "1"],
        ["detect", "x.jpg", "--tile", "320", "--overlap", "nan"],
        ["detect", "x.jpg", "--overlap", "0.2"],
        ["detect", "x.jpg", "--no-such-option"],
        ["detect", "x.jpg", "--out", __file__],
        ["no-such-command"],
    ],
)
def test_wrong_use_prints_usage_error(arguments):
    result = run(*arguments)
    assert result.exit_code == WRONG_USE
    assert result.stdout == "" and "Error" in result.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("command", ["detect", "demo"])
def test_device_cuda_without_cuda_is_one_line(command):
    one_line(
        run(command, *(["x.jpg"] if command == "detect" else []), "--device", "cuda"),
        "CUDA is unavailable",
        "; use --device cpu",
    )


def test_version_and_help_are_printed():
    assert run("--version").stdout.strip() == f"ssd-fast {ssd_fast.__version__}"
    shown = run("--help").stdout
    assert all(command in shown for command in ("detect", "demo", "doctor"))


def test_doctor_json_reports_versions_devices_and_tests():
    result = run("doctor", "--json")
    assert result.exit_code == FINE
    report = json.loads(result.stdout)
    assert report["versions"]["torch"] and report["versions"]["python"].startswith("3.")
    assert report["cuda"]["status"].startswith(("available", "unavailable: "))
    assert report["cpu"]["threads"] >= 1 and set(report["extras"]) >= {"torchvision", "train", "bench", "numba"}
    assert [test["passed"] for test in report["tests"]] == [True] * len(report["tests"])
    assert report["tests"][0]["found"] == "kept [1, 2, 3]" and "cat" in report["tests"][1]["found"]


def test_doctor_fails_with_failing_kernel(monkeypatch):
    assert run("doctor").exit_code == FINE
    monkeypatch.setattr("ssd_fast.ops.nms", lambda *_: torch.tensor([0]))
    result = run("doctor")
    assert result.exit_code == FAILED
    assert "FAILED: kept [0]" in result.stdout and "passed: cat" in result.stdout


@pytest.fixture
def hurried(monkeypatch) -> None:
    """Limit each comparison to two runs, which are enough for a test."""
    monkeypatch.setattr(comparison, "_MOST_RUNS", 2)


def test_demo_writes_pictures_and_finds_identical_detections(tmp_path, hurried):
    result = run("demo", "--json", "--out", tmp_path / "demo")
    assert result.exit_code == FINE, result.output
    report = json.loads(result.stdout)
    names = ["coffee.png", "astronaut.png", "chelsea.png", "default_boxes.png", "stages.png"]
    assert [Path(picture["path"]).name for picture in report["pictures"]] == names
    for picture in report["pictures"]:
        with PIL.Image.open(picture["path"]) as image:
            assert min(image.size) >= 300 and len(image.convert("RGB").getcolors(1 << 24)) > 1000
    assert "cup" in report["pictures"][0]["shows"]
    counts = [int(stage.split()[0].replace(",", "")) for stage in report["pictures"][-1]["shows"].split(" > ")]
    assert counts[0] == 1917 * 90 and counts == sorted(counts, reverse=True) and counts[-1] == 2

    rows = report["rows"]
    assert [row["images"] for row in rows] == [1, 1, 8, 8, 1, 8] and report["omitted"] is None
    for row in rows:
        assert row["same"] == row["total"] >= 8, row
        assert row["ours_ms"] > 0 and row["ratio"] == pytest.approx(row["rival_ms"] / row["ours_ms"])
    assert rows[-1]["total"] > 150


def test_demo_fails_when_detections_differ(tmp_path, hurried, monkeypatch):
    monkeypatch.setattr(comparison, "_BOX_TOLERANCE", -1.0)
    result = run("demo", "--out", tmp_path)
    one_line(result, "detections are identical to the same steps in torch")
    assert "0/8" in result.stdout and "CUDA: " in result.stdout and "487 candidates" in result.stdout


def test_demo_works_without_torchvision(tmp_path):
    script = (
        "import sys; sys.modules['torchvision'] = None; sys.argv[0] = 'ssd-fast'; import ssd_fast.cli as c; c.main()"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, "demo", "--out", tmp_path],
        capture_output=True,
        text=True,
        check=False,
        env=ENVIRONMENT,
    )
    assert result.returncode == FINE, result.stderr
    assert "torchvision is not installed; pip install ssd_fast[torchvision]" in result.stdout
    assert (tmp_path / "stages.png").is_file()


def test_module_runs_as_process(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 broken")
    arguments = [
        sys.executable,
        "-m",
        "ssd_fast",
        "detect",
        "--json",
        asset_path("chelsea.jpg"),
        tmp_path / "broken.jpg",
    ]
    result = subprocess.run(arguments, capture_output=True, text=True, check=False, env=ENVIRONMENT)
    assert result.returncode == FAILED
    assert [found["label"] for found in json.loads(result.stdout)[0]["detections"]] == ["cat"]
    assert result.stderr.count("\n") == 1 and "broken.jpg" in result.stderr
