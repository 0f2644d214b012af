"""What the specs check when they are made."""

from __future__ import annotations

import math
from collections.abc import Sized


def require(condition: bool, spec: str, field: str, expected: str, given: object) -> None:
    """Raises ValueError naming spec, field, what was expected and what was given, unless the condition holds."""
    if not condition:
        raise ValueError(f"{spec}: {field}: expected {expected}, got {given!r}")


def require_one_a_map(spec: str, feature_maps: Sized, **fields: Sized) -> None:
    """Raises ValueError naming spec, field, what was expected and given, unless each field has an entry a map."""
    for field, entries in fields.items():
        ok = len(entries) == len(feature_maps)
        require(ok, spec, field, f"{len(feature_maps)} entries, one a map", entries)


def is_row(value: object, length: int | None = None) -> bool:
    """A tuple or a list, of so many entries if the length is given."""
    return isinstance(value, (tuple, list)) and length in (None, len(value))


def is_finite(value: object) -> bool:
    """A number, not NaN or infinite."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def is_int(value: object, least: int = 0) -> bool:
    """An int from `least` to the largest that the kernels count to, and no bool."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= 2**31 - 1
