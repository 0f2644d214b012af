"""Name the op and the bytes of a failed allocation, in an error of the type that the array's library raised."""

from __future__ import annotations

from typing import Any


def allocation_error(op: str, error: Exception, num_bytes: int | None = None) -> Exception:
    """Make the error again, of its own type, with the op and the number of bytes that were asked for.

    A type whose text is not what it was made with, such as NumPy's own MemoryError, is replaced by its nearest base
    whose text is.

    Args:
        op: the op that needed the memory.
        error: what the array's library raised.
        num_bytes: None: not known.
    """
    kind: Any = next(base for base in type(error).__mro__ if base.__str__ is BaseException.__str__)
    wanted = "more memory" if num_bytes is None else f"{num_bytes} bytes of memory"
    given = " ".join(str(error).split()) or type(error).__name__
    again: Exception = kind.__new__(kind)  # without __init__, whose parameters only its library knows
    again.args = (f"{op}: expected {wanted}, got {given}",)
    again.__dict__.update(error.__dict__)
    return again
