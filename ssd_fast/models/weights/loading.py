"""Load the weights of a network, or the network that a weight file belongs to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..._checks import as_path, choice, instance, require, row
from ...presets import Preset
from ...specs._json import from_plain
from .._uninitialized import NothingDrawn, without_weights
from ..network import SSDNetwork, require_rows
from ..preprocessing import Preprocessing
from ..registry import list_networks, make_network
from .files import read_metadata, read_tensors
from .filling import fill, require_fit
from .layouts import LAYOUTS, convert, detect_layout
from .metadata import class_names
from .mismatch import first_names, require_numbers
from .recognition import adopt_dialect, published_classes, recognize

__all__ = ["load_network", "load_weights", "read_network"]

_LAYOUTS = ("auto", *LAYOUTS)


def load_weights(
    model: nn.Module, path: str | Path, layout: str = "auto", *, exclude: str | Sequence[str] = ()
) -> None:
    """Fill a network from a file, completely or not at all.

    Only tensors are taken: `model.preset` and `model.preprocessing` stay, and another project's may differ;
    `load_network` sets them too.

    Args:
        model: a network of `ssd_fast.models`.
        path: a .safetensors file, or a .pth / .pt file of tensors, bare or under the key "model" or "state_dict".
            Nothing in it is executed, which requires torch 2.6 for .pth and .pt. Values are converted to the dtype and
            device of each parameter.
        layout: the project whose names the file's tensors have: "own", "torchvision", "amdegroot", "lufficc",
            "qfgaohao", "mmdetection", "nvidia" (see `ssd_fast.models.weights.layouts`), or "auto" to find out.
        exclude: name prefixes of the network's parameters to leave as they are, such as "class_heads" to fine-tune the
            shipped weights for other classes.

    Raises:
        FileNotFoundError: no such file.
        ValueError: an unknown layout or suffix, a prefix that is empty or that no parameter has, a damaged file, a file
            of another layout, or a file of another network; the message then lists the tensors that are missing,
            unknown or of another shape.
        RuntimeError: a .pth or .pt file with a torch before 2.6. The model is unchanged.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from ssd_fast import models
        >>> first, second = (models.ssd_tiny(3, (32, 32)) for _ in range(2))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "weights.safetensors")
        ...     models.save_weights(first, path)
        ...     models.load_weights(second, path, exclude="class_heads")
        >>> bool((second.stem.conv.weight == first.stem.conv.weight).all())
        True
    """
    choice("load_weights", "layout", layout, _LAYOUTS)
    instance("load_weights", "model", model, nn.Module, "a network")
    excluded = (exclude,) if isinstance(exclude, str) else row("load_weights", "exclude", exclude, "name prefixes")
    names = model.state_dict().keys()
    for prefix in excluded:
        ok = isinstance(prefix, str) and prefix != "" and any(name.startswith(prefix) for name in names)
        expected = f"prefixes of {type(model).__name__}'s parameter names"
        require(ok, "load_weights", "exclude", expected, prefix)
    path = as_path("load_weights", "path", path)
    tensors, _ = _converted(_tensors(path, "load_weights"), path, layout, "load_weights")
    fill(model, tensors, path, excluded, "load_weights")


def load_network(path: str | Path, *, preset: str | None = None) -> tuple[SSDNetwork, tuple[str, ...] | None]:
    """Load the network that a file's tensors belong to, and the names of its class columns (None if unknown).

    A file of save_weights names its network and holds its preset and class names. Any other file is recognized by its
    tensors, and a file of another project gets that project's preset and normalization. The names are COCO's for the
    file that ships with this package and for those that torchvision publishes.

    Args:
        path: as for load_weights.
        preset: the name of the preset with which another project's network was trained, such as "mmdet_ssd300_voc",
            for files whose number of class columns does not tell. Whatever the conversion of the weights changes, such
            as the column of the background, is changed in the preset too.

    Raises:
        FileNotFoundError: no such file.
        ValueError: as load_weights; or no network of this package has such tensors, another project's file could have
            been trained with several sets of default boxes and `preset` is None, or `preset` is not one of them.
        RuntimeError: as load_weights.

    Examples:
        >>> from ssd_fast import models
        >>> from ssd_fast.assets import weights_path
        >>> network, classes = models.load_network(weights_path("coco"))
        >>> network.name, network.num_classes, classes[17]
        ('ssdlite300_mobilenet_v2', 91, 'cat')
    """
    return read_network(as_path("load_network", "path", path), preset, "load_network")


def read_network(path: Path, preset: str | None, op: str) -> tuple[SSDNetwork, tuple[str, ...] | None]:
    """Load a network as load_network does, for the public function `op`, whose name begins the messages."""
    tensors = _tensors(path, op)
    saved = read_metadata(path, op)
    if "network" in saved:
        if preset is not None:
            raise ValueError(f"{op}: {path}: preset: expected None, since the file holds its own, got {preset!r}")
        network = _described_network(saved, tensors, path, op)
    else:
        tensors, layout = _converted(tensors, path, "auto", op)
        network = _recognized_network(tensors, layout, path, preset, op)
    columns = network.num_classes
    if "classes" in saved:
        classes: tuple[str, ...] | None = class_names(saved["classes"], columns, f"{op}: {path}")
    else:
        classes = published_classes(path, columns)
    fill(network, tensors, path, (), op)
    return network, classes


def _described_network(saved: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path, op: str) -> SSDNetwork:
    """Make the empty network that a file's metadata describes."""

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
            name = described.get("name") if isinstance(described := saved["network"], dict) else None
            hint = ""
            if isinstance(name, str) and name not in list_networks():
                hint = " (if the network is your own, first import the module that registers it)"
            raise ValueError(f"{op}: {path} holds a network that this version cannot make: {error}{hint}") from error
        return network

    return _made(make, tensors, path, op)


def _recognized_network(
    tensors: Mapping[str, Tensor], layout: str, path: Path, preset: str | None, op: str
) -> SSDNetwork:
    """Make the empty network to which the tensors belong."""
    arguments = recognize(tensors)
    if arguments is None:
        raise ValueError(f"{op}: {path} holds no known network; its tensors are {first_names(tensors)}")

    def make() -> SSDNetwork:
        network = make_network(**arguments)
        try:
            adopt_dialect(network, layout, preset)
        except ValueError as error:
            raise ValueError(f"{op}: {path}: {error}") from error
        return network

    return _made(make, tensors, path, op)


def _made(make: Callable[[], SSDNetwork], tensors: Mapping[str, Tensor], path: Path, op: str) -> SSDNetwork:
    """Make the network only if it fits its file: the sizes that a file states could take all memory."""
    with without_weights():
        shapes = make()
    require_fit(shapes, tensors, path, (), op)
    with NothingDrawn():
        network = make()
    try:
        require_rows(network.eval())
    except ValueError as error:
        raise ValueError(f"{op}: {path}: {error}") from error
    return network.train()


def _tensors(path: Path, op: str) -> dict[str, Tensor]:
    return require_numbers(read_tensors(path, op), path, op)


def _converted(tensors: Mapping[str, Tensor], path: Path, layout: str, op: str) -> tuple[dict[str, Tensor], str]:
    """Convert the tensors to this package's names; also return their layout."""
    try:
        found = detect_layout(tensors, layout)
        return convert(tensors, found), found
    except ValueError as error:
        raise ValueError(f"{op}: {path}: {error}") from error
