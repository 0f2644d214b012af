"""One writer for a folder, by a lock that the kernel releases when its process ends, however it ends."""

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
    """Keeps other writers out of a folder, those of this process included. Readers need no lock.

    The file `.lock` stays in the folder: if each writer removed it, the next two could hold locks of different files.
    On a file system without locks there is a warning, and nothing keeps others out.

    Yields:
        a function that raises CheckpointError if the folder was removed or replaced since, and with it the lock.

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
            raise CheckpointError(
                f"{folder}: was removed or replaced while it was written into; nothing more is written"
            )

        require_held()
        yield require_held


def _lock(file: BinaryIO, folder: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise CheckpointError(
            f"{folder}: another process is writing into it: wait for it to end, stop it (`fuser {file.name}` names it) "
            "or choose another folder"
        ) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        warnings.warn(
            f"{folder}: its file system has no locks ({error.strerror}): see that one process at a time writes into it",
            RuntimeWarning,
            stacklevel=2,
        )


def _forget() -> None:
    """Lets go of the locks in a forked process, such as a worker that augments images, which may outlive its parent."""
    for file in _held:
        file.close()
    _held.clear()


os.register_at_fork(after_in_child=_forget)
