"""Save the weights of a network, with everything that `load_network` needs to make it again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from ..._checks import as_path, instance
from ...specs._json import to_plain
from ..network import SSDNetwork
from .files import write_tensors
from .metadata import class_names

__all__ = ["save_weights"]


def save_weights(model: nn.Module, path: str | Path, *, classes: Sequence[str] | None = None) -> None:
    """Write a network to a .safetensors file: parameters, preset and optionally the names of its columns (`classes`).

    For DataParallel and similar wrappers, the network inside is written. An existing file is replaced atomically, or
    left as it is if the new one cannot be written. `load_network` reads the file if the network's class is registered
    (`register_network`); for any other, make the network yourself and fill it with `load_weights`.

    Raises:
        ValueError: a suffix other than .safetensors, or a number of names that differs from the columns.
        TypeError: `model` is not a network.
        OSError: the file cannot be written, or `path` is a symbolic link.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from ssd_fast import models
        >>> network = models.ssd_tiny(num_classes=3, size=(32, 32))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "weights.safetensors")
        ...     models.save_weights(network, path, classes=("background", "cat", "dog"))
        ...     loaded, classes = models.load_network(path)
        >>> loaded.name, classes
        ('ssd_tiny', ('background', 'cat', 'dog'))
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
