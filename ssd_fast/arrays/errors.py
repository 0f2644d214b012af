"""A failed allocation by name: an error of the type that the array's library raised, with the op and the bytes."""

from __future__ import annotations

from typing import Any


def allocation_error(op: str, error: Exception, num_bytes: int | None = None) -> Exception:
    """The error again, of its own type, with the op and the bytes asked for.

    Args:
        num_bytes: None: not known, where the kernels allocate.

    A type whose text is not what it was made with, such as NumPy's own MemoryError, is replaced by its nearest base
    for which it is.
    """
    kind: Any = next(base for base in type(error).__mro__ if base.__str__ is BaseException.__str__)
    wanted = "more memory" if num_bytes is None else f"{num_bytes} bytes of memory"
    given = " ".join(str(error).split()) or type(error).__name__
    again: Exception = kind.__new__(kind)  # made without __init__, whose parameters only its library knows
    again.args = (f"{op}: expected {wanted}, got {given}",)
    again.__dict__.update(error.__dict__)
    return again
