"""Weight files as they lie on the disk: tensors by name, and what `save_weights` writes beside them."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from .._paths import require_input_file
from ._metadata import parse_metadata

_METADATA = ("classes", "network", "preset", "preprocessing")
_SAFE_TORCH = (2, 6)  # CVE-2025-32434: until 2.5.1 a file could run code even through torch.load(weights_only=True)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The file's tensors by name, on the CPU.

    Raises: FileNotFoundError: no such file. ValueError: not a regular file, an unknown suffix, a damaged file, or one
            that holds something other than tensors by name, or nothing. RuntimeError: a .pth or .pt file, and a torch
            that would run its code.
    """
    require_input_file(path, "load_weights")
    if path.suffix not in (".safetensors", ".pth", ".pt"):
        raise ValueError(f"load_weights: {path} must end in .safetensors, .pth or .pt")
    if path.suffix != ".safetensors" and torch.__version__ < _SAFE_TORCH:  # type: ignore[operator]
        raise RuntimeError(
            f"load_weights: {path}: a {path.suffix} file can run code in torch before 2.6 (CVE-2025-32434), and this "
            f"is torch {torch.__version__}: take a .safetensors file, or a newer torch"
        )
    try:
        if path.suffix == ".safetensors":
            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        reason = _reason(error)
        raise ValueError(f"load_weights: {path} is damaged or no file of plain tensors: {reason}") from error
    return _checked(content, path)


def read_metadata(path: Path) -> dict[str, Any]:
    """What save_weights wrote besides tensors; nothing in other files. Raises: ValueError: it is damaged."""
    if path.suffix != ".safetensors":
        return {}
    with safe_open(path, framework="pt") as file:
        texts = file.metadata() or {}
    return parse_metadata({key: texts[key] for key in _METADATA if key in texts}, path)


def _checked(content: Any, path: Path) -> dict[str, Tensor]:
    """The tensors by name in what torch.load or safetensors gave."""
    if isinstance(content, dict) and {"training", "state"} <= set(content):
        raise ValueError(f"load_weights: {path} is a training's checkpoint: its weights are in weights.safetensors")
    for key in ("model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        raise ValueError(f"load_weights: {path} must hold tensors by name, got {type(content).__name__}")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            found = f"{type(value).__name__} for {name!r}" if isinstance(name, str) else f"the name {name!r}"
            raise ValueError(f"load_weights: {path} must hold nothing but tensors by name, got {found}")
    if not content:
        raise ValueError(f"load_weights: {path} must hold tensors by name, and is empty")
    return content


def _reason(error: Exception) -> str:
    """The first line of an error; of the refusal to run pickled code, what it would have run."""
    if code := re.search(r"GLOBAL (\S+)", str(error)):
        return f"it holds {code[1]}, which is not loaded since it could run code: save the tensors alone"
    return str(error).strip().split("\n")[0] or type(error).__name__
