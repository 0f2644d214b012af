"""Write files atomically: beside the old file, then renamed into its place."""

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
    """A file or folder cannot be written: the message says which and why."""

    def __str__(self) -> str:
        return f"{self.filename}: cannot be written: {self.strerror}"


@contextlib.contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turn every OSError of the `with` block into a WriteError that names `path`."""
    try:
        yield
    except OSError as error:
        raise WriteError(error.errno, error.strerror or str(error), str(path)) from error


def require_output_file(path: Path) -> None:
    """Raise WriteError if something that is not a regular file is at `path`.

    A symbolic link is refused rather than followed, so that nothing is written where its creator pointed. Links
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
    """Write a file atomically: whatever happens meanwhile, `path` holds the whole old file or the whole new one.

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
            os.fsync(folder)  # so that the new name survives a power cut too
        finally:
            os.close(folder)


def remove_partials(path: Path) -> None:
    """Remove the files that killed writers of `path` left beside it. Only the folder's one writer may call this."""
    with write_errors(path):
        for pattern in (
            f"{_PARTIAL}{path.name}",
            f"{_PARTIAL}????????-{path.name}",
        ):  # the first is what earlier versions wrote
            for partial in path.parent.glob(pattern):
                partial.unlink()


def append_line(path: Path, line: str) -> None:
    """Append a line to a file, all of it or nothing; after a line that was cut off, begin a new one.

    Raises:
        WriteError: it cannot be written.
    """
    require_output_file(path)
    # Unbuffered: closing the file would write a buffer again, after the failure was undone.
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
