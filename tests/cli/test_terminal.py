"""No command lets a control character from a file, a file name or a class name reach the terminal."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import sys
import warnings
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from rich.progress import Progress, TextColumn
from rich.table import Table
from rich.text import Text

from helpers.cli_checks import FAILED, FINE, one_line, run
from helpers.dataset_files import folder_data, save_image, write_json
from ssd_fast._io.text import brief, listing, printable
from ssd_fast.assets import asset_path
from ssd_fast.cli._output import PrintableConsole
from ssd_fast.datasets import open_dataset
from ssd_fast.drawing import draw_detections
from ssd_fast.evaluation import evaluate_detections
from ssd_fast.ground_truth import GroundTruthError, GroundTruthWarning

RED = "\x1b[31m"
TURNED = "\u202e"  # the one hostile character here that class names may hold
HOSTILE = ["\x1b[31m", "\x07", "\x00", "\x7f", "\x9b31m", "\u202e", "\u2066", "\udc80", "\r", "\n", "\u2028"]
QUICK = ("--size", "48x64", "--epochs", "1", "--batch-size", "2", "--device", "cpu")


pytestmark = pytest.mark.usefixtures("one_thread")


def check_clean(result) -> None:
    """Check that both streams hold only printable characters and line breaks, and that the program did not crash."""
    assert isinstance(result.exception, (SystemExit, type(None))), result.exception
    for text in (result.stdout, result.stderr):
        assert text.replace("\n", "").isprintable(), repr(text)


@pytest.mark.parametrize("char", HOSTILE)
def test_printable_escapes_control_characters(char):
    assert printable(f"a{char}b") == f"a{repr(char)[1:-1]}b" and printable(f"a{char}b").isprintable()
    assert printable(r"C:\x1b 'ü' 猫") == r"C:\x1b 'ü' 猫"
    assert printable(printable(char)) == printable(char)


def test_brief_and_listing_shorten_long_values():
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    for value in (deep, "x" * 10**6, list(range(10**6)), 10**4000, {"a": RED * 999}):
        assert len(brief(value)) <= 60 and brief(value).isprintable()
    assert brief("cat") == "'cat'" and brief(RED) == r"'\x1b[31m'" and brief([1, 2.5]) == "[1, 2.5]"
    table = torch.zeros(40, 40)
    for longest in (60, 200):
        assert all(len(brief(value, longest)) <= longest for value in (deep, "x" * 10**6, table, 10**5000))
        assert brief(table, longest).isprintable()
    assert brief(tuple(range(16)), 200) == repr(tuple(range(16))) and brief(range(10**12)) == "range(0, 1000000000000)"
    assert listing(["a", RED], 2) == r"a, \x1b[31m" and listing("abcd", 2) == "a, b and 2 more"


@pytest.mark.parametrize("kind", [GroundTruthError, GroundTruthWarning])
def test_ground_truth_messages_are_one_printable_line(kind):
    error = kind(f"{RED}x\ny")
    assert str(error) == r"\x1b[31mx\ny" == str(pickle.loads(pickle.dumps(error)))
    assert len(str(kind("x" * 10**6))) <= 3000
    with pytest.warns(UserWarning) as caught:
        warnings.warn(f"{RED}x", GroundTruthWarning, stacklevel=1)
    assert str(caught[0].message) == r"\x1b[31mx"


@pytest.mark.parametrize("char", HOSTILE)
def test_console_escapes_text_and_keeps_own_codes(char):
    file = io.StringIO()
    console = PrintableConsole(file=file, force_terminal=True, color_system="standard", width=60)
    table = Table(title=f"t{char}t")
    table.add_column(f"h{char}h", style="red")
    table.add_row(f"c{char}c")
    console.print(table)
    with Progress(TextColumn("{task.description}", markup=False), console=console) as progress:
        progress.add_task(f"p{char}p")
    console.print(Text(f"x{char}x"))
    shown = file.getvalue()
    assert RED in shown, "the style of the column"
    assert not any(f"{letter}{char}{letter}" in shown for letter in "thcpx") or char == "\n"
    if char not in "\r\n\x07":  # Rich itself lays out or drops these
        assert f"x{repr(char)[1:-1]}x" in shown


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_console_escapes_characters_outside_encoding(encoding):
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    PrintableConsole(file=file).print("■ 猫 \udc80")
    file.flush()
    assert file.buffer.getvalue() == b"\\u25a0 \\u732b \\udc80\n"


def test_detect_prints_no_control_characters(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("d")  # a short path, since the table folds long ones
    folder = tmp_path / f"photos{RED}"
    folder.mkdir()
    for name in (f"cat{RED}.jpg", "line\nerror: fake.jpg", "\u202egpj.jpg"):
        shutil.copy(asset_path("chelsea.jpg"), folder / name)
    (folder / f"broken{RED}.png").write_text("no picture")
    result = run("detect", folder, tmp_path / f"gone{RED}.png", "--out", tmp_path / f"out{RED}")
    check_clean(result)
    assert result.exit_code == FAILED and r"cat\x1b[31m.jpg" in result.stdout and r"out\x1b[31m" in result.stdout
    assert r"line\nerror: fake.jpg" in result.stdout and r"\u202egpj.jpg" in result.stdout
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 2 and all(line.count(r"photos\x1b") + line.count(r"gone\x1b") == 1 for line in errors)
    as_json = run("detect", folder, "--json")
    check_clean(as_json)
    assert {Path(found["image"]).name for found in json.loads(as_json.stdout)} >= {f"cat{RED}.jpg"}


def test_train_and_eval_print_no_control_characters(tmp_path):
    pytest.importorskip("pycocotools", reason="pycocotools, which computes COCO AP, is not installed")
    label, name = f"cat{TURNED}", f"0{RED}\n.png"
    data = {"images": {name: [{"box": [1, 2, 20, 25], "label": label}, {"box": [5, 5, 5, 5], "label": label}]}}
    data["images"]["1.png"] = [{"box": [3, 3, 22, 20], "label": f"dog{TURNED}"}]
    path = write_json(tmp_path / f"data{RED}" / "annotations.json", data)
    save_image(path.parent / name)
    trained = tmp_path / f"run{RED}"
    result = run("train", path, "--eval-split", "all", "--out", trained, *QUICK)
    check_clean(result)
    one_line(result, "there is no split 'all'", r"data\x1b[31m")
    result = run("train", path, "--out", trained, *QUICK)
    check_clean(result)
    assert result.exit_code == FINE and r"run\x1b[31m" in result.stdout
    assert r"warning: " in result.stderr and r"cat\u202e" in result.stderr
    for options in ([], ["--plot", tmp_path / f"curves{RED}.png", "--detections", tmp_path / f"found{RED}.json"]):
        result = run("eval", path, "--weights", trained / "weights.safetensors", *options)
        check_clean(result)
        assert result.exit_code == FINE and r"cat\u" in result.stdout  # the column is narrow
    result = run("eval", path, "--weights", trained / "weights.safetensors", "--json")
    check_clean(result)
    assert json.loads(result.stdout)["per_class"][0]["name"] == label
    result = run("eval", path)
    check_clean(result)
    one_line(result, r"cat\u202e", "--ignore-missing")
    result = run("detect", path.parent / "1.png", "--weights", trained / "weights.safetensors", "--score", 0)
    check_clean(result)
    assert r"dog\u202e" in result.stdout


def test_doctor_prints_no_control_characters(monkeypatch):
    def broken(*_: object) -> None:
        raise RuntimeError(f"{RED}wiped")

    monkeypatch.setattr("ssd_fast.ops.nms", broken)
    monkeypatch.setattr(sys.modules["ssd_fast.cli.doctor"], "_version", lambda _: f"1.0{RED}")
    for options in ([], ["--json"]):
        result = run("doctor", *options)
        check_clean(result)
        assert result.exit_code == FAILED and "wiped" in result.stdout and "1.0" in result.stdout


def test_demo_prints_no_control_characters(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["ssd_fast.cli.demo.command"], "_rows", lambda *_: ([], f"omitted{RED}"))
    result = run("demo", "--out", tmp_path / f"demo{RED}")
    check_clean(result)
    assert result.exit_code == FINE and r"demo\x1b[31m" in result.stdout and r"omitted\x1b[31m" in result.stdout
    (tmp_path / "file").write_text("")
    result = run("demo", "--out", tmp_path / "file" / f"demo{RED}")
    check_clean(result)
    one_line(result, r"demo\x1b[31m")


def test_library_warnings_are_one_line(tmp_path, monkeypatch):
    path = save_image(tmp_path / "x.png", (30, 40))
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 1000)
    result = run("detect", path)
    check_clean(result)
    (line,) = result.stderr.splitlines()
    assert line.startswith("warning: Image size (1200 pixels) exceeds limit")


@pytest.mark.parametrize("char", HOSTILE)
def test_pictures_escape_control_characters_in_names(char):
    found = {"boxes": [[10, 20, 300, 200]], "scores": [0.5], "labels": [0]}
    image = np.zeros((240, 320, 3), np.uint8)
    pictures = [draw_detections(image, found, [name]) for name in (f"a{char}b", f"a{repr(char)[1:-1]}b")]
    assert pictures[0].tobytes() == pictures[1].tobytes()


def test_evaluation_tables_and_curves_escape_control_characters(tmp_path):
    pytest.importorskip("pycocotools", reason="pycocotools, which computes COCO AP, is not installed")
    data = folder_data()
    data["classes"] = [f"zebra{TURNED}", TURNED + "x" * 9999]
    for boxes in data["images"].values():
        boxes[0]["label"] = data["classes"][1]
    dataset = open_dataset(write_json(tmp_path / "annotations.json", data))
    found = [{"boxes": s.boxes, "scores": np.ones(len(s.boxes)), "labels": s.labels} for s in dataset.samples]
    evaluation = evaluate_detections(found, dataset)
    for table in (evaluation.table(), evaluation.summary()):
        file = io.StringIO()
        PrintableConsole(file=file, width=100).print(table)
        assert len(file.getvalue()) < 5000
    cells = [str(cell) for cell in evaluation.table().columns[0].cells] + [str(evaluation.table().caption)]
    assert all(cell.replace("\n", "").isprintable() for cell in cells)
    pytest.importorskip("matplotlib", reason="matplotlib, which draws the curves, is not installed")
    evaluation.plot(tmp_path / "curves.png")
    with PIL.Image.open(tmp_path / "curves.png") as picture:
        assert picture.width > 1000
