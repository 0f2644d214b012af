"""The backend of an op in a test, and the emulated extension, without which a test is skipped or fails."""

from __future__ import annotations

import os
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NoReturn

import pytest
import torch

from helpers.extensions import find_emulated, load_extension


@dataclass(frozen=True)
class Backend:
    """A place where ops run: the CPU kernels, the CUDA kernels under the emulator (on CPU tensors), or a GPU."""

    name: str
    device: torch.device

    def to(self, x: Any) -> Any:
        """Return x, a tensor or a list or tuple of tensors, on the backend's device."""
        return type(x)(self.to(item) for item in x) if isinstance(x, (list, tuple)) else x.to(self.device)


def emulated_extension() -> ModuleType:
    """Load the test-only build of the extension, which runs the source of the CUDA kernels on CPU arrays."""
    found = find_emulated()
    if found is None:
        skip_or_fail("SSD_FAST_REQUIRE_EMULATED", "the emulated extension is not built (make test builds it)")
    return load_extension(found)


def skip_or_fail(variable: str, reason: str) -> NoReturn:
    if os.environ.get(variable) == "1":
        pytest.fail(f"{reason}, and {variable}=1 requires it")
    pytest.skip(reason)
