"""Makes text from files, such as names and labels, safe to show in messages, tables and pictures."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable

__all__ = ["brief", "display_name", "listing", "message_line", "printable", "shortened"]

_MESSAGE, _NAME, _VALUE = 3000, 100, 60  # characters
_LISTED = 20

_repr = reprlib.Repr()  # stops early in long or deep values; repr itself could exhaust the stack
_repr.maxstring = _repr.maxother = _repr.maxlong = _VALUE


def printable(text: str) -> str:
    r"""Replaces every character that `repr` would escape by its escape, such as \x1b.

    These are control characters, which could drive a terminal, line breaks, marks that change the direction of text,
    and lone surrogates, which cannot be encoded.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def shortened(text: str, longest: int) -> str:
    """The text, without its middle if it is longer than `longest` characters."""
    half = (longest - 5) // 2
    return text if len(text) <= longest else f"{text[:half]} ... {text[-half:]}"


def message_line(text: object) -> str:
    """A message as one printable line of a sensible length."""
    return shortened(printable(str(text)), _MESSAGE)


def display_name(name: object) -> str:
    """A name as one printable line that fits into a table or a picture."""
    return shortened(printable(str(name)), _NAME)


def brief(value: object) -> str:
    """The repr of a value of any size and depth, without its middle if it is long."""
    return shortened(_repr.repr(value), _VALUE)


def listing(names: Iterable[object], most: int = _LISTED) -> str:
    """The first names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(display_name, names[:most])) + more
