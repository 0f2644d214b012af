"""The folder of a training: one writer at a time, and errors when it cannot be written."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import signal
import warnings
from pathlib import Path

import pytest

from helpers.checks import one_thread
from helpers.folder_checks import FORK, another_writer, files_of_at_most
from helpers.training_cases import digest, make_dataset, small_config, train_small
from ssd_fast.training import CheckpointError, log_evaluation
from ssd_fast.training.lock import one_writer
from ssd_fast.training.log import TrainingLog

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def finished(dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    with one_thread():
        train_small(dataset, folder, small_config(epochs=1))
    return folder


@pytest.fixture
def folder(finished, tmp_path):
    """A copy of a finished training's folder that a test may change."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("resume", [False, True])
def test_second_training_is_refused_until_first_is_dead(dataset, folder, resume):
    if not resume:
        for name in ("checkpoint.pt", "weights.safetensors"):
            (folder / name).unlink()
    config, before = small_config(epochs=1), content(folder)
    with another_writer(folder):
        with pytest.raises(CheckpointError, match=r"run: another process is writing .*\.lock.*choose another folder"):
            train_small(dataset, folder, config, resume=resume)
        assert content(folder) == before
    train_small(dataset, folder, config, resume=resume)  # the lock of a killed process is gone


def test_second_training_in_same_process_is_refused(dataset, tmp_path):
    def start_again(step):
        with pytest.raises(CheckpointError, match="another process is writing"):
            train_small(dataset, tmp_path, small_config(epochs=1), resume=True)
        with pytest.raises(CheckpointError, match="another process is writing"):
            log_evaluation(tmp_path, "test", {})
        train_small(dataset, tmp_path / f"other{step.iteration}", small_config(epochs=1))

    weights = train_small(dataset, tmp_path, small_config(epochs=1), on_step=start_again)
    assert digest(weights) == digest(tmp_path / "other1" / "weights.safetensors")


def test_worker_of_killed_training_does_not_hold_lock(tmp_path):
    def worker() -> None:
        started.set()
        signal.pause()

    def training() -> None:
        with one_writer(tmp_path):
            child = FORK.Process(target=worker)
            child.start()
            pids.put(child.pid)
            signal.pause()

    started, pids = FORK.Event(), FORK.SimpleQueue()
    process = FORK.Process(target=training)
    process.start()
    pid = pids.get()
    try:
        assert started.wait(60)
        process.kill()
        process.join()
        with one_writer(tmp_path):
            os.kill(pid, 0)  # the worker is alive
    finally:
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("again", [False, True])
def test_training_with_removed_folder_leaves_next_one_alone(dataset, tmp_path, again):
    folder, config = tmp_path / "run", small_config(epochs=1)

    def remove(step):
        if step.iteration == 1:
            folder.rename(tmp_path / "removed")
            if again:
                train_small(dataset, folder, config)

    with pytest.raises(CheckpointError, match="run: was removed or replaced"):
        train_small(dataset, folder, config, on_step=remove)
    assert folder.exists() == again
    if again:
        lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        assert [line["event"] for line in lines] == ["start", *["iteration"] * 3, "epoch", "end"]


