"""Read and write weight files: tensors by name, and the metadata that `save_weights` adds."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors.torch import load, save
from torch import Tensor

from ..._io.paths import require_input_file
from ..._io.writing import replace_file
from .metadata import parse_metadata

_DIGEST = "ssd_fast_sha256"
_METADATA = ("classes", "network", "preset", "preprocessing")
_DOS_FOLDER = 0x10  # an attribute bit of a part of a zip file
_SAFE_TORCH = (2, 6)  # CVE-2025-32434: until 2.5.1 a file could run code even through torch.load(weights_only=True)


def read_tensors(path: Path, op: str) -> dict[str, Tensor]:
    """Read the file's tensors by name, on the CPU. `op` is the caller's name, for messages.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a regular file, an unknown suffix, a damaged file, an empty file, or one that holds anything
            other than tensors by name.
        RuntimeError: a .pth or .pt file, with a torch that could run its code.
    """
    require_input_file(path, op)
    if path.suffix not in (".safetensors", ".pth", ".pt"):
        raise ValueError(f"{op}: {path} is not a weight file: expected .safetensors, .pth or .pt")
    if path.suffix != ".safetensors" and torch.__version__ < _SAFE_TORCH:  # type: ignore[operator]
        raise RuntimeError(
            f"{op}: {path}: a {path.suffix} file can run code in torch before 2.6 (CVE-2025-32434), and this "
            f"is torch {torch.__version__}: use a .safetensors file or a newer torch"
        )
    try:
        content = _load_safetensors(path) if path.suffix == ".safetensors" else load_checked(path)
    except ValueError as error:
        raise ValueError(f"{op}: {path} is damaged or not a file of plain tensors: {error}") from error
    return _checked(content, path, op)


def load_checked(path: Path) -> Any:
    """Load a torch.save file to the CPU without running code, and check its checksums, which torch ignores.

    Files of torch before 1.6 and files written with torch.serialization.set_crc32_options(False) have no checksums.

    Raises:
        ValueError: the file cannot be read or is damaged; the message is only the reason.
    """
    try:
        with open(path, "rb") as file:
            if file.read(4) == b"PK\3\4":
                _check_archive(file)
            file.seek(0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch's warnings about odd files are for its developers
                return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise anything
        raise ValueError(_reason(error)) from error


def _check_archive(file: BinaryIO) -> None:
    """Raise ValueError if a part of the zip file is damaged, or if the parts would take more memory than the file."""
    with zipfile.ZipFile(file) as archive:
        parts = archive.infolist()
        for part in parts:
            if part.compress_type != zipfile.ZIP_STORED:  # it could take any amount of memory
                raise ValueError(f"{part.filename} is compressed, which torch.save never does")
        size, total = os.fstat(file.fileno()).st_size, sum(part.file_size for part in parts)
        if total > size:
            raise ValueError(f"its parts have {total} bytes, and the file has {size}")
        for part in parts:  # torch does not read a part marked as a folder, and returns uninitialized memory
            if part.external_attr & _DOS_FOLDER and not part.is_dir():
                raise ValueError(f"{part.filename} is marked as a folder")
        has_sums = any(part.CRC for part in parts)
        if has_sums and (wrong := archive.testzip()) is not None:
            raise ValueError(f"the checksum of {wrong} is wrong")


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    """Load the tensors of a file and check them against the digest that save_weights writes and other files lack.

    The file is read, not mapped: if another program truncated it meanwhile, a process that maps it would be killed.

    Raises:
        ValueError: the file cannot be read or is damaged; the message is only the reason.
    """
    try:
        content = path.read_bytes()
        tensors = dict(sorted(load(content).items()))  # their order differs from call to call
        texts = _texts(io.BytesIO(content))
    except Exception as error:  # SafetensorError, or any error from building a tensor of a damaged description
        raise ValueError(_reason(error)) from error
    expected = texts.pop(_DIGEST, None)
    if expected not in (None, _digest(tensors, texts)):
        raise ValueError(f"its content differs from what was written (metadata {_DIGEST!r})")
    return tensors


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write a .safetensors file atomically, with a digest of its whole content.

    Raises:
        WriteError: the file cannot be written (an OSError).
    """
    texts = {key: json.dumps(value, allow_nan=False) for key, value in metadata.items()}
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    replace_file(path, save(on_cpu, {**texts, _DIGEST: _digest(on_cpu, texts)}))


def _digest(tensors: Mapping[str, Tensor], texts: Mapping[str, str]) -> str:
    """SHA-256 of metadata and tensors, whatever their order in the file."""
    digest = hashlib.sha256(json.dumps(sorted(texts.items())).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _texts(file: BinaryIO) -> dict[str, str]:
    """Read the metadata of a .safetensors file that safetensors has already validated."""
    length = int.from_bytes(file.read(8), "little")
    return json.loads(file.read(length)).get("__metadata__") or {}


def read_metadata(path: Path, op: str) -> dict[str, Any]:
    """Read the metadata that save_weights writes; empty for other files.

    Raises:
        ValueError: the metadata is damaged.
    """
    if path.suffix != ".safetensors":
        return {}
    with open(path, "rb") as file:
        texts = _texts(file)
    return parse_metadata({key: texts[key] for key in _METADATA if key in texts}, path, op)


def _checked(content: Any, path: Path, op: str) -> dict[str, Tensor]:
    """Find the tensors by name in what torch.load or safetensors returned."""
    if isinstance(content, dict) and {"training", "state"} <= set(content):
        raise ValueError(f"{op}: {path} is a training checkpoint: its weights are in weights.safetensors")
    for key in ("model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        raise ValueError(f"{op}: {path} must hold tensors by name, got {type(content).__name__}")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            found = f"{type(value).__name__} for {name!r}" if isinstance(name, str) else f"the name {name!r}"
            raise ValueError(f"{op}: {path} must hold nothing but tensors by name, got {found}")
    if not content:
        raise ValueError(f"{op}: {path} must hold tensors by name, and is empty")
    return content


def _reason(error: Exception) -> str:
    """The first line of an error, or for torch's refusal to run pickled code, the code in question."""
    if code := re.search(r"GLOBAL (\S+)", str(error)):
        return f"it holds {code[1]}, which is not loaded because it could run code: save only the tensors"
    if "weights_only" in str(error):  # torch advises loading the file without this protection
        return "it holds Python objects other than tensors, or nothing at all: save only model.state_dict()"
    return str(error).strip().split("\n")[0] or type(error).__name__
