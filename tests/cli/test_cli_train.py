"""`ssd-fast train`: one command from photos to weights, and its messages when it cannot train."""

from __future__ import annotations

import json
import os
from pathlib import Path

import PIL.Image
import pytest
from typer.testing import CliRunner

from helpers import cli_checks
from helpers.cli_checks import FINE, WRONG_USE, one_line
from helpers.folder_checks import another_writer, files_of_at_most
from helpers.training_cases import digest
from ssd_fast.cli import app

QUICK = ("--size", "48x64", "--epochs", "1", "--batch-size", "2", "--device", "cpu")


pytestmark = pytest.mark.usefixtures("one_thread")


def run(*arguments: object):
    return cli_checks.run("train", *arguments)


@pytest.fixture
def voc(tmp_path) -> Path:
    """Five photos in VOC's layout; one object has no width."""
    root = tmp_path / "voc"
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    names = [f"photo{index}" for index in range(5)]
    for index, name in enumerate(names):
        PIL.Image.new("RGB", (128, 96), (120, 120, 120)).save(root / "JPEGImages" / f"{name}.jpg")
        boxes = [("cell", 10, 10, 50, 60), ("dot", 70, 40, 90, 60)] + [("cell", 20, 20, 20, 40)] * (index == 2)
        objects = "".join(
            f"<object><name>{label}</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax>"
            "</bndbox></object>"
            for label, a, b, c, d in boxes
        )
        size = "<size><width>128</width><height>96</height><depth>3</depth></size>"
        (root / "Annotations" / f"{name}.xml").write_text(
            f"<annotation><filename>{name}.jpg</filename>{size}{objects}</annotation>"
        )
    (root / "ImageSets/Main/trainval.txt").write_text("\n".join(names[:4]))
    (root / "ImageSets/Main/test.txt").write_text(names[4])
    return root


def test_train_writes_weights_and_names_next_command(voc, tmp_path):
    result = run(voc, "--split", "trainval", "--out", tmp_path / "run", *QUICK)
    assert result.exit_code == FINE, result.output
    (warning,) = [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
    assert "photo2.xml" in warning and "object 2" in warning and "dropped" in warning
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        ".lock",
        "checkpoint.pt",
        "config.json",
        "log.jsonl",
        "weights.safetensors",
    ]
    last = result.stdout.strip().splitlines()[-1]
    assert f"ssd-fast eval {voc} --split test --weights {tmp_path / 'run' / 'weights.safetensors'}" in last
    assert "trained on" not in last
    pytest.importorskip("pycocotools", reason="pycocotools, which computes COCO AP, is not installed")
    following = last[last.index("ssd-fast ") :].split()[1:]
    again = CliRunner().invoke(app, [*following, "--json", "--device", "cpu"])
    assert again.exit_code == FINE, again.output
    assert json.loads(again.stdout)["images"] == 1


