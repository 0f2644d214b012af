"""Weight files: checked loading, saving, and finding out which network a file belongs to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..._checks import as_path, choice, instance, require, row
from ...presets import Preset
from ...specs._json import from_plain, to_plain
from ..network import SSDNetwork, require_rows
from ..preprocessing import Preprocessing
from ..registry import make_network
from .files import read_metadata, read_tensors, write_tensors
from .layouts import LAYOUTS, convert, detect_layout
from .metadata import class_names
from .mismatch import differences, explanation, first_names, require_numbers
from .recognition import adopt_dialect, published_classes, recognize

__all__ = ["load_network", "load_weights", "save_weights"]

_LAYOUTS = ("auto", *LAYOUTS)


def load_weights(
    model: nn.Module, path: str | Path, layout: str = "auto", *, exclude: str | Sequence[str] = ()
) -> None:
    """Fills a network from a file, completely or not at all.

    Args:
        model: a network of `ssd_fast.models`.
        path: a .safetensors file, or a .pth / .pt file of tensors, bare or under the key "model" or "state_dict".
            Nothing in it is executed, which for .pth and .pt needs torch 2.6. Values are converted to each parameter's
            dtype and device.
        layout: the project whose names the file's tensors have: "own", "torchvision", "amdegroot", "lufficc",
            "qfgaohao", "mmdetection", "nvidia" (see `ssd_fast.models.weights.layouts`), or "auto" to find out.
        exclude: name prefixes of the network's parameters to leave as they are, such as "class_heads" to fine-tune the
            shipped weights for other classes.

    Only tensors are taken: `model.preset` and `model.preprocessing` stay, and another project's may differ;
    `load_network` sets them too.

    Raises:
        FileNotFoundError: no such file.
        ValueError: an unknown layout or suffix, a prefix that is empty or that no parameter has, a damaged file, one of
            another layout, or a file of another network; the message then lists the tensors that are missing, unknown
            or of another shape.
        RuntimeError: a .pth or .pt file, and a torch before 2.6. The model is unchanged.
    """
    choice("load_weights", "layout", layout, _LAYOUTS)
    instance("load_weights", "model", model, nn.Module, "a network")
    excluded = (exclude,) if isinstance(exclude, str) else row("load_weights", "exclude", exclude, "name prefixes")
    names = model.state_dict().keys()
    for prefix in excluded:
        ok = isinstance(prefix, str) and prefix != "" and any(name.startswith(prefix) for name in names)
        expected = f"the beginnings of names of {type(model).__name__}'s parameters"
        require(ok, "load_weights", "exclude", expected, prefix)
    path = as_path("load_weights", "path", path)
    tensors, _ = _converted(require_numbers(read_tensors(path), path), path, layout)
    _fill(model, tensors, path, excluded)


def load_network(path: str | Path, *, preset: str | None = None) -> tuple[SSDNetwork, tuple[str, ...] | None]:
    """The network that a file's tensors belong to, filled from it, and the names of its columns, None if unknown.

    A file of save_weights says which network it is of, and holds its preset and the names that it was given. Any other
    is recognized by its tensors, and one of another project gets that project's preset and normalization. The names are
    COCO's for the file that ships with this package and for those that torchvision publishes.

    Args:
        path: as for load_weights.
        preset: the name of the preset that another project's network was trained with, for files whose number of class
            columns does not tell, such as "mmdet_ssd300_voc"; what is in it that the weights' conversion changes, such
            as the background's column, is changed too.

    Raises:
        as load_weights; ValueError also if no network of this package has such tensors, if another project's file could
            have been trained with several sets of default boxes and preset names none, or if it names one that
            is not of them.
    """
    path = as_path("load_network", "path", path)
    tensors = require_numbers(read_tensors(path), path)
    saved = read_metadata(path)
    if "network" in saved:
        if preset is not None:
            raise ValueError(
                f"load_network: {path}: preset: expected None, since the file holds its own, got {preset!r}"
            )
        network = _described_network(saved, tensors, path)
    else:
        tensors, layout = _converted(tensors, path, "auto")
        network = _recognized_network(tensors, layout, path, preset)
    columns = network.num_classes
    if "classes" in saved:
        classes: tuple[str, ...] | None = class_names(saved["classes"], columns, f"load_network: {path}")
    else:
        classes = published_classes(path, columns)
    _fill(network, tensors, path, ())
    return network, classes


def save_weights(model: nn.Module, path: str | Path, *, classes: Sequence[str] | None = None) -> None:
    """Writes a network as .safetensors: parameters, preset and, if given, the names of its columns; see load_network.

    Of DataParallel and its kind the network inside is written.

    A file that is there already is replaced at once, or left as it is if the new one cannot be written.

    Raises:
        ValueError: a suffix other than .safetensors, not as many names as columns.
        TypeError: not a network.
        OSError: the file cannot be written, or `path` is a symbolic link.
    """
    if isinstance(inside := getattr(model, "module", None), SSDNetwork):
        model = inside
    instance("save_weights", "model", model, nn.Module, "a network")
    path = as_path("save_weights", "path", path)
    if path.suffix != ".safetensors":
        raise ValueError(f"save_weights: {path} must end in .safetensors")
    metadata: dict[str, Any] = {}
    if classes is not None:
        columns = model.num_classes if isinstance(model, SSDNetwork) else None
        metadata["classes"] = class_names(classes, columns, "save_weights")
    if isinstance(model, SSDNetwork):
        metadata["network"] = {"name": model.name, "num_classes": model.num_classes, **model.arguments}
        metadata["preset"] = model.preset.to_dict()
        metadata["preprocessing"] = to_plain(model.preprocessing)
    write_tensors(Path(path), model.state_dict(), metadata)


def _described_network(saved: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path) -> SSDNetwork:
    """The empty network of a file that says what it is of."""

    def make() -> SSDNetwork:
        try:
            described = saved["network"]
            ok = isinstance(described, dict) and {"name", "num_classes"} <= set(described)
            require(ok, "metadata", "network", "an object with name and num_classes", described)
            network = make_network(**described)
            if "preset" in saved:
                network.preset = Preset.from_dict(saved["preset"])
            if "preprocessing" in saved:
                network.preprocessing = from_plain(Preprocessing, saved["preprocessing"])
        except (TypeError, ValueError) as error:
            raise ValueError(f"load_network: {path} is of a network that this version cannot make: {error}") from error
        return network

    return _made(make, tensors, path)


def _recognized_network(tensors: Mapping[str, Tensor], layout: str, path: Path, preset: str | None) -> SSDNetwork:
    """The empty network that has such tensors."""
    arguments = recognize(tensors)
    if arguments is None:
        raise ValueError(f"load_network: {path} is of no known network; its tensors are {first_names(tensors)}")

    def make() -> SSDNetwork:
        network = make_network(**arguments)
        try:
            adopt_dialect(network, layout, preset)
        except ValueError as error:
            raise ValueError(f"load_network: {path}: {error}") from error
        return network

    return _made(make, tensors, path)


def _made(make: Callable[[], SSDNetwork], tensors: Mapping[str, Tensor], path: Path) -> SSDNetwork:
    """The network, made only if it fits its file: the sizes that a file states could take up all memory."""
    with torch.device("meta"):
        shapes = make()
    _require_fit(shapes, tensors, path)
    try:
        require_rows(shapes.eval())
    except ValueError as error:
        raise ValueError(f"load_network: {path}: {error}") from error
    return make()


def _converted(tensors: Mapping[str, Tensor], path: Path, layout: str) -> tuple[dict[str, Tensor], str]:
    """The tensors under this package's names, and the layout that they had."""
    try:
        found = detect_layout(tensors, layout)
        return convert(tensors, found), found
    except ValueError as error:
        raise ValueError(f"load_weights: {path}: {error}") from error


def _fill(model: nn.Module, tensors: Mapping[str, Tensor], path: Path, exclude: tuple[str, ...]) -> None:
    _require_fit(model, tensors, path, exclude)
    with torch.no_grad():
        for name, parameter in model.state_dict().items():
            if name in tensors and not name.startswith(exclude):
                parameter.copy_(tensors[name])


def _require_fit(model: nn.Module, tensors: Mapping[str, Tensor], path: Path, exclude: tuple[str, ...] = ()) -> None:
    """Raises ValueError unless the tensors are the model's by name and shape, but for those with excluded prefixes."""
    given = {name: tensor for name, tensor in tensors.items() if not name.startswith(exclude)}
    wanted = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(exclude)}
    if found := differences(given, wanted):
        columns = model.num_classes if isinstance(model, SSDNetwork) else None
        text = explanation(given, wanted, found, columns)
        raise ValueError(f"load_weights: {path} does not fit {type(model).__name__}: {text}")
