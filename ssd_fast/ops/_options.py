"""Options of an op by name: one NamedTuple gives torch's schema, the registered op's keywords and C++'s keywords."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from typing import Any

from .. import _backend

_SCHEMA_TYPES: dict[Any, str] = {
    bool: "bool",
    int: "int",
    float: "float",
    int | None: "int?",
    float | None: "float?",
    Sequence[int]: "int[]",
    Sequence[float]: "float[]",
}


def schema_of(options: type) -> str:
    """Spell the fields of a NamedTuple as a torch schema does: "bool sigmoid, int background"."""
    return ", ".join(f"{_SCHEMA_TYPES[kind]} {name}" for name, kind in typing.get_type_hints(options).items())


def as_keywords(options: Any) -> dict[str, Any]:
    """Return the options of an op whose C++ function takes each of them as a keyword."""
    return options._asdict()


def as_object(options: Any) -> Any:
    """Return the options of an op whose C++ function takes them as one object, of the class of the same name."""
    return getattr(_backend.C, type(options).__name__)(**options._asdict())
