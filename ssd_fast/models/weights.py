"""Weight files: checked loading, saving, and finding out which network a file is of."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ._blocks import SSDNetwork
from .ssd300_vgg16 import ssd300_vgg16
from .ssdlite300_mobilenet_v2 import ssdlite300_mobilenet_v2

__all__ = ["load_network", "load_weights", "save_weights"]

_LAYOUTS = ("auto", "own", "torchvision")
_NAMES_SHOWN = 4

# A tensor that only this network's files have, and how many of its values a class has.
_NETWORKS = (
    (ssdlite300_mobilenet_v2, "class_heads.0.predict.bias", 3),
    (ssd300_vgg16, "head.classification_head.module_list.0.bias", 4),
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

    Args:   path: as for load_weights; num_classes is read off the class head.
    Raises: as load_weights; ValueError also if no network of this package has such tensors.
    """
    path = Path(path)
    tensors = _read(path)
    for make, class_bias, boxes_per_cell in _NETWORKS:
        if class_bias in tensors:
            network = make(max(2, tensors[class_bias].numel() // boxes_per_cell))
            _fill(network, tensors, path, ())
            return network, _saved_classes(path)
    raise ValueError(f"load_network: {path} is of no known network; its tensors are {_first(list(tensors))}")


def save_weights(model: nn.Module, path: str | Path, *, classes: Sequence[str] | None = None) -> None:
    """Writes a network's parameters as .safetensors, with the names of its columns if given; `load_network` reads both.

    Raises: ValueError: another suffix than .safetensors.
    """
    if Path(path).suffix != ".safetensors":
        raise ValueError(f"save_weights: {path} must end in .safetensors")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, path, metadata=None if classes is None else {"classes": json.dumps(list(classes))})


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


def _saved_classes(path: Path) -> tuple[str, ...] | None:
    if path.suffix != ".safetensors":
        return None
    with safe_open(path, framework="pt") as file:
        classes = (file.metadata() or {}).get("classes")
    return None if classes is None else tuple(json.loads(classes))


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMES_SHOWN]) + (", ..." if len(names) > _NAMES_SHOWN else "")
