"""Checkpoints, which are written atomically and checked for damage when read."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from .._io.writing import WriteError, replace_file
from ..models.weights.files import load_checked

__all__ = ["CheckpointError", "check_compatible", "read_checkpoint", "write_checkpoint"]

VERSION = 1
_KEYS = {"version", "training", "state"}


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, written or continued, or a folder into which another process is writing."""


def write_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint atomically: at any time, `path` holds the old one or the new one.

    Raises:
        CheckpointError: the checkpoint cannot be written; the message gives the reason, and the old one is untouched.
    """
    buffer = io.BytesIO()  # torch.save could turn an OSError of a file into any error
    torch.save({"version": VERSION, **content}, buffer)
    try:
        replace_file(path, buffer.getbuffer())
    except WriteError as error:
        kept = "the previous checkpoint is intact" if path.exists() else "there is no earlier one"
        raise CheckpointError(f"{error}; {kept}") from error


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a file of write_checkpoint, with its tensors on the CPU. Nothing in the file is executed.

    Raises:
        CheckpointError: the file is damaged or is not a checkpoint of this version.
    """
    try:
        content = load_checked(path)
    except ValueError as error:
        raise CheckpointError(f"{path}: damaged, or not a checkpoint: {error}") from error
    if not isinstance(content, dict) or content.get("version") != VERSION or not set(content) >= _KEYS:
        raise CheckpointError(f"{path}: not a training checkpoint (version {VERSION})")
    return content


def check_compatible(path: Path, saved: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Compare a checkpoint's training with this one, one level deep.

    Raises:
        CheckpointError: they differ; the message names each difference with both values.
    """
    differences = []
    for name, value in expected.items():
        before = saved.get(name)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            for field in sorted({*value, *before}):
                if value.get(field) != before.get(field):
                    differences.append(
                        f"{name}.{field} was {_short(before.get(field))}, now {_short(value.get(field))}"
                    )
        elif before != value:
            differences.append(f"{name} was {_short(before)}, now {_short(value)}")
    if differences:
        raise CheckpointError(
            f"{path}: the training was started with other options or data: repeat its command with --resume added, "
            f"or its Python call with resume=True: {'; '.join(differences)}"
        )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