def test_error_releases_folder(tmp_path):
    with pytest.raises(RuntimeError), one_writer(tmp_path):
        raise RuntimeError
    with one_writer(tmp_path):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_file_system_without_locks_is_a_warning(number, tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(number, "no locks here")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.warns(RuntimeWarning, match=r"has no locks \(no locks here\)"), one_writer(tmp_path):
        pass


def test_file_system_with_locks_gives_no_warning(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with one_writer(tmp_path):
            pass


def test_folder_may_be_a_link(dataset, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    train_small(dataset, tmp_path / "link", small_config(epochs=1))
    assert (tmp_path / "real" / "weights.safetensors").is_file()
    with one_writer(tmp_path / "real"), pytest.raises(CheckpointError), one_writer(tmp_path / "link"):
        pass


@pytest.mark.parametrize("name", ["checkpoint.pt", "weights.safetensors", "log.jsonl", "config.json", ".lock"])
def test_file_that_is_a_link_is_refused_before_training(dataset, folder, tmp_path, name):
    (folder / name).rename(tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    before = content(folder)
    with pytest.raises(OSError, match=rf"{name}: cannot be written: expected .* got a symbolic link"):
        train_small(dataset, folder, small_config(epochs=1), resume=True, on_step=lambda _: pytest.fail("it trains"))
    assert content(folder) == before


# The sizes of the files of this training, in ascending order: log and config (a few kB), weights, checkpoint.
@pytest.mark.parametrize(
    "size, name, error",
    [
        (100, "config.json", OSError),
        (6_000, "checkpoint.pt", CheckpointError),
    ],
)
def test_full_disk_while_training_is_named(dataset, tmp_path, size, name, error):
    with files_of_at_most(size), pytest.raises(error, match=rf"{name}: cannot be written: File too large"):
        train_small(dataset, tmp_path, small_config(epochs=1))
    assert name not in content(tmp_path) and not list(tmp_path.glob(".partial-*"))
    train_small(dataset, tmp_path, small_config(epochs=1), resume=True)


def test_full_disk_at_the_end_loses_no_iteration(dataset, folder):
    """The checkpoint of the last iteration is written, but the weights do not fit until later."""
    weights = (folder / "weights.safetensors").stat().st_size
    before = digest(folder / "weights.safetensors")
    (folder / "weights.safetensors").unlink()
    config = small_config(epochs=1)
    with files_of_at_most(weights - 1), pytest.raises(OSError, match=r"weights\.safetensors: cannot be written: File"):
        train_small(dataset, folder, config, resume=True)
    train_small(dataset, folder, config, resume=True, on_step=lambda _: pytest.fail("an iteration was left"))
    assert digest(folder / "weights.safetensors") == before


def test_full_disk_while_logging_is_named(dataset, folder):
    log = folder / "log.jsonl"
    for name in ("checkpoint.pt", "weights.safetensors"):
        (folder / name).unlink()
    log.write_bytes(b"")
    config = small_config(epochs=3)
    used = (folder / "config.json").stat().st_size + 100  # the log exceeds it in the second epoch
    filler = json.dumps({"event": "filler", "text": "x" * (used - 700)}) + "\n"
    log.write_text(filler)
    with files_of_at_most(used), pytest.raises(OSError, match=r"log\.jsonl: cannot be written: File too large"):
        train_small(dataset, folder, config, checkpoint_every=100)
    assert all(json.loads(line) for line in log.read_text().splitlines()) and log.read_text().endswith("}\n")
    train_small(dataset, folder, config, resume=True)
    steps = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["iteration"] for line in steps if line["event"] == "iteration"] == list(range(1, 10))


def test_resuming_repairs_damaged_log(dataset, folder):
    log = folder / "log.jsonl"
    whole = log.read_bytes()
    damage = [
        b'{"event": "iteration", "iter',
        b"\xff\xfe",
        b"[1]",
        b"null",
        b'{"iteration": "x"}',
        b'{"iteration": null}',
    ]
    damage += [b"", b"[" * 100_000, "{}\u2028{}".encode()]
    log.write_bytes(b"\n".join(damage) + b"\n" + whole + b'{"event": "eval", "cut')
    TrainingLog(log).rewind(100)
    assert log.read_bytes() == whole
    train_small(dataset, folder, small_config(epochs=1), resume=True)
    assert log.read_bytes().startswith(whole)


def test_log_writes_values_that_json_lacks(tmp_path):
    log = TrainingLog(tmp_path / "log.jsonl")
    values = {
        "losses": {"a": float("nan")},
        "scores": [1.0, (float("inf"), 2)],
        "path": b"caf\xe9".decode(errors="surrogateescape"),
    }
    log.write("iteration", iteration=1, **values)

    def refused(constant):
        raise AssertionError(constant)

    (line,) = (json.loads(line, parse_constant=refused) for line in log.path.read_bytes().splitlines())
    assert line["losses"] == {"a": "nan"} and line["scores"] == [1.0, ["inf", 2]] and line["path"] == values["path"]


def test_folder_name_may_be_not_utf8(dataset, finished, tmp_path):
    folder = Path(str(tmp_path), b"caf\xe9".decode(errors="surrogateescape"))
    weights = train_small(dataset, folder, small_config(epochs=1))
    assert digest(weights) == digest(finished / "weights.safetensors")
    assert train_small(dataset, folder, small_config(epochs=1), resume=True) == weights
