"""Files that are either whole or not there: written beside the old one, then put in its place at once."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from .paths import kind_of

__all__ = ["WriteError", "append_line", "remove_partials", "replace_file", "require_output_file", "write_errors"]

_PARTIAL = ".partial-"


class WriteError(OSError):
    """A file or folder that cannot be written: which one and why."""

    def __str__(self) -> str:
        return f"{self.filename}: cannot be written: {self.strerror}"


@contextlib.contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turns every OSError into a WriteError of `path`."""
    try:
        yield
    except OSError as error:
        raise WriteError(error.errno, error.strerror or str(error), str(path)) from error


def require_output_file(path: Path) -> None:
    """Raises: WriteError: `path` is taken by something that is not a regular file.

    A symbolic link is refused rather than followed, so that nothing is written where the link's maker pointed. Links
    among the folders that lead to `path` are followed.
    """
    with write_errors(path):
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISREG(mode):
            expected = "expected a new file or a regular file to overwrite"
            raise OSError(errno.EEXIST, f"{expected}, got {kind_of(mode)}")


def replace_file(path: Path, content: bytes | memoryview) -> None:
    """Puts a file of this content at `path`. Whatever happens meanwhile, the old file or the new one is there, whole.

    Raises:
        WriteError: it cannot be written.
    """
    require_output_file(path)
    partial = path.with_name(f"{_PARTIAL}{secrets.token_hex(4)}-{path.name[:50]}")  # its length is limited
    with write_errors(path):
        try:
            with open(partial, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        except BaseException:
            with contextlib.suppress(OSError):
                partial.unlink()
            raise
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the new name too survives a power cut
        finally:
            os.close(folder)


def remove_partials(path: Path) -> None:
    """Removes what killed writers of `path` left beside it. Only for the one writer of the folder."""
    with write_errors(path):
        for pattern in (
            f"{_PARTIAL}{path.name}",
            f"{_PARTIAL}????????-{path.name}",
        ):  # the first as earlier versions named it
            for partial in path.parent.glob(pattern):
                partial.unlink()


def append_line(path: Path, line: str) -> None:
    """Adds a line to a file, all of it or nothing; after a line that was cut off it begins a new one.

    Raises:
        WriteError: it cannot be written.
    """
    require_output_file(path)
    # Unbuffered: a buffer would be written again when the file is closed, after the failure was undone.
    with write_errors(path), open(path, "ab+", buffering=0) as file:
        length = file.seek(0, os.SEEK_END)
        file.seek(max(length - 1, 0))
        cut_off = file.read(1) not in (b"", b"\n")
        rest = memoryview(("\n" * cut_off + line + "\n").encode())
        try:
            while rest:
                rest = rest[file.write(rest) :]
        except BaseException:
            file.truncate(length)
            raise
