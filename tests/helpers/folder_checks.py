"""A full disk, and a folder that another process writes into, for the tests of written files."""

from __future__ import annotations

import contextlib
import multiprocessing
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ssd_fast.training.lock import one_writer

FORK = multiprocessing.get_context("fork")


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Make writing beyond `size` bytes of a file fail, with EFBIG where a full disk gives ENOSPC."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextlib.contextmanager
def another_writer(folder: Path) -> Iterator[None]:
    """Let another process hold the folder's lock; it is killed at the end."""
    ready = FORK.Event()
    process = FORK.Process(target=_hold, args=(folder, ready))
    process.start()
    try:
        assert ready.wait(60)
        yield
    finally:
        process.kill()
        process.join()


def _hold(folder: Path, ready: Any) -> None:
    with one_writer(folder):
        ready.set()
        signal.pause()
