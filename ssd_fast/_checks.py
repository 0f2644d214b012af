"""What specs and functions check about their arguments. Each check returns the value as plain, hashable Python.

NumPy's numbers count as numbers, and lists, arrays and tensors as rows: sizes are often computed. The kernels compute
in float32, so a number has to be one there too.
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

_MOST = 2**31 - 1  # what the kernels count to
_LEAST_NORMAL, _OVERFLOW = 2.0**-126, 2.0**128  # of float32
_LONGEST = 200  # characters of a value in a message
_LONGEST_ROW = 4096  # entries: far more than any field takes
_CHOICES_NAMED_BY_HINT = 5  # from so many choices on, a message says which one is probably meant


def require(condition: bool, owner: str, field: str, expected: str, given: object) -> None:
    """Raises ValueError naming owner, field, what was expected and what was given, unless the condition holds."""
    if not condition:
        raise ValueError(f"{owner}: {field}: expected {expected}, got {shown(given)}")


def shown(value: object) -> str:
    """The value as messages show it: on one line, and not too long."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # an int of too many digits, a list that is too deep
        return f"a {type(value).__name__}"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def freeze(spec: object, **fields: object) -> None:
    """Sets fields of a frozen dataclass to what the checks returned."""
    for name, value in fields.items():
        object.__setattr__(spec, name, value)


def instance(owner: str, field: str, value: Any, kind: type, expected: str = "") -> Any:
    """The value, of the given type.

    Raises:
        TypeError: the message names owner, field, what was expected and what was given.
    """
    if isinstance(value, kind):
        return value
    raise TypeError(f"{owner}: {field}: expected {expected or f'a {kind.__name__}'}, got {type(value).__name__}")


def as_float(value: object) -> float | None:
    """A number as a float, infinities and NaN included; None for anything else. A bool is not a number."""
    value = _plain(value)
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf  # type: ignore[operator]


def as_float32(value: object) -> float | None:
    """A number as float32 has it, or None: also for a finite number that would become infinite, 0 or subnormal there.

    0 would turn what is positive into nothing, and the inverse of a subnormal number may be infinite.
    """
    number = as_float(value)
    if number is None:
        return None
    if number == 0 or not math.isfinite(number):
        return number
    mantissa, exponent = math.frexp(number)
    # 24 bits, the even one of two equally near, by arithmetic that torch.compile traces (np.float32 it does not).
    rounded = math.ldexp(round(math.ldexp(mantissa, 24)), exponent - 24)
    return rounded if _LEAST_NORMAL <= abs(rounded) < _OVERFLOW else None


def as_int(value: object, least: int = 0, most: int = _MOST) -> int | None:
    """A whole number within the limits; None for anything else."""
    value = _plain(value)
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        return None
    whole = int(value)
    return whole if least <= whole <= most else None


def as_row(value: object, least: int = 0, most: int = _LONGEST_ROW) -> tuple[Any, ...] | None:
    """A tuple, list or array of so many entries as a tuple; None for anything else."""
    value = _plain(value)
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)) or not least <= len(value) <= most:
        return None
    return tuple(value)


def _plain(value: Any) -> Any:
    """An array or tensor as lists and numbers, anything else as it is."""
    try:
        return value.tolist() if isinstance(value, (np.ndarray, torch.Tensor)) else value
    except (RuntimeError, TypeError):  # a tensor without values, such as those of the meta device
        return value


def number(
    owner: str, field: str, value: object, expected: str, accepts: Callable[[float], bool] = math.isfinite
) -> float:
    """A finite number that is accepted, both as it is and as float32 has it."""
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
    """Below 2**31, to which float32 rounds the largest such numbers up."""
    return 0 <= value <= 2**31


def integer(owner: str, field: str, value: object, expected: str, least: int = 0) -> int:
    """A whole number from `least` to 2**31 - 1."""
    whole = as_int(value, least)
    require(whole is not None, owner, field, expected, value)
    assert whole is not None
    return whole


def flag(owner: str, field: str, value: object) -> bool:
    """True or False."""
    require(isinstance(value, (bool, np.bool_)), owner, field, "True or False", value)
    return bool(value)


def choice(owner: str, field: str, value: object, allowed: Sequence[str]) -> Any:
    """One of some words. Where there are many, the error says which one is probably meant."""
    if isinstance(value, str) and value in allowed:
        return str(value)
    if len(allowed) < _CHOICES_NAMED_BY_HINT:
        expected, near = " or ".join(map(repr, allowed)), []
    else:
        expected = f"one of {', '.join(allowed)}"
        near = difflib.get_close_matches(value, allowed, 1) if isinstance(value, str) else []
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"{owner}: {field}: expected {expected}, got {shown(value)}{hint}")


def row(
    owner: str, field: str, value: object, expected: str, least: int = 0, most: int = _LONGEST_ROW
) -> tuple[Any, ...]:
    """A tuple, list or array of so many entries."""
    entries = as_row(value, least, most)
    require(entries is not None, owner, field, expected, value)
    assert entries is not None
    return entries


def one_a_map(owner: str, field: str, value: object, maps: int) -> tuple[Any, ...]:
    """A row with an entry for each feature map."""
    return row(owner, field, value, f"{maps} entries, one for each map", maps, maps)


def positive_numbers(owner: str, field: str, values: object) -> tuple[float, ...]:
    """A row of positive numbers."""
    expected = "finite positive numbers"
    return tuple(number(owner, field, value, expected, is_positive) for value in row(owner, field, values, expected))


def as_path(owner: str, field: str, value: Any, expected: str = "the path of a file") -> Path:
    """A path.

    Raises:
        TypeError for what is not one; ValueError for no characters or a NUL, which no path has.
    """
    try:
        path = Path(value)
    except TypeError as error:
        raise TypeError(f"{owner}: {field}: expected {expected}, got {shown(value)}") from error
    require(value != "" and "\0" not in str(path), owner, field, expected, value)
    return path


def size(owner: str, field: str, value: object) -> tuple[int, int]:
    """(height, width)."""
    sides = [as_int(side, 1) for side in as_row(value, 2, 2) or (None,)]
    require(None not in sides, owner, field, "(height, width), both ints of at least 1", value)
    return sides[0], sides[1]  # type: ignore[return-value]
