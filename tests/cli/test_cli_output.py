"""Output and input of the commands: odd terminals and pipes, impossible folders, files of the wrong kind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
import torch
import typer

from helpers.cli_checks import FAILED, FINE, WRONG_USE, one_line, run
from helpers.dataset_files import folder_data, write_json
from helpers.folder_checks import files_of_at_most
from ssd_fast import load_detector
from ssd_fast.assets import asset_path
from ssd_fast.cli import app
from ssd_fast.models import list_networks

pytestmark = pytest.mark.usefixtures("one_thread")

DETECT = ("detect", asset_path("chelsea.jpg"), "--device", "cpu")
COMMANDS = [("--help",), DETECT, (*DETECT, "--json")]  # Typer, Rich and plain text


def run_process(*arguments: object, columns: str = "80", **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ssd_fast", *map(str, arguments)],
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": columns},
        **({"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options),
    )


@pytest.mark.parametrize("columns", ["0", "1"])
def test_terminal_without_width_hides_nothing(columns):
    result = run_process(*DETECT, columns=columns)
    assert result.returncode == FINE and result.stderr == ""
    assert "cat" in result.stdout and "score" in result.stdout and "%" in result.stdout
    assert "--json" in run_process("detect", "--help", columns=columns).stdout
    result = run_process("detect", columns=columns)
    assert result.returncode == WRONG_USE and "Missing argument" in result.stderr


@pytest.mark.parametrize("arguments", COMMANDS, ids=range(len(COMMANDS)))
def test_full_output_device_is_one_line(arguments):
    with open("/dev/full", "w") as full:
        result = run_process(*arguments, stdout=full)
    assert result.returncode == FAILED
    assert result.stderr == "error: the output cannot be written: No space left on device\n"


def test_exit_status_is_failure_when_errors_cannot_be_written():
    with open("/dev/full", "w") as full:
        assert run_process(*DETECT, stdout=full, stderr=full).returncode == FAILED


@pytest.mark.parametrize("arguments", COMMANDS, ids=range(len(COMMANDS)))
def test_closed_pipe_ends_command_quietly(arguments):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        result = run_process(*arguments, stdout=writer)
    finally:
        os.close(writer)
    assert result.returncode == FAILED and result.stderr == ""


@pytest.mark.parametrize("photos", [1, 2])
def test_detect_makes_output_folder_before_detecting(photos, monkeypatch):
    monkeypatch.setattr("ssd_fast.images.as_image_tensor", lambda _: pytest.fail("detection began"))
    result = run("detect", *[DETECT[1]] * photos, "--out", "/proc/x", "--device", "cpu")
    one_line(result, "--out /proc/x: cannot create this folder: No such file or directory")
    assert "chelsea" not in result.stderr


def test_demo_and_eval_name_option_of_impossible_folder(tmp_path):
    one_line(run("demo", "--out", "/proc/x", "--device", "cpu"), "--out /proc/x: cannot create this folder")
    pytest.importorskip("pycocotools", reason="pycocotools, which computes COCO AP, is not installed")
    data = write_json(tmp_path / "annotations.json", folder_data())
    for option in ("--detections", "--plot"):
        pytest.importorskip("matplotlib", reason="matplotlib, which draws the curves, is not installed")
        name = "/proc/x/y.json" if option == "--detections" else "/proc/x/y.png"
        one_line(run("eval", data, option, name, "--device", "cpu"), f"{option} /proc/x: cannot create this folder")


def test_unwritable_picture_is_not_blamed_on_photo(tmp_path):
    with files_of_at_most(100):
        result = run(*DETECT, "--out", tmp_path)
    one_line(result, f"error: {tmp_path / 'chelsea_detections.png'}: cannot be written: File too large")


COMMANDS_WITH_OPTIONS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
ADDRESS = "https://example.org/a.jpg"
NOT_READ = "web addresses are not read: download the file first"


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("detect", ADDRESS), f"error: {ADDRESS}: {NOT_READ}"),
        ((*DETECT, "--weights", f"{ADDRESS}.pth"), f"error: load_detector: {ADDRESS}.pth: {NOT_READ}"),
        (("eval", ADDRESS), f"{ADDRESS} does not exist"),
        (("eval", DETECT[1]), "chelsea.jpg: expected a dataset, which is a folder or a JSON file, got an image"),
        ((*DETECT, "--weights", DETECT[1]), "chelsea.jpg is not a weight file: expected .safetensors, .pth or .pt"),
    ],
)
def test_files_of_wrong_kind_are_named(arguments, message):
    one_line(run(*arguments, *([] if "--device" in arguments else ["--device", "cpu"])), message)


def test_coco_names_shipped_weights():
    (image,) = json.loads(run(*DETECT, "--weights", "coco", "--json").stdout)
    assert [found["label"] for found in image["detections"]] == ["cat"]
    assert torch.equal(load_detector("coco").network.stem.weight, load_detector().network.stem.weight)


def test_help_names_networks_and_describes_every_option():
    shown = {name: run(name, "--help").stdout for name in COMMANDS_WITH_OPTIONS}
    assert all(network in shown["train"] for network in list_networks())
    for command in COMMANDS_WITH_OPTIONS.values():
        assert all(parameter.help for parameter in command.params), "an option or argument has no help"
