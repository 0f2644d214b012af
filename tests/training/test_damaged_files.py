"""A flipped bit in a checkpoint or a weight file is an error or changes nothing."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from helpers import run_folders
from helpers.checks import canonical_bytes
from ssd_fast.models import load_network, save_weights
from ssd_fast.models.weights.files import read_metadata, read_tensors
from ssd_fast.training.checkpoint import CheckpointError, read_checkpoint

GOLDEN = run_folders.FOLDER / "finished"


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """One file of each kind, all with the same narrow network."""
    folder = tmp_path_factory.mktemp("files")
    with run_folders.narrow():
        network, classes = load_network(GOLDEN / "weights.safetensors")
    save_weights(network, folder / "weights.safetensors", classes=classes)
    torch.save(network.state_dict(), folder / "weights.pth")
    (folder / "checkpoint.pt").write_bytes((GOLDEN / "checkpoint.pt").read_bytes())
    return {path.name: path for path in folder.iterdir()}


def read_weights(path: Path) -> Any:
    return read_tensors(path, "load_network"), read_metadata(path, "load_network")


READERS: dict[str, Callable[[Path], Any]] = {
    "checkpoint.pt": read_checkpoint,
    "weights.pth": read_weights,
    "weights.safetensors": read_weights,
}


def bits(content: Any) -> Any:
    """Return a file's whole content in a comparable form; the order of a dict does not matter."""
    if isinstance(content, dict):
        return {name: bits(value) for name, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [bits(value) for value in content]
    return (content.dtype, content.shape, canonical_bytes(content)) if isinstance(content, torch.Tensor) else content


def flipped(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield copies with one bit flipped: spread over the file, and densely at both ends, which hold descriptions."""
    size = 8 * len(content)
    places = {*np.linspace(0, size - 1, 150, dtype=int).tolist(), *range(0, 4096, 37), *range(size - 16384, size, 73)}
    assert len(places) > 400
    for place in sorted(places):
        copy = bytearray(content)
        copy[place // 8] ^= 1 << place % 8
        yield place, bytes(copy)


@pytest.mark.parametrize("name", READERS)
def test_flipped_bit_is_an_error_or_changes_nothing(name, files, tmp_path):
    content, expected = files[name].read_bytes(), bits(READERS[name](files[name]))
    path, errors = tmp_path / name, 0
    for place, damaged in flipped(content):
        path.write_bytes(damaged)
        try:
            found = READERS[name](path)
        except ValueError as error:
            assert str(path) in str(error) and "damaged" in str(error), place
            errors += 1
        else:
            assert bits(found) == expected, f"bit {place} of {name} changed what was read"
    assert errors > 150, "most of the file does not matter"


@pytest.mark.parametrize("name", READERS)
def test_truncated_file_is_an_error(name, files, tmp_path):
    content = files[name].read_bytes()
    for length in (*range(0, len(content), len(content) // 40), len(content) - 1):
        (tmp_path / name).write_bytes(content[:length])
        with pytest.raises(ValueError, match="damaged"):
            READERS[name](tmp_path / name)


def test_part_marked_as_folder_is_an_error(files, tmp_path):
    """torch reads nothing of such a part and returns uninitialized memory."""
    content = bytearray(files["weights.pth"].read_bytes())
    with zipfile.ZipFile(files["weights.pth"]) as archive:
        name = archive.namelist()[-4].encode()
        entry = content.index(name, archive.start_dir) - 46
    assert content[entry : entry + 4] == b"PK\1\2"
    content[entry + 38] |= 0x10
    (tmp_path / "weights.pth").write_bytes(content)
    with pytest.raises(ValueError, match=rf"weights\.pth is damaged .*{name.decode()} is marked as a folder"):
        read_tensors(tmp_path / "weights.pth", "load_network")


@pytest.mark.parametrize("name", ["checkpoint.pt", "weights.pth"])
def test_file_that_would_grow_in_memory_is_an_error(name, files, tmp_path):
    """A small file can fill any amount of memory: by compressed zeros, or by the same bytes as several parts."""
    bomb = tmp_path / name
    with zipfile.ZipFile(files[name]) as source, zipfile.ZipFile(bomb, "w") as target:
        for part in source.namelist():
            target.writestr(part, source.read(part), zipfile.ZIP_STORED)
        target.writestr("archive/data/bomb", bytes(10**6), zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match=rf"{name}.* damaged.*: archive/data/bomb is compressed"):
        READERS[name](bomb)
    with zipfile.ZipFile(files[name]) as source, zipfile.ZipFile(bomb, "w") as target:
        for part in source.namelist():
            target.writestr(part, source.read(part), zipfile.ZIP_STORED)
        largest = max(target.infolist(), key=lambda part: part.file_size)
        target.filelist += [largest] * 10
    with pytest.raises(ValueError, match=rf"{name}.* damaged.*: its parts have \d+ bytes, and the file has \d+"):
        READERS[name](bomb)


@pytest.mark.parametrize("name", ["checkpoint.pt", "weights.pth"])
@pytest.mark.parametrize("content", [b'{"a": 1}\n', pickle.dumps({"a": 1}), pickle.dumps(Path("x"))])
@pytest.mark.filterwarnings("error")
def test_no_error_advises_to_load_file_unprotected(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged.*: it holds Python objects other than tensors") as raised:
        READERS[name](tmp_path / name)
    assert "weights_only" not in str(raised.value) and "PyTorch" not in str(raised.value)


def test_zip_files_without_checksums_load(files, tmp_path):
    """torch writes such files on request."""
    expected = bits(read_weights(files["weights.pth"]))
    if not hasattr(torch.serialization, "set_crc32_options"):
        pytest.skip("this torch always writes checksums")
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(read_tensors(files["weights.pth"], "load_network"), tmp_path / "weights.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    assert bits(read_weights(tmp_path / "weights.pth")) == expected


def test_files_in_old_torch_format_load(files, tmp_path):
    tensors = read_tensors(files["weights.pth"], "load_network")
    torch.save(tensors, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert bits(read_weights(tmp_path / "old.pth")) == bits(read_weights(files["weights.pth"]))


def test_rewritten_file_needs_same_content(files, tmp_path):
    """The order in the file does not matter, and a file made by another program needs no digest."""
    path, copy = files["weights.safetensors"], tmp_path / "copy.safetensors"
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = dict(reversed(load_file(path).items()))
    save_file(tensors, copy, dict(reversed(metadata.items())))
    assert read_metadata(copy, "load_network") == read_metadata(path, "load_network")
    assert read_tensors(copy, "load_network").keys() == tensors.keys()
    tensors["stem.norm.bias"] = tensors["stem.norm.bias"] + 1
    save_file(tensors, copy, metadata)
    with pytest.raises(ValueError, match=r"copy\.safetensors is damaged .*differs from what was .*'ssd_fast_sha256'"):
        read_tensors(copy, "load_network")
    save_file(tensors, copy, {name: text for name, text in metadata.items() if name != "ssd_fast_sha256"})
    assert torch.equal(read_tensors(copy, "load_network")["stem.norm.bias"], tensors["stem.norm.bias"])


def test_digest_covers_values_shapes_dtypes_and_metadata(files, tmp_path):
    path, copy = files["weights.safetensors"], tmp_path / "copy.safetensors"
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    weight = tensors["stem.conv.weight"]
    changes = [
        ({"stem.conv.weight": weight.reshape(-1, 1, 1, 1)}, {}),
        ({"stem.conv.weight": weight.view(torch.int32)}, {}),
        ({"stem.conv.weight": torch.where(weight == weight.flatten()[-1], -weight, weight)}, {}),
        ({"surplus": torch.zeros(0)}, {}),
        ({}, {"classes": '["background", "blue", "red"]'}),
        ({}, {"surplus": ""}),
    ]
    for tensor, text in changes:
        save_file({**tensors, **tensor}, copy, {**metadata, **text})
        with pytest.raises(ValueError, match="differs from what was written"):
            read_tensors(copy, "load_network")


def test_weight_file_path_may_be_not_utf8(files, tmp_path):
    path = Path(str(tmp_path), b"caf\xe9.safetensors".decode(errors="surrogateescape"))
    with run_folders.narrow():
        network, classes = load_network(files["weights.safetensors"])
        save_weights(network, path, classes=classes)
        again, _ = load_network(path)
    assert bits(dict(again.state_dict())) == bits(dict(network.state_dict()))


def test_damaged_checkpoint_names_its_damage(files, tmp_path):
    content = bytearray(files["checkpoint.pt"].read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt: damaged, .*the checksum of archive/data/\d+ is wrong"):
        read_checkpoint(tmp_path / "checkpoint.pt")
