"""Checkpoints that are either whole or not there: written beside the old one, then put in its place at once."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

__all__ = ["CheckpointError", "check_compatible", "read_checkpoint", "replace_file", "write_checkpoint"]

VERSION = 1
_KEYS = {"version", "training", "state"}


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, written or continued."""


def write_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a checkpoint; whatever happens meanwhile, `path` holds the old one or the new one.

    Raises: CheckpointError: it cannot be written, with the reason; the old one is then untouched.
    """
    buffer = io.BytesIO()  # torch.save in one go, for it turns an OSError of the file into anything
    torch.save({"version": VERSION, **content}, buffer)

    def write(partial: Path) -> None:
        with open(partial, "wb") as file:
            file.write(buffer.getbuffer())

    try:
        replace_file(path, write)
    except OSError as error:
        kept = "the previous checkpoint is intact" if path.exists() else "there is no earlier one"
        raise CheckpointError(f"{path}: cannot be written: {error.strerror or error}; {kept}") from error


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Has a file written beside `path` and puts it there when all of it is on the disk. Raises: OSError."""
    partial = path.with_name(f".partial-{path.name}")
    try:
        write(partial)
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the new name too survives a power cut
    finally:
        os.close(folder)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What write_checkpoint wrote, its tensors on the CPU. Nothing in the file is executed.

    Raises: CheckpointError: the file is damaged, or no checkpoint of this version.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise CheckpointError(f"{path}: damaged, or no checkpoint: {reason}") from error
    if not isinstance(content, dict) or content.get("version") != VERSION or not set(content) >= _KEYS:
        raise CheckpointError(f"{path}: no checkpoint of a training (version {VERSION})")
    return content


def check_compatible(path: Path, saved: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Compares what a checkpoint's training was with what this one is, one level deep.

    Raises: CheckpointError naming each thing that differs, with both values.
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
        raise CheckpointError(f"{path}: of another training, so it cannot be continued: {'; '.join(differences)}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
