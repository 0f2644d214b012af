"""Convert specs to values that JSON can hold, and back."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, TypeVar

from .._io.text import brief

Spec = TypeVar("Spec")

_INFINITIES = {"inf": math.inf, "-inf": -math.inf}  # JSON cannot spell them


def to_plain(spec: Any) -> dict[str, Any]:
    """Return the fields of a spec as numbers, strings, None and lists of them."""
    return {field.name: _plain(getattr(spec, field.name)) for field in dataclasses.fields(spec)}


def from_plain(kind: type[Spec], fields: Any) -> Spec:
    """Make the spec again from what `to_plain` returned, with the usual checks.

    Raises:
        ValueError: a field is unknown, missing or wrong; the message names it.
    """
    if not isinstance(fields, dict):
        raise ValueError(f"{kind.__name__}: expected its fields by name, got {brief(fields)}")
    try:
        return kind(**{name: _with_infinities(value) for name, value in fields.items()})
    except TypeError as error:
        raise ValueError(f"{kind.__name__}: {error}") from error


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, float) and math.isinf(value) else value


def _with_infinities(value: Any) -> Any:
    """Put infinities back into a field or into a row, whose entries the spec checks and freezes itself."""
    if isinstance(value, list):
        return [_INFINITIES.get(item, item) if isinstance(item, str) else item for item in value]
    return _INFINITIES.get(value, value) if isinstance(value, str) else value
