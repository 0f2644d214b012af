"""Weight files: checked loading, saving, and finding out which network a file belongs to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..presets import Preset
from ..specs._plain import from_plain, to_plain
from ._blocks import SSDNetwork
from ._files import read_metadata, read_tensors, write_tensors
from ._mismatch import differences, explanation, first_names
from ._recognition import adopt_dialect, published_classes, recognize
from .layouts import LAYOUTS, convert, detect
from .preprocessing import Preprocessing
from .registry import make_network

__all__ = ["load_network", "load_weights", "save_weights"]

_LAYOUTS = ("auto", *LAYOUTS)


def load_weights(
    model: nn.Module, path: str | Path, layout: str = "auto", *, exclude: str | Sequence[str] = ()
) -> None:
    """Fills a network from a file, completely or not at all.

    Args:   model: a network of `ssd_fast.models`.
            path: a .safetensors file, or a .pth / .pt file of tensors, bare or under the key "model" or "state_dict".
                Nothing in it is executed, which for .pth and .pt needs torch 2.6. Values are converted to each
                parameter's dtype and device.
            layout: the project whose names the file's tensors have: "own", "torchvision", "amdegroot", "lufficc",
                "qfgaohao", "mmdetection", "nvidia" (see `ssd_fast.models.layouts`), or "auto" to find out.
            exclude: name prefixes of the network's parameters to leave as they are, such as "class_heads" to fine-tune
                the shipped weights for other classes.
    Only tensors are taken: `model.preset` and `model.preprocessing` stay, and another project's may differ;
    `load_network` sets them too.
    Raises: FileNotFoundError: no such file. ValueError: an unknown layout or suffix, a prefix that is empty or that no
            parameter has, a damaged file, one of another layout, or a file of another network; the message then lists
            the tensors that are missing, unknown or of another shape. RuntimeError: a .pth or .pt file, and a torch
            before 2.6. The model is unchanged.
    """
    if layout not in _LAYOUTS:
        raise ValueError(f"load_weights: layout must be one of {_LAYOUTS}, got {layout!r}")
    excluded = (exclude,) if isinstance(exclude, str) else tuple(exclude)
    names = model.state_dict().keys()
    for prefix in excluded:
        if not prefix or not any(name.startswith(prefix) for name in names):
            expected = f"the beginnings of names of {type(model).__name__}'s parameters"
            raise ValueError(f"load_weights: exclude: expected {expected}, got {prefix!r}")
    path = Path(path)
    tensors, _ = _converted(read_tensors(path), path, layout)
    _fill(model, tensors, path, excluded)


def load_network(path: str | Path, *, preset: str | None = None) -> tuple[SSDNetwork, tuple[str, ...] | None]:
    """The network that a file's tensors belong to, filled from it, and the names of its columns, None if unknown.

    A file of save_weights says which network it is of, and holds its preset and the names that it was given. Any other
    is recognised by its tensors, and one of another project gets that project's preset and normalisation. The names are
    COCO's for the file that ships with this package and for those that torchvision publishes.

    Args:   path: as for load_weights.
            preset: the name of the preset that another project's network was trained with, for files whose number of
                class columns does not tell, such as "mmdet_ssd300_voc"; what is in it that the weights' conversion
                changes, such as the background's column, is changed too.
    Raises: as load_weights; ValueError also if no network of this package has such tensors, if another project's file
            could have been trained with several sets of default boxes and preset names none, or if it names one that
            is not of them.
    """
    path = Path(path)
    tensors = read_tensors(path)
    saved = read_metadata(path)
    if "network" in saved:
        if preset is not None:
            raise ValueError(
                f"load_network: {path}: preset: expected None, since the file holds its own, got {preset!r}"
            )
        network = _described_network(saved, path)
    else:
        tensors, layout = _converted(tensors, path, "auto")
        network = _recognised_network(tensors, layout, path, preset)
    _fill(network, tensors, path, ())
    return network, tuple(saved["classes"]) if "classes" in saved else published_classes(path, network.num_classes)


def save_weights(model: nn.Module, path: str | Path, *, classes: Sequence[str] | None = None) -> None:
    """Writes a network as .safetensors: parameters, preset and, if given, the names of its columns; see load_network.

    Of DataParallel and its kind the network inside is written.

    A file that is there already is replaced at once, or left as it is if the new one cannot be written.

    Raises: ValueError: a suffix other than .safetensors. OSError: the file cannot be written, or `path` is a symbolic
            link.
    """
    if isinstance(inside := getattr(model, "module", None), SSDNetwork):
        model = inside
    if Path(path).suffix != ".safetensors":
        raise ValueError(f"save_weights: {path} must end in .safetensors")
    metadata: dict[str, Any] = {} if classes is None else {"classes": list(classes)}
    if isinstance(model, SSDNetwork):
        metadata["network"] = {"name": model.name, "num_classes": model.num_classes, **model.arguments}
        metadata["preset"] = model.preset.to_dict()
        metadata["preprocessing"] = to_plain(model.preprocessing)
    write_tensors(Path(path), model.state_dict(), metadata)


def _described_network(saved: Mapping[str, Any], path: Path) -> SSDNetwork:
    """The empty network of a file that says what it is of."""
    try:
        network = make_network(**saved["network"])
        if "preset" in saved:
            network.preset = Preset.from_dict(saved["preset"])
        if "preprocessing" in saved:
            network.preprocessing = from_plain(Preprocessing, saved["preprocessing"])
    except (TypeError, ValueError) as error:
        raise ValueError(f"load_network: {path} is of a network that this version cannot make: {error}") from error
    return network


def _recognised_network(tensors: Mapping[str, Tensor], layout: str, path: Path, preset: str | None) -> SSDNetwork:
    """The empty network that has such tensors."""
    arguments = recognize(tensors)
    if arguments is None:
        raise ValueError(f"load_network: {path} is of no known network; its tensors are {first_names(tensors)}")
    network = make_network(**arguments)
    try:
        adopt_dialect(network, layout, preset)
    except ValueError as error:
        raise ValueError(f"load_network: {path}: {error}") from error
    return network


def _converted(tensors: Mapping[str, Tensor], path: Path, layout: str) -> tuple[dict[str, Tensor], str]:
    """The tensors under this package's names, and the layout that they had."""
    try:
        found = detect(tensors, layout)
        return convert(tensors, found), found
    except ValueError as error:
        raise ValueError(f"load_weights: {path}: {error}") from error


def _fill(model: nn.Module, tensors: Mapping[str, Tensor], path: Path, exclude: tuple[str, ...]) -> None:
    given = {name: tensor for name, tensor in tensors.items() if not name.startswith(exclude)}
    wanted = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(exclude)}
    if found := differences(given, wanted):
        columns = model.num_classes if isinstance(model, SSDNetwork) else None
        text = explanation(given, wanted, found, columns)
        raise ValueError(f"load_weights: {path} does not fit {type(model).__name__}: {text}")
    with torch.no_grad():
        for name, parameter in wanted.items():
            if name in given:
                parameter.copy_(given[name])
