"""Each option of each command with each odd value: it works, or one line says why not. It never gives a traceback."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
import typer

from helpers.cli_checks import FAILED, FINE, WRONG_USE, run
from ssd_fast.cli import app
from ssd_fast.models import save_weights, ssd_tiny

pytestmark = pytest.mark.usefixtures("one_thread")

ODD_TEXTS = (
    *("", " ", "nan", "inf", "-inf", "1e400", "-1", "0", "0.5", "1e-60", "9" * 30, "9" * 5000, "1_0", "٣", "0x10"),
    *("None", "cpu:99", "cuda:99999999999999999999", "cuda:-1", "meta", "mps", "3x3", "0x0", "99999x99999", "x"),
    *("é☃", "\ud800", "--", "a/b/c", "..", "gone.safetensors", "gone.pth", "[red]x[/]", "%s{0}", "coco"),
)


def options_of(command: Any) -> list[str]:
    """Return the long names of the options that take a value."""
    return [p.opts[-1] for p in command.params if p.param_type_name == "option" and not p.is_flag]


COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
OPTIONS = [(name, option) for name, command in COMMANDS.items() for option in options_of(command)]


@pytest.fixture(scope="module")
def given(tmp_path_factory) -> dict[str, list[Any]]:
    """The base arguments of each command, small enough to run quickly."""
    folder = tmp_path_factory.mktemp("given")
    photo = folder / "photo.png"
    PIL.Image.new("RGB", (32, 32)).save(photo)
    coco = {
        "images": [{"id": 1, "file_name": "photo.png", "width": 32, "height": 32}],
        "categories": [{"id": 1, "name": "class 1"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [4, 4, 16, 16], "area": 256, "iscrowd": 0}],
    }
    (folder / "coco.json").write_text(json.dumps(coco))
    weights = folder / "tiny.safetensors"
    save_weights(ssd_tiny(2, (32, 32)), weights)
    return {
        "detect": [photo, "--weights", weights, "--device", "cpu", "--score", "1"],
        "demo": ["--device", "cpu", "--out", folder / "demo"],
        "doctor": [],
        "eval": [folder / "coco.json", "--weights", weights, "--device", "cpu"],
        "train": [folder / "coco.json", "--out", folder / "run", "--device", "cpu", "--size", "32x32"],
    }


@pytest.fixture
def quick(monkeypatch) -> None:
    """Skip the slow work of each command, but run everything before it."""

    def train(*_: Any, **__: Any) -> Path:
        raise ValueError("reached the training")

    monkeypatch.setattr("ssd_fast.training.train", train)
    demo = sys.modules["ssd_fast.cli.demo.command"]  # the name in the package is the command's
    monkeypatch.setattr(demo, "_pictures", lambda *_: [])
    monkeypatch.setattr(demo, "_rows", lambda *_: ([], "omitted"))


def test_every_command_has_options_to_try():
    assert {name for name, _ in OPTIONS} == {"detect", "demo", "eval", "train"}
    assert {("train", "--lr"), ("detect", "--score"), ("detect", "--tile"), ("eval", "--batch-size")} <= set(OPTIONS)


@pytest.mark.parametrize("command, option", OPTIONS)
def test_each_option_takes_or_refuses_odd_values(given, quick, tmp_path, monkeypatch, command, option):
    folder = tmp_path / "folder"  # so that what is written into .. stays here too
    folder.mkdir()
    monkeypatch.chdir(folder)
    if command == "demo":
        monkeypatch.setattr("ssd_fast.detector.load_detector", lambda **_: None)
    statuses = set()
    for text in ODD_TEXTS:
        result = run(command, *given[command], option, text)
        where = f"{command} {option} {text[:40]!r}: {result.output}"
        assert result.exception is None or isinstance(result.exception, SystemExit), f"{where}{result.exception!r}"
        assert result.exit_code in (FINE, FAILED, WRONG_USE) and "Traceback" not in result.output, where
        errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
        assert len(errors) == (result.exit_code == FAILED), where
        assert result.exit_code != WRONG_USE or "Usage" in result.stderr, where
        statuses.add(result.exit_code)
    assert statuses - {FINE}, "no value was refused"


def test_detect_refuses_score_that_is_not_a_number(given):
    result = run("detect", *given["detect"], "--score", "nan")
    assert result.exit_code == WRONG_USE and "--score" in result.stderr
