"""Decide which of the files that users name may be read."""

from __future__ import annotations

import os
import re
import stat
from typing import Any

from .text import message_line, printable

__all__ = ["failure_reason", "kind_of", "require_input_file", "shown_path"]

_ADDRESS = re.compile(r"(https?|ftp|s3|gs):/+")

_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def require_input_file(path: str | os.PathLike[str], op: str = "") -> None:
    """Require a regular file or a link to one, because reading a pipe or a device may never end.

    Args:
        op: the name that messages begin with, if any.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the path names something else, or the system refuses the name.
    """
    shown = (f"{op}: " if op else "") + shown_path(path)
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        is_address = _ADDRESS.match(os.fsdecode(path))
        why = "web addresses are not read: download the file first" if is_address else "no such file"
        raise FileNotFoundError(f"{shown}: {why}") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name, or a surrogate
        raise ValueError(f"{shown}: cannot be read: {failure_reason(error)}") from error
    if not stat.S_ISREG(mode):
        raise ValueError(f"{shown}: expected a regular file, got {kind_of(mode)}")


def shown_path(path: str | os.PathLike[Any]) -> str:
    """Return a path as messages show it: printable, and a web address with the slash that pathlib removed."""
    return _ADDRESS.sub(r"\1://", printable(os.fsdecode(path)), count=1)


def failure_reason(error: BaseException) -> str:
    """Return the reason of an error: the system's words without number and path, or the error's own message."""
    return message_line(getattr(error, "strerror", None) or error) or type(error).__name__


def kind_of(mode: int) -> str:
    """Name the kind of file that a mode stands for."""
    return _KINDS.get(stat.S_IFMT(mode), "something else")
