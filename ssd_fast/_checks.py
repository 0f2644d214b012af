"""Check the arguments of specs and functions. Each check returns the value as plain, hashable Python.

NumPy's numbers count as numbers, and lists, arrays and tensors as rows, because sizes are often computed. The kernels
compute in float32, so a number has to be a number there too.
"""

from __future__ import annotations

import difflib
import math
import numbers
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ._io.text import brief

_MOST = 2**31 - 1  # the kernels count to this
_LEAST_NORMAL, _OVERFLOW = 2.0**-126, 2.0**128  # in float32
_LONGEST = 200  # characters of a value in a message
_LONGEST_ROW = 4096  # entries: far more than any field takes
_CHOICES_NAMED_BY_HINT = 5  # with this many choices or more, a message suggests the nearest


def require(condition: bool, owner: str, field: str, expected: str, given: object) -> None:
    """Raise ValueError naming owner, field, the expected and the given value, unless the condition holds."""
    if not condition:
        raise ValueError(f"{owner}: {field}: expected {expected}, got {brief(given, _LONGEST)}")


def freeze(spec: object, **fields: object) -> None:
    """Set fields of a frozen dataclass to the values that the checks returned."""
    for name, value in fields.items():
        object.__setattr__(spec, name, value)


def instance(owner: str, field: str, value: Any, kind: type, expected: str = "") -> Any:
    """Return the value if it is of the given type.

    Raises:
        TypeError: it is not; the message names the owner, the field, the expected and the given type.
    """
    if isinstance(value, kind):
        return value
    raise TypeError(f"{owner}: {field}: expected {expected or f'a {kind.__name__}'}, got {type(value).__name__}")


def as_float(value: object) -> float | None:
    """Return a number as a float, infinities and NaN included; None for anything else. A bool is not a number."""
    value = _plain(value)
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf  # type: ignore[operator]


def as_float32(value: object) -> float | None:
    """Round a number to float32; None for anything else, and for a finite number that becomes infinite, 0 or subnormal.

    A positive number must not become 0, and the inverse of a subnormal number may be infinite.
    """
    number = as_float(value)
    if number is None:
        return None
    if number == 0 or not math.isfinite(number):
        return number
    mantissa, exponent = math.frexp(number)
    # To 24 bits, ties to even, by arithmetic that torch.compile can trace (it cannot trace np.float32).
    rounded = math.ldexp(round(math.ldexp(mantissa, 24)), exponent - 24)
    return rounded if _LEAST_NORMAL <= abs(rounded) < _OVERFLOW else None


def as_int(value: object, least: int = 0, most: int = _MOST) -> int | None:
    """Return a whole number within the limits as an int; None for anything else."""
    value = _plain(value)
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        return None
    whole = int(value)
    return whole if least <= whole <= most else None


def as_row(value: object, least: int = 0, most: int = _LONGEST_ROW) -> tuple[Any, ...] | None:
    """Return a tuple, list or array of `least` to `most` entries as a tuple; None for anything else."""
    value = _plain(value)
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)) or not least <= len(value) <= most:
        return None
    return tuple(value)


def _plain(value: Any) -> Any:
    """Turn an array or tensor into lists and numbers; return anything else unchanged."""
    try:
        return value.tolist() if isinstance(value, (np.ndarray, torch.Tensor)) else value
    except (RuntimeError, TypeError):  # a tensor without values, such as one on the meta device
        return value


def number(
    owner: str, field: str, value: object, expected: str, accepts: Callable[[float], bool] = math.isfinite
) -> float:
    """Return a finite number as a float if it is accepted both as given and rounded to float32."""
    exact, rounded = as_float(value), as_float32(value)
    ok = exact is not None and rounded is not None and math.isfinite(exact) and accepts(exact) and accepts(rounded)
    require(ok, owner, field, expected, value)
    assert exact is not None
    return exact


def is_positive(value: float) -> bool:
    return value > 0


def is_not_negative(value: float) -> bool:
    return value >= 0


def is_count(value: float) -> bool:
    """Return whether a count is below 2**31, to which float32 rounds the largest such numbers up."""
    return 0 <= value <= 2**31


def integer(owner: str, field: str, value: object, expected: str, least: int = 0) -> int:
    """Return a whole number from `least` to 2**31 - 1 as an int."""
    whole = as_int(value, least)
    require(whole is not None, owner, field, expected, value)
    assert whole is not None
    return whole


def flag(owner: str, field: str, value: object) -> bool:
    """Return True or False, which the value has to be."""
    require(isinstance(value, (bool, np.bool_)), owner, field, "True or False", value)
    return bool(value)


def choice(owner: str, field: str, value: object, allowed: Sequence[str]) -> Any:
    """Return one of the allowed words. If there are many, the error suggests the nearest."""
    if isinstance(value, str) and value in allowed:
        return str(value)
    if len(allowed) < _CHOICES_NAMED_BY_HINT:
        expected, near = " or ".join(map(repr, allowed)), []
    else:
        expected = f"one of {', '.join(allowed)}"
        near = difflib.get_close_matches(value, allowed, 1) if isinstance(value, str) else []
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"{owner}: {field}: expected {expected}, got {brief(value, _LONGEST)}{hint}")


def row(
    owner: str, field: str, value: object, expected: str, least: int = 0, most: int = _LONGEST_ROW
) -> tuple[Any, ...]:
    """Return a tuple, list or array of `least` to `most` entries as a tuple."""
    entries = as_row(value, least, most)
    require(entries is not None, owner, field, expected, value)
    assert entries is not None
    return entries


def one_per_map(owner: str, field: str, value: object, maps: int) -> tuple[Any, ...]:
    """Return a row with one entry per feature map."""
    return row(owner, field, value, f"{maps} entries, one per map", maps, maps)


def positive_numbers(owner: str, field: str, values: object) -> tuple[float, ...]:
    """Return a row of finite positive numbers."""
    expected = "finite positive numbers"
    return tuple(number(owner, field, value, expected, is_positive) for value in row(owner, field, values, expected))


def as_path(owner: str, field: str, value: Any, expected: str = "the path of a file") -> Path:
    """Return the value as a Path.

    Raises:
        TypeError: it is not a path.
        ValueError: it is empty or contains a NUL.
    """
    try:
        path = Path(value)
    except TypeError as error:
        raise TypeError(f"{owner}: {field}: expected {expected}, got {brief(value, _LONGEST)}") from error
    require(value != "" and "\0" not in str(path), owner, field, expected, value)
    return path


def size(owner: str, field: str, value: object) -> tuple[int, int]:
    """Return (height, width), two ints of at least 1."""
    sides = [as_int(side, 1) for side in as_row(value, 2, 2) or (None,)]
    require(None not in sides, owner, field, "(height, width), both ints of at least 1", value)
    return sides[0], sides[1]  # type: ignore[return-value]
