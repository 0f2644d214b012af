"""train gives the same bits every time, also when killed and resumed on the way; and its refusals."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from helpers.checks import assert_same_bits, one_thread
from helpers.paths import TESTS
from helpers.training_cases import CLASSES, digest, make_dataset, small_config, small_network, train_small
from ssd_fast import load_detector
from ssd_fast.models import load_network
from ssd_fast.training import CheckpointError, NonFiniteLossError, checkpoint, train
from ssd_fast.training.state import TrainingState

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def finished(dataset, tmp_path_factory):
    """The folder of an uninterrupted training with 9 iterations."""
    folder = tmp_path_factory.mktemp("finished")
    with one_thread():
        train_small(dataset, folder)
    return folder


def lines(folder: Path, event: str):
    found = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line for line in found if line["event"] == event]


class KilledError(Exception):
    pass


def stop_after(iteration: int):
    def on_step(step):
        if step.iteration == iteration:
            raise KilledError

    return on_step


@pytest.mark.parametrize("options", [{}, {"workers": 2}, {"cache": False}, {"checkpoint_every": 2, "log_every": 4}])
def test_two_runs_give_same_bits(dataset, finished, tmp_path, options):
    torch.manual_seed(99)  # earlier random numbers do not matter
    network = small_network()
    torch.rand(3)
    train(network, dataset, small_config(), tmp_path, **options)
    assert digest(tmp_path / "weights.safetensors") == digest(finished / "weights.safetensors")


@pytest.mark.parametrize("changes", [{"seed": 1}, {"epochs": 4}, {"flip": "none"}, {"weight_decay": 0.5}])
def test_every_number_of_config_matters(dataset, finished, tmp_path, changes):
    train_small(dataset, tmp_path, small_config(**changes))
    assert digest(tmp_path / "weights.safetensors") != digest(finished / "weights.safetensors")


def test_training_learns_to_find_objects(tmp_path):
    dataset = make_dataset(tmp_path / "photos", 9)
    plain = {"flip": "none", "photometric": 0.0, "zoom_out_share": 0.0, "crop_share": 0.0}
    config = small_config(epochs=40, batch_size=3, learning_rate=3e-3, ema_decay=0.9, **plain)
    weights = train_small(dataset, tmp_path / "run", config)
    losses = [sum(line["losses"].values()) for line in lines(tmp_path / "run", "epoch")]
    assert losses[-1] < 0.2 * losses[0]
    detector = load_detector(weights, device="cpu")
    for index, sample in enumerate(dataset.samples[:4]):
        (found,) = detector([dataset[index][0]], 0.5).to_list()
        assert sorted(found["labels"].tolist()) == [1, 2], "not each object once"
        boxes = found["boxes"][found["labels"].argsort()]
        torch.testing.assert_close(boxes, torch.from_numpy(sample.boxes), rtol=0, atol=8)


def test_weights_are_the_average_and_hold_preset(dataset, finished):
    network, classes = load_network(finished / "weights.safetensors")
    saved = torch.load(finished / "checkpoint.pt", weights_only=True)["state"]
    average = {name.removeprefix("module."): value for name, value in saved["ema"].items() if name != "n_averaged"}
    assert_same_bits(network.state_dict(), average)
    assert any(not torch.equal(value, average[name]) for name, value in saved["network"].items())
    assert classes == ("background", *CLASSES) and network.preset.postprocess.activation == "softmax"
    assert network.preset == small_network().preset


def test_average_includes_statistics_of_norms(dataset):
    config = small_config(ema_decay=0.75)
    state = TrainingState(small_network(), config, torch.device("cpu"))
    means = [state.network.stem.norm.running_mean]
    for _ in range(2):
        bbox_regression, cls_logits = state.network(torch.rand(2, 3, 48, 64))
        state.backward(bbox_regression.square().mean() + cls_logits.square().mean())
        state.update(1e-3)
        means.append(state.network.stem.norm.running_mean.clone())
    # The average begins as a copy at the first step.
    torch.testing.assert_close(state.average.module.stem.norm.running_mean, 0.75 * means[1] + 0.25 * means[2])


def test_log_has_every_iteration_and_epoch(finished):
    (start,), (end,) = lines(finished, "start"), lines(finished, "end")
    assert start["iterations"] == 9 and start["images"] == 7 and end["iteration"] == 9
    steps = lines(finished, "iteration")
    assert [step["iteration"] for step in steps] == list(range(1, 10))
    assert [step["epoch"] for step in steps] == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    rates = [step["learning_rate"] for step in steps]
    assert rates.index(max(rates)) == 2 and 0 < rates[-1] < rates[3], "not a warm-up, then a fall"
    assert all(step["gradient_norm"] > 0 and step["images_per_second"] > 0 for step in steps)
    epochs = lines(finished, "epoch")
    assert [epoch["iteration"] for epoch in epochs] == [3, 6, 9] and all(epoch["steps"] == 3 for epoch in epochs)
    for name in ("bbox_regression", "classification"):
        assert epochs[1]["losses"][name] == pytest.approx(sum(step["losses"][name] for step in steps[3:6]) / 3)


def test_config_file_describes_training(finished):
    written = json.loads((finished / "config.json").read_text())
    assert written["config"] == small_config().to_dict() and written["classes"] == list(CLASSES)
    assert written["network"]["name"] == "ssd_tiny" and written["dataset"]["images"] == 7


@pytest.mark.parametrize("iteration", [1, 4, 5, 6, 8])
def test_stopped_training_continues_to_same_bits(dataset, finished, tmp_path, iteration):
    with pytest.raises(KilledError):
        train_small(dataset, tmp_path, checkpoint_every=2, on_step=stop_after(iteration))
    assert not (tmp_path / "weights.safetensors").exists()
    network = small_network(seed=5)  # the checkpoint, if any, overwrites it
    network = network if iteration > 1 else small_network()
    train(network, dataset, small_config(), tmp_path, resume=True, workers=1)
    assert digest(tmp_path / "weights.safetensors") == digest(finished / "weights.safetensors")
    steps = [line["iteration"] for line in lines(tmp_path, "iteration")]
    assert steps == list(range(1, 10)), "a line is missing or duplicate"


_KILLED = """
    import os, signal, sys
    import torch
    from pathlib import Path
    torch.set_num_threads(1)
    sys.path.insert(0, {tests!r})
    from helpers.training_cases import *
    def die():
        os.kill(os.getpid(), signal.SIGKILL)
    if {moment!r} == "writing":
        writes = []
        def fsync(file):
            writes.append(file)
            if len(writes) == 13:
                die()
        os.fsync = fsync
    def on_step(step):
        if {moment!r} == "step" and step.iteration == 5:
            die()
    every = 2 if {moment!r} == "step" else 1
    train_small(make_dataset(Path({photos!r})), Path({run!r}), checkpoint_every=every, on_step=on_step)
