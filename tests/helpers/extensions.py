"""Builds of the compiled extension other than the installed one, as modules beside it."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from helpers.paths import ROOT
from ssd_fast import _backend

EMULATED_BUILD = ROOT / "build" / "tests"


@functools.cache
def load_extension(path: Path) -> ModuleType:
    """Load a build of the extension, beside the installed one."""
    spec = importlib.util.spec_from_file_location(path.name.partition(".")[0], path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def find_emulated() -> Path | None:
    """Find the test-only build of the extension, which runs the source of the CUDA kernels on CPU arrays."""
    return min(EMULATED_BUILD.glob("_C_emulated*.so"), default=None)


@contextlib.contextmanager
def using_extension(extension: Any) -> Iterator[None]:
    """Let the ops run the kernels of this build."""
    before, _backend.C = _backend.C, extension
    try:
        yield
    finally:
        _backend.C = before
