"""Weight files that are damaged, of another kind or dangerous, and unknown layouts and suffixes."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import torch
from torch.torch_version import TorchVersion

from ssd_fast.assets import asset_path
from ssd_fast.models import load_network, load_weights, save_weights, ssdlite300_mobilenet_v2

SSDLITE_WEIGHTS = "ssdlite300_mobilenet_v2_coco.safetensors"


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt"])
def test_damaged_and_missing_files_are_named(suffix, tmp_path):
    network = ssdlite300_mobilenet_v2(2)
    path = tmp_path / f"weights{suffix}"
    with pytest.raises(FileNotFoundError, match=path.name):
        load_weights(network, path)
    whole = tmp_path / f"whole{suffix}"
    if suffix == ".safetensors":
        save_weights(network, whole)
    else:
        torch.save(network.state_dict(), whole)
    for content in (b"", b"not weights at all", whole.read_bytes()[:100_000]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"{path.name} is damaged"):
            load_weights(network, path)


class Payload:
    """Its pickle runs code when it is loaded: it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.folder),)


def test_pickled_code_is_not_run(tmp_path):
    torch.save({"model": Payload(tmp_path / "harm")}, tmp_path / "object.pth")
    with pytest.raises(ValueError, match=r"object\.pth is damaged or not a file of plain tensors: it holds \w+\.mkdir"):
        load_weights(ssdlite300_mobilenet_v2(2), tmp_path / "object.pth")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.zeros(1)], "tensors by name, got list"),
        ({}, "tensors by name, and is empty"),
        ({"model": {}, "epoch": 3}, "tensors by name, and is empty"),
        ({"stem.bias": torch.zeros(1), "epoch": 3}, "nothing but tensors by name, got int for 'epoch'"),
        ({"state_dict": None}, "nothing but tensors by name, got NoneType for 'state_dict'"),
        ({"model": {0: torch.zeros(1)}}, "nothing but tensors by name, got the name 0"),
    ],
)
def test_files_without_tensors_by_name_are_refused(content, message, tmp_path):
    torch.save(content, tmp_path / "other.pth")
    for load in (load_network, lambda path: load_weights(ssdlite300_mobilenet_v2(2), path)):
        with pytest.raises(ValueError, match=rf"other\.pth must hold {message}$"):
            load(tmp_path / "other.pth")


@pytest.mark.parametrize("version", ["2.4.0", "2.5.1+cu124", "2.6.0a0+df5bbc0"])
def test_pickles_are_refused_if_torch_could_run_their_code(version, tmp_path, monkeypatch):
    """torch.load(weights_only=True) was not a barrier until 2.6; .safetensors files hold no code."""
    network = ssdlite300_mobilenet_v2(2)
    save_weights(network, tmp_path / "mine.safetensors")
    torch.save(network.state_dict(), tmp_path / "mine.pth")
    load_weights(network, tmp_path / "mine.pth")
    monkeypatch.setattr(torch, "__version__", TorchVersion(version))
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("the file was read"))
    load_weights(network, tmp_path / "mine.safetensors")
    for suffix in (".pth", ".pt"):
        path = (tmp_path / "mine.pth").rename(tmp_path / f"mine{suffix}")
        message = rf"{path.name}: a {suffix} file can run code .*is torch {re.escape(version)}: use a .safetensors"
        with pytest.raises(RuntimeError, match=message):
            load_network(path)
        path.rename(tmp_path / "mine.pth")


def test_unknown_layout_and_suffix_are_refused(tmp_path):
    network = ssdlite300_mobilenet_v2(2)
    with pytest.raises(ValueError, match="layout: expected one of auto, own"):
        load_weights(network, asset_path(SSDLITE_WEIGHTS), "darknet")
    (tmp_path / "weights.h5").write_bytes(b"")
    with pytest.raises(ValueError, match=r"weights\.h5 is not a weight file: expected \.safetensors, \.pth or \.pt"):
        load_weights(network, tmp_path / "weights.h5")
