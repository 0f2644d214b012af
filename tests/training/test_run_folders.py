"""Run folders and weight files of earlier versions load, and a killed training continues to its end."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from helpers import run_folders
from helpers.checks import assert_same_bits
from helpers.run_folders import FOLDER, HALFWAY, ITERATIONS
from helpers.training_cases import CLASSES
from ssd_fast import load_detector
from ssd_fast.models import load_network, load_weights
from ssd_fast.training import train

pytestmark = pytest.mark.usefixtures("one_thread", "narrow")

WEIGHTS = FOLDER / "finished" / "weights.safetensors"


@pytest.fixture
def narrow():
    with run_folders.narrow():
        yield


@pytest.fixture
def copy(tmp_path):
    """A function that copies a golden folder to a writable place."""

    def make(name: str):
        shutil.copytree(FOLDER / name, tmp_path / name)
        return tmp_path / name

    return make


def resume(folder, tmp_path):
    network = run_folders.make_network()
    torch.nn.init.constant_(network.stem.conv.weight, 7.0)  # so that values not taken from the checkpoint show
    dataset = run_folders.make_dataset(tmp_path / "photos")
    return train(network, dataset, run_folders.config(), folder, resume=True)


def assert_same_tensors(found, expected):
    assert found.keys() == expected.keys()
    assert_same_bits(dict(sorted(found.items())), dict(sorted(expected.items())))


def iterations(folder):
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line["iteration"] for line in lines if line["event"] == "iteration"]


def test_killed_training_continues_to_its_end(copy, tmp_path):
    folder = copy("killed")
    before = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert torch.load(folder / "checkpoint.pt", weights_only=True)["state"]["iteration"] == HALFWAY
    weights = resume(folder, tmp_path)
    assert iterations(folder) == list(range(1, ITERATIONS + 1))
    after = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    kept = [line for line in before if line.get("iteration", 0) <= HALFWAY]
    assert after[: len(kept)] == kept, "lines logged before the checkpoint have changed"
    # Other machines round the sums of convolutions differently, so the weights are close to the kept ones, not equal:
    # much closer than they moved meanwhile.
    average = torch.load(FOLDER / "killed" / "checkpoint.pt", weights_only=True)["state"]["ema"]
    begin = {name.removeprefix("module."): value for name, value in average.items()}
    expected, found = load_file(WEIGHTS), load_file(weights)
    assert found.keys() == expected.keys()
    learned = [name for name, _ in run_folders.make_network().named_parameters()]
    moved, apart = (
        sum(float((expected[name] - other[name]).square().sum()) for name in learned) for other in (begin, found)
    )
    assert moved > 0 and apart < 1e-3 * moved


def test_finished_training_is_left_unchanged(copy, tmp_path):
    folder = copy("finished")
    assert_same_tensors(load_file(resume(folder, tmp_path)), load_file(WEIGHTS))
    assert iterations(folder) == list(range(1, ITERATIONS + 1))


@pytest.mark.parametrize("way", ["load_weights", "load_network", "load_detector"])
def test_weight_file_without_digest_loads(way):
    if way == "load_weights":
        network = run_folders.make_network()
        load_weights(network, WEIGHTS)
    elif way == "load_network":
        network, classes = load_network(WEIGHTS)
        assert classes == ("background", *CLASSES)
    else:
        network = load_detector(WEIGHTS, device="cpu").network
    assert_same_tensors(network.state_dict(), load_file(WEIGHTS))
    with torch.no_grad():
        heads = network.eval()(run_folders.images())
    with np.load(FOLDER / "heads.npz") as expected:
        for name, rows in zip(("bbox_regression", "cls_logits"), heads, strict=True):
            torch.testing.assert_close(rows, torch.from_numpy(expected[name]), rtol=1e-4, atol=1e-5)
