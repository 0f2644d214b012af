"""Weight files: checked loading, saving, and finding out which network a file is of."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..presets import Preset
from ._blocks import SSDNetwork
from .registry import make_network

__all__ = ["load_network", "load_weights", "save_weights"]

_LAYOUTS = ("auto", "own", "torchvision")
_NAMES_SHOWN = 4

# For files that do not say of which network they are: a tensor that only this one has, and its values a class.
_FEATURES = (
    ("ssdlite300_mobilenet_v2", "class_heads.0.predict.bias", 3),
    ("ssd300_vgg16", "head.classification_head.module_list.0.bias", 4),
)


def load_weights(model: nn.Module, path: str | Path, layout: str = "auto", *, exclude: Sequence[str] = ()) -> None:
    """Fills a network from a file, completely or not at all.

    Args:   model: a network of `ssd_fast.models`.
            path: a .safetensors file, or a .pth / .pt file of tensors, bare or under the key "model" or "state_dict".
                Nothing in it is executed. Values are converted to each parameter's dtype and device.
            layout: whose parameter names the file has: "own", "torchvision" (ssd300_vgg16, whose own names they are),
                or "auto" to find out.
            exclude: name prefixes of parameters to leave as they are, such as "class_heads" to fine-tune the shipped
                weights for other classes.
    Raises: FileNotFoundError: no such file. ValueError: an unknown layout or suffix, a damaged file, or a file of
            another network (tensors missing, unknown or of another shape); the model is then unchanged.
    """
    if layout not in _LAYOUTS:
        raise ValueError(f"load_weights: layout must be one of {_LAYOUTS}, got {layout!r}")
    _fill(model, _read(Path(path)), Path(path), tuple(exclude))


def load_network(path: str | Path) -> tuple[SSDNetwork, tuple[str, ...] | None]:
    """The network that a file's tensors belong to, filled from it, and the class names saved with it, if any.

    A file of save_weights says which network it is of and holds its preset. Any other is recognised by its tensors.

    Args:   path: as for load_weights.
    Raises: as load_weights; ValueError also if no network of this package has such tensors.
    """
    path = Path(path)
    tensors = _read(path)
    saved = _metadata(path)
    network = _described_network(saved, path) if "network" in saved else _recognised_network(tensors, path)
    _fill(network, tensors, path, ())
    return network, tuple(saved["classes"]) if "classes" in saved else None


def save_weights(model: nn.Module, path: str | Path, *, classes: Sequence[str] | None = None) -> None:
    """Writes a network as .safetensors: parameters, preset and, if given, the names of its columns; see load_network.

    Raises: ValueError: another suffix than .safetensors.
    """
    if Path(path).suffix != ".safetensors":
        raise ValueError(f"save_weights: {path} must end in .safetensors")
    metadata: dict[str, Any] = {} if classes is None else {"classes": list(classes)}
    if isinstance(model, SSDNetwork):
        metadata["network"] = {"name": model.name, "num_classes": model.num_classes, **model.arguments}
        metadata["preset"] = model.preset.to_dict()
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, path, metadata={key: json.dumps(value, allow_nan=False) for key, value in metadata.items()})


def _described_network(saved: Mapping[str, Any], path: Path) -> SSDNetwork:
    """The empty network of a file that says what it is of."""
    try:
        network = make_network(**saved["network"])
        if "preset" in saved:
            network.preset = Preset.from_dict(saved["preset"])
    except (TypeError, ValueError) as error:
        raise ValueError(f"load_network: {path} is of a network that this version cannot make: {error}") from error
    return network


def _recognised_network(tensors: Mapping[str, Tensor], path: Path) -> SSDNetwork:
    """The empty network that has such tensors; num_classes is read off the class head."""
    for name, class_bias, boxes_per_cell in _FEATURES:
        if class_bias in tensors:
            return make_network(name, max(2, tensors[class_bias].numel() // boxes_per_cell))
    raise ValueError(f"load_network: {path} is of no known network; its tensors are {_first(list(tensors))}")


def _fill(model: nn.Module, tensors: Mapping[str, Tensor], path: Path, exclude: tuple[str, ...]) -> None:
    given = {name: tensor for name, tensor in tensors.items() if not name.startswith(exclude)}
    wanted = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(exclude)}
    missing = [name for name in wanted if name not in given]
    unknown = [name for name in given if name not in wanted]
    reshaped = [
        f"{name} {tuple(given[name].shape)} for {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in given and given[name].shape != tensor.shape
    ]
    kinds = {"missing": missing, "unknown": unknown, "of another shape": reshaped}
    if problems := [f"{len(names)} {kind}: {_first(names)}" for kind, names in kinds.items() if names]:
        raise ValueError(f"load_weights: {path} does not fit {type(model).__name__}: {'; '.join(problems)}")
    with torch.no_grad():
        for name, parameter in wanted.items():
            parameter.copy_(given[name])


def _read(path: Path) -> dict[str, Tensor]:
    """The file's tensors by name, on the CPU."""
    if not path.is_file():
        raise FileNotFoundError(f"load_weights: no such file: {path}")
    if path.suffix not in (".safetensors", ".pth", ".pt"):
        raise ValueError(f"load_weights: {path} must end in .safetensors, .pth or .pt")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise ValueError(f"load_weights: {path} is damaged or no file of plain tensors: {reason}") from error
    for key in ("model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"load_weights: {path} must hold tensors by name, got {type(content).__name__}")
    return content


def _metadata(path: Path) -> dict[str, Any]:
    """What save_weights wrote besides tensors; nothing in other files."""
    if path.suffix != ".safetensors":
        return {}
    with safe_open(path, framework="pt") as file:
        texts = file.metadata() or {}
    try:
        return {key: json.loads(texts[key]) for key in ("classes", "network", "preset") if key in texts}
    except json.JSONDecodeError as error:
        raise ValueError(f"load_network: {path} has damaged metadata: {error}") from error


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMES_SHOWN]) + (", ..." if len(names) > _NAMES_SHOWN else "")
