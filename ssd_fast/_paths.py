"""The files that users name: what may be read, and what may be written over."""

from __future__ import annotations

import os
import stat

from ._text import message_line, printable

__all__ = ["failure_reason", "require_input_file", "require_output_file"]

_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def require_input_file(path: str | os.PathLike[str], op: str = "") -> None:
    """Refuses what is not a regular file or a link to one: reading a pipe or a device may never end.

    Args:   op: what the message begins with, if anything.
    Raises: FileNotFoundError: nothing is there. ValueError: something else is, or the system refuses the name.
    """
    shown = (f"{op}: " if op else "") + printable(os.fspath(path))
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"{shown}: no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name, or a surrogate
        raise ValueError(f"{shown}: cannot be read: {failure_reason(error)}") from error
    if not stat.S_ISREG(mode):
        raise ValueError(f"{shown}: expected a regular file, got {_kind(mode)}")


def require_output_file(path: str | os.PathLike[str]) -> None:
    """Refuses a path that cannot be written without following a link or overwriting what is not a regular file.

    The folders on the way may be links. Raises: FileExistsError: neither nothing nor a regular file is there.
    """
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):  # of which opening the file tells more
        return
    if not stat.S_ISREG(mode):
        shown = printable(os.fspath(path))
        raise FileExistsError(f"{shown}: expected a new file or a regular file to overwrite, got {_kind(mode)}")


def failure_reason(error: BaseException) -> str:
    """Why something failed: the words of the system without number and path, or those of the error."""
    return message_line(getattr(error, "strerror", None) or error) or type(error).__name__


def _kind(mode: int) -> str:
    return _KINDS.get(stat.S_IFMT(mode), "something else")
