"""The arguments of train: each odd value is refused before anything is written."""

from __future__ import annotations

import json
import re
import time

import pytest
import torch

from helpers.odd_values import ODD, is_promised
from helpers.training_cases import make_dataset, small_config, small_network, train_small
from ssd_fast.training import log_evaluation, train

pytestmark = pytest.mark.usefixtures("one_thread")

ARGUMENTS = ("network", "dataset", "config", "folder", "device", "processes", "workers", "cache", "resume")
OPTIONS = ("log_every", "checkpoint_every", "on_step")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("photos"))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"log_every": 0}, ValueError, "log_every: expected an int of at least 1, got 0"),
        ({"checkpoint_every": 0}, ValueError, "checkpoint_every: expected an int of at least 1, got 0"),
        ({"workers": -1}, ValueError, "workers: expected an int of at least 0, got -1"),
        ({"workers": "x"}, ValueError, "workers: expected an int of at least 0, got 'x'"),
        ({"folder": None}, TypeError, "folder: expected the path of a folder, got None"),
        ({"folder": ""}, ValueError, "folder: expected the path of a folder, got ''"),
        ({"folder": "\0"}, ValueError, r"folder: expected the path of a folder, got '\x00'"),
        ({"device": "x"}, ValueError, "device: expected cpu or cuda, got 'x'"),
        ({"device": "meta"}, ValueError, "device: expected cpu or cuda, got 'meta'"),
        ({"cache": "no"}, ValueError, "cache: expected True or False, got 'no'"),
        ({"on_step": 5}, TypeError, "on_step: expected a function of a Step, or None, got int"),
        ({"config": {}}, TypeError, "config: expected a TrainingConfig, got dict"),
    ],
)
def test_train_refuses_options_by_name(dataset, tmp_path, monkeypatch, options, error, message):
    monkeypatch.chdir(tmp_path)
    given = {"network": small_network(), "dataset": dataset, "config": small_config(), "folder": tmp_path / "run"}
    with pytest.raises(error, match=f"^train: {re.escape(message)}$"):
        train(**{**given, **options})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("argument", [*ARGUMENTS, *OPTIONS])
def test_train_takes_or_refuses_odd_values_of_each_argument(argument, dataset, tmp_path, monkeypatch):
    """What is taken goes on to the loop, which is not run."""
    monkeypatch.setattr("ssd_fast.training.trainer.continue_training", lambda run, *_: run.weights)
    monkeypatch.chdir(tmp_path)
    network, config = small_network(), small_config(epochs=1)
    refused = 0
    for kind, value in ODD.items():
        given = {"network": network, "dataset": dataset, "config": config, "folder": tmp_path / "run"}
        try:
            train(**{**given, argument: value})
        except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError: there is no such GPU
            assert is_promised(error, argument), f"{kind}: {error!r}"
            refused += 1
    assert refused > 25


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_train_refuses_missing_device(dataset, tmp_path):
    with pytest.raises(RuntimeError, match=r"^train: device: expected a device that torch can use, got cuda: "):
        train_small(dataset, tmp_path / "run", device="cuda")
    assert not (tmp_path / "run").exists()


def test_rates_are_finite_if_clock_stands_still(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(time, "perf_counter", lambda: 7.0)
    train_small(dataset, tmp_path, small_config(epochs=1))
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    rates = [line["images_per_second"] for line in lines if "images_per_second" in line]
    assert len(rates) == 4 and all(isinstance(rate, float) and rate > 0 for rate in rates)


def test_log_evaluation_refuses_wrong_folder():
    with pytest.raises(TypeError, match=r"^log_evaluation: folder: expected the path of a folder, got None"):
        log_evaluation(None, None, {})