def test_train_json_includes_final_evaluation(voc, tmp_path):
    pytest.importorskip("pycocotools", reason="pycocotools, which computes COCO AP, is not installed")
    result = run(voc, "--split", "trainval", "--eval-split", "test", "--out", tmp_path / "run", *QUICK, "--json")
    assert result.exit_code == FINE, result.output
    summary = json.loads(result.stdout)
    assert summary["images"] == 4 and summary["classes"] == ["cell", "dot"] and summary["iterations"] == 2
    assert len(summary["problems"]) == 1 and 0 <= summary["evaluation"]["ap50"] <= 1
    events = [json.loads(line)["event"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert events == ["start", "iteration", "iteration", "epoch", "end", "eval"]
    assert "detect" in summary["next"]


@pytest.mark.parametrize("split, options", [(None, ""), ("all", " --split all")])
def test_hint_says_that_no_split_was_held_out(voc, tmp_path, split, options):
    lists = voc / "ImageSets" / "Main"
    (lists / "all.txt").write_text("\n".join(f"photo{index}" for index in range(5)))
    given = () if split is None else ("--split", split)
    result = run(voc, *given, "--out", tmp_path / "run", *QUICK)
    assert result.exit_code == FINE, result.output
    last = result.stdout.strip().splitlines()[-1]
    assert f"ssd-fast eval {voc}{options} --weights " in last and "the photos of the training" in last


def test_training_on_all_splits_is_announced(voc, tmp_path):
    result = run(voc, "--out", tmp_path / "run", *QUICK)
    assert "warning: no --split: training on all 5 images, of all splits (test, trainval)\n" in result.stderr
    assert "--split" not in run(voc, "--split", "test", "--out", tmp_path / "other", *QUICK).stderr


def test_images_in_another_folder_are_named_in_the_next_command(voc, tmp_path):
    photos = (voc / "JPEGImages").rename(tmp_path / "photos")
    result = run(voc, "--split", "trainval", "--images", photos, "--out", tmp_path / "run", *QUICK)
    assert result.exit_code == FINE, result.output
    expected = f"ssd-fast eval {voc} --split test --images {photos} --weights "
    assert expected in result.stdout.strip().splitlines()[-1]


def test_no_progress_bar_is_drawn_before_first_step(voc, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("no step was taken")

    monkeypatch.setattr("ssd_fast.training.train", broken)
    result = run(voc, "--split", "test", "--out", tmp_path / "run", *QUICK)
    one_line(result, "no step was taken")
    assert "epoch" not in result.stderr and result.stderr.count("\n") == 1


def test_options_reach_training(voc, tmp_path):
    options = ("--lr", "0.01", "--optimizer", "sgd", "--flip", "none", "--seed", "3", "--log-every", "2")
    result = run(voc, "--split", "trainval", "--out", tmp_path / "run", *QUICK, *options)
    assert result.exit_code == FINE, result.output
    config = json.loads((tmp_path / "run" / "config.json").read_text())["config"]
    expected = {"epochs": 1, "batch_size": 2, "learning_rate": 0.01, "optimizer": "sgd", "flip": "none", "seed": 3}
    assert {name: config[name] for name in expected} == expected
    assert (tmp_path / "run" / "log.jsonl").read_text().count('"event": "iteration"') == 1


def test_defaults_are_those_of_config(voc, tmp_path, monkeypatch):
    from ssd_fast import training

    seen = []
    monkeypatch.setattr(training, "train", lambda network, data, config, *_, **__: seen.append(config) or Path("w"))
    assert run(voc, "--split", "trainval", "--out", tmp_path / "run", "--device", "cpu").exit_code == FINE
    assert seen == [training.TrainingConfig()]


def test_run_is_not_overwritten_and_can_be_resumed(voc, tmp_path):
    arguments = (voc, "--split", "trainval", "--out", tmp_path / "run", *QUICK)
    assert run(*arguments).exit_code == FINE
    before = digest(tmp_path / "run" / "weights.safetensors")
    shown = f"{tmp_path / 'run'} already holds a training (checkpoint.pt): continue it with --resume "
    one_line(run(*arguments), shown, "choose another folder with --out")
    advice = "started with other options or data: repeat its command with --resume added"
    one_line(run(*arguments, "--resume", "--seed", "1"), advice, "config.seed was 0, now 1")
    result = run(*arguments, "--resume")
    assert result.exit_code == FINE and "this training was already finished; now try: ssd-fast eval" in result.stdout
    assert digest(tmp_path / "run" / "weights.safetensors") == before


def test_train_refuses_folder_of_running_training(voc, tmp_path):
    arguments = (voc, "--split", "trainval", "--out", tmp_path / "run", *QUICK)
    (tmp_path / "run").mkdir()
    with another_writer(tmp_path / "run"):
        one_line(run(*arguments), tmp_path / "run", "another process is writing into it", "choose another folder")
    assert run(*arguments).exit_code == FINE


@pytest.mark.parametrize("size, name", [(100, "config.json"), (6_000, "checkpoint.pt")])
def test_full_disk_is_one_line(voc, tmp_path, size, name):
    with files_of_at_most(size):
        result = run(voc, "--split", "trainval", "--out", tmp_path / "run", *QUICK)
    one_line(result, f"{tmp_path / 'run' / name}: cannot be written: File too large")


def test_interrupt_says_how_to_resume(voc, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("ssd_fast.training.train", interrupted)
    result = run(voc, "--split", "trainval", "--out", tmp_path / "run", *QUICK)
    one_line(result, "interrupted", "--resume", tmp_path / "run")


@pytest.mark.parametrize(
    "options, parts",
    [
        (("--split", "nowhere"), ("nowhere",)),
        (("--split", "trainval", "--policy", "raise"), ("photo2.xml", "object 2")),
        (("--split", "trainval", "--batch-size", "9"), ("batch_size", "at most 4, the number of images")),
        (("--split", "trainval", "--size", "32x32", "--batch-size", "1"), ("batch_size: expected at least 2",)),
        (("--split", "trainval", "--weights", "nowhere.safetensors"), ("nowhere.safetensors",)),
        (("--split", "trainval", "--batch-size", "2", "--precision", "fp16"), ("fp16 needs a GPU",)),
        (("--split", "trainval", "--weights", "coco", "--size", "48x64"), ("expected 300 x 300", "got 48 x 64")),
    ],
)
def test_impossible_training_is_one_line(voc, tmp_path, options, parts):
    one_line(run(voc, "--out", tmp_path / "run", "--device", "cpu", *options), *parts)
    assert not (tmp_path / "run" / "weights.safetensors").exists()


@pytest.mark.parametrize(
    "options, word",
    [
        (("--size", "240"), "--size"),
        (("--size", "0x64"), "--size"),
        (("--policy", "keep"), "--policy"),
        (("--format", "yolo"), "--format"),
        (("--epochs", "0"), "--epochs"),
        (("--lr", "0"), "for --lr: expected > 0, got 0"),
        (("--flip", "up"), "for --flip: expected 'none' or 'horizontal'"),
        (("--loss", "hinge"), "for --loss: expected 'softmax' or 'focal'"),
        (("--model", "ssd_tny"), "did you mean 'ssd_tiny'?"),
        (("--device", "tpu"), "--device"),
    ],
)
def test_wrong_use_names_option(voc, tmp_path, options, word):
    result = run(voc, "--split", "trainval", "--out", tmp_path / "run", *options)
    shown = " ".join(result.stderr.replace("│", " ").split())
    assert result.exit_code == WRONG_USE and word in shown and "TrainingConfig" not in shown, shown
    assert not (tmp_path / "run").exists()


def test_train_refuses_empty_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    one_line(run(tmp_path / "empty", "--out", tmp_path / "run"), tmp_path / "empty")


@pytest.mark.skipif(not os.environ.get("SSD_FAST_BCCD"), reason="SSD_FAST_BCCD does not name a copy of BCCD")
def test_training_on_bccd_names_degenerate_boxes(tmp_path):
    bccd = os.environ["SSD_FAST_BCCD"]
    options = ("--size", "48x64", "--epochs", "1", "--batch-size", "146", "--device", "cpu", "--json")
    result = run(bccd, "--split", "trainval", "--out", tmp_path / "run", *options)
    assert result.exit_code == FINE, result.output
    summary = json.loads(result.stdout)
    assert summary["images"] == 292 and set(summary["classes"]) == {"RBC", "WBC", "Platelets"}
    assert ["00338" in text or "00343" in text for text in summary["problems"]] == [True, True]
