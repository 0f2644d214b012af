"""Parse a weight file's metadata, which anyone may have written, and check it against the tensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..._checks import as_row, require

__all__ = ["class_names", "parse_metadata"]


def parse_metadata(texts: Mapping[str, str], path: Path, op: str) -> dict[str, Any]:
    """Parse the JSON values of a file's metadata.

    Raises:
        ValueError: a value is damaged; the message names the file and the field.
    """
    values = {}
    for key, text in texts.items():
        try:
            values[key] = json.loads(text, object_pairs_hook=_unique, parse_constant=_refused)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{op}: {path} has damaged metadata: {key}: {error}") from error
    return values


def class_names(names: object, columns: int | None, owner: str) -> tuple[str, ...]:
    """Check that there is one class name per column of cls_logits; `columns` is None if their number is unknown.

    Raises:
        ValueError: the message names the owner, the expected value and the given one.
    """
    given = as_row(names, most=2**31)
    require(given is not None, owner, "classes", "a list of names" if columns is None else f"{columns} names", names)
    assert given is not None
    if columns not in (None, len(given)):
        raise ValueError(f"{owner}: classes: expected {columns} names, got {len(given)}")
    for name in given:
        require(isinstance(name, str), owner, "classes", "names that are strings", name)
    return given


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object in which every key occurs once: with two values it would be unclear which one counts."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("a key occurs twice")
    return fields


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
