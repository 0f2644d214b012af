"""Allow one writer per folder, with a lock that the kernel releases when the process ends in any way."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from .._io.writing import require_output_file, write_errors
from .checkpoint import CheckpointError

__all__ = ["one_writer"]

_NAME = ".lock"
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
_held: set[BinaryIO] = set()


@contextlib.contextmanager
def one_writer(folder: Path) -> Iterator[Callable[[], None]]:
    """Keep other writers out of a folder, including those of this process. Readers need no lock.

    The file `.lock` stays in the folder: if each writer removed it, the next two could hold locks of different files.
    On a file system without locks, a warning is given and nothing keeps others out.

    Yields:
        A function that raises CheckpointError if the folder, and with it the lock, was removed or replaced meanwhile.

    Raises:
        CheckpointError: another writer is in the folder.
        OSError: the file cannot be opened for writing.
    """
    path = folder / _NAME
    require_output_file(path)
    with contextlib.ExitStack() as opened:
        with write_errors(path):
            file = opened.enter_context(open(path, "ab"))
            _lock(file, folder)
        _held.add(file)
        opened.callback(_held.discard, file)

        def require_held() -> None:
            with contextlib.suppress(OSError):
                if os.path.samestat(os.fstat(file.fileno()), path.lstat()):
                    return
            raise CheckpointError(f"{folder}: was removed or replaced during the training; nothing more is written")

        require_held()
        yield require_held


def _lock(file: BinaryIO, folder: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise CheckpointError(
            f"{folder}: another process is writing into it: wait until it ends, stop it (`fuser {file.name}` names it) "
            "or choose another folder"
        ) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        warnings.warn(
            f"{folder}: its file system has no locks ({error.strerror}): let only one process at a time write into it",
            RuntimeWarning,
            stacklevel=2,
        )


def _forget() -> None:
    """Release the locks in a forked process, such as a worker for augmentation, which may outlive its parent."""
    for file in _held:
        file.close()
    _held.clear()


os.register_at_fork(after_in_child=_forget)
