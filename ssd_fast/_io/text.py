"""Make text from files, such as names and labels, safe to show in messages, tables and pictures."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable

__all__ = ["brief", "display_name", "listing", "message_line", "printable", "shortened"]

_MESSAGE, _NAME, _VALUE = 3000, 100, 60  # characters
_LISTED = 20
_BREAK = re.compile(r"\s*\n\s*")

_ENTRIES, _DEPTH = 16, 4  # that `brief` shows of a list, tuple, set or dict


def printable(text: str) -> str:
    r"""Replace every character that `repr` would escape by its escape, such as \x1b.

    These are control characters, which could drive a terminal, line breaks, marks that change the direction of text,
    and lone surrogates, which cannot be encoded.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def shortened(text: str, longest: int) -> str:
    """Return the text, without its middle if it is longer than `longest` characters."""
    half = (longest - 5) // 2
    return text if len(text) <= longest else f"{text[:half]} ... {text[-half:]}"


def message_line(text: object) -> str:
    """Return a message as one printable line of a sensible length."""
    return shortened(printable(str(text)), _MESSAGE)


def display_name(name: object) -> str:
    """Return a name as one printable line that fits into a table or a picture."""
    return shortened(printable(str(name)), _NAME)


def brief(value: object, longest: int = _VALUE) -> str:
    """Return the repr of a value of any size and depth as one printable line, without its middle if it is long."""
    bounded = reprlib.Repr()  # stops early in long or deep values; repr itself could exhaust the stack
    for kind in ("list", "tuple", "dict", "set", "frozenset", "deque", "array"):
        setattr(bounded, f"max{kind}", _ENTRIES)
    bounded.maxlevel = _DEPTH
    bounded.maxstring = bounded.maxother = bounded.maxlong = longest
    try:
        text = bounded.repr(value)
    except Exception:  # an int of too many digits, or a __repr__ that fails
        return f"a {type(value).__name__}"
    return shortened(printable(_BREAK.sub(" ", text)), longest)


def listing(names: Iterable[object], most: int = _LISTED) -> str:
    """List the first names, and say how many more there are."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(display_name, names[:most])) + more