"""


@pytest.mark.parametrize("moment", ["step", "writing"])
def test_training_resumes_after_kill_9(tmp_path, finished, moment):
    places = {"tests": str(TESTS), "photos": str(tmp_path / "photos"), "run": str(tmp_path / "run")}
    script = textwrap.dedent(_KILLED.format(moment=moment, **places))
    killed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=600)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    left = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert "checkpoint.pt" in left and "weights.safetensors" not in left
    partials = [name for name in left if name.startswith(".partial-")]
    assert (moment == "writing") == (len(partials) == 1), "not killed with half a checkpoint written"
    assert all(name.endswith("-checkpoint.pt") for name in partials)
    (tmp_path / "run" / ".partial-checkpoint.pt").write_bytes(b"as earlier versions named it")
    (tmp_path / "run" / ".partial-01234567-other.pt").write_bytes(b"of another file")
    train_small(make_dataset(tmp_path / "photos"), tmp_path / "run", resume=True)
    assert digest(tmp_path / "run" / "weights.safetensors") == digest(finished / "weights.safetensors")
    assert [path.name for path in (tmp_path / "run").glob(".partial-*")] == [".partial-01234567-other.pt"]


def test_resuming_finished_training_changes_nothing(dataset, finished, tmp_path):
    train_small(dataset, tmp_path)
    train_small(dataset, tmp_path, resume=True)
    assert digest(tmp_path / "weights.safetensors") == digest(finished / "weights.safetensors")


def test_sgd_clipping_and_bf16_resume_to_same_bits(dataset, tmp_path):
    config = small_config(optimizer="sgd", learning_rate=0.02, gradient_clip=1.0, precision="bf16")
    train_small(dataset, tmp_path / "whole", config)
    with pytest.raises(KilledError):
        train_small(dataset, tmp_path / "parts", config, on_step=stop_after(4))
    train_small(dataset, tmp_path / "parts", config, resume=True)
    assert digest(tmp_path / "parts" / "weights.safetensors") == digest(tmp_path / "whole" / "weights.safetensors")


def test_backward_clips_gradients():
    state = TrainingState(small_network(), small_config(gradient_clip=0.5), torch.device("cpu"))
    bbox_regression, _ = state.network(torch.rand(2, 3, 48, 64))
    norm = state.backward(1000 * bbox_regression.square().sum())
    gradients = torch.cat([p.grad.flatten() for p in state.network.parameters() if p.grad is not None])
    assert norm > 1 and float(gradients.norm()) == pytest.approx(0.5, rel=1e-3)


def test_full_disk_leaves_previous_checkpoint(dataset, tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.pt"
    checkpoint.write_checkpoint(path, {"training": {}, "state": {"iteration": 1}})
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, full)
            with pytest.raises(CheckpointError, match=r"checkpoint\.pt: cannot be written: No space left.*is intact"):
                checkpoint.write_checkpoint(path, {"training": {}, "state": {"iteration": 2}})
        assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]
    with pytest.raises(CheckpointError, match="there is no earlier one"), monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        checkpoint.write_checkpoint(tmp_path / "other.pt", {"training": {}, "state": {}})


def test_new_file_is_on_disk_before_it_replaces_old(tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, name=name, real=real: (calls.append(name), real(*a)))
    checkpoint.write_checkpoint(tmp_path / "c.pt", {"training": {}, "state": {}})
    assert calls == ["fsync", "replace", "fsync"], "not the file, the name, the folder"


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "other"])
def test_damaged_checkpoint_is_refused_and_kept(dataset, tmp_path, damage):
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(KilledError):
        train_small(dataset, tmp_path, on_step=stop_after(3))
    if damage == "other":
        torch.save({"weight": torch.zeros(3)}, path)
    else:
        whole = path.read_bytes()
        path.write_bytes({"cut": whole[: len(whole) // 2], "text": b"hello", "empty": b""}[damage])
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt: (damaged|not a training checkpoint)"):
        train_small(dataset, tmp_path, resume=True)
    assert path.read_bytes() == before


def test_checkpoint_of_another_training_is_refused(dataset, tmp_path):
    with pytest.raises(KilledError):
        train_small(dataset, tmp_path, on_step=stop_after(3))
    before = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(CheckpointError, match=r"config\.epochs was 3, now 4; config\.seed was 0, now 1"):
        train_small(dataset, tmp_path, small_config(seed=1, epochs=4), resume=True)
    other = make_dataset(tmp_path / "photos", 8)
    with pytest.raises(CheckpointError, match=r"dataset\.images was 7, now 8"):
        train_small(other, tmp_path, resume=True)
    other = type(dataset)(dataset.samples, ("red", "green"))
    with pytest.raises(CheckpointError, match=r"classes was \['red', 'blue'\], now \['red', 'green'\]"):
        train_small(other, tmp_path, resume=True)
    from ssd_fast.models import ssd_tiny

    with pytest.raises(CheckpointError, match=r"network\.size was \[48, 64\], now \[48, 80\]"):
        train(ssd_tiny(3, (48, 80)), dataset, small_config(), tmp_path, resume=True)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_folder_with_training_is_not_overwritten(dataset, finished):
    before = digest(finished / "weights.safetensors")
    with pytest.raises(CheckpointError, match=r"already holds a training \(checkpoint\.pt\): .*--resume .*--out"):
        train_small(dataset, finished)
    assert digest(finished / "weights.safetensors") == before


def test_folder_that_cannot_be_written_is_refused(dataset, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        train_small(dataset, tmp_path / "file" / "run")


def test_non_finite_loss_stops_training_and_names_images(dataset, tmp_path):
    network = small_network()

    def poison(step):
        if step.iteration == 4:
            with torch.no_grad():
                network.stem.conv.weight[0, 0, 0, 0] = math.nan

    with pytest.raises(NonFiniteLossError, match=r"loss of iteration 5 is not finite .*nan.*images photo\d, photo\d;"):
        train(network, dataset, small_config(), tmp_path, on_step=poison)
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["state"]
    assert saved["iteration"] == 3 and all(value.isfinite().all() for value in saved["network"].values())
    assert not (tmp_path / "weights.safetensors").exists()


def test_train_refuses_wrong_classes_and_fp16_without_gpu(dataset, tmp_path):
    with pytest.raises(ValueError, match="expected 3 columns, one per class and one for the background, got 4"):
        train(small_network(num_classes=4), dataset, small_config(), tmp_path)
    with pytest.raises(ValueError, match="fp16 needs a GPU"):
        train_small(dataset, tmp_path, small_config(precision="fp16"))


def test_checkpoint_is_not_taken_for_weights(finished):
    with pytest.raises(ValueError, match=r"training checkpoint.*weights\.safetensors"):
        load_network(finished / "checkpoint.pt")


def test_cudnn_settings_are_restored(dataset, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    train_small(dataset, tmp_path, small_config(epochs=1), on_step=lambda step: seen.append(cudnn_settings()))
    assert set(seen) == {(True, False)} and cudnn_settings() == (False, True)


def cudnn_settings():
    return torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
