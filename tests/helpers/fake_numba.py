"""As much of Numba as the ops use, on host memory, with any number of GPUs that the emulator knows of.

`install` puts it in Numba's place. Facts about an array that Numba does not tell, or tells by accident of its making,
are left out or wrong here, too.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest


class Array:
    """A device array. `gpu` holds its memory; Numba itself names only the context that was current, `named`."""

    __module__ = "numba.cuda"

    def __init__(self, memory: np.ndarray, stream: int, gpu: int, named: int) -> None:
        self.memory, self.stream, self.gpu = memory, stream, gpu
        self.shape, self.strides, self.dtype = memory.shape, memory.strides, memory.dtype
        self.ndim, self.nbytes = memory.ndim, memory.nbytes
        self.gpu_data = SimpleNamespace(context=SimpleNamespace(device=SimpleNamespace(id=named)))

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        address = self.memory.ctypes.data if self.memory.size else 0
        strides = None if self.is_c_contiguous() else self.strides
        fields = {"shape": self.shape, "typestr": self.dtype.str, "strides": strides, "data": (address, False)}
        return fields | {"stream": self.stream or None, "version": 3}

    def is_c_contiguous(self) -> bool:
        """Compare the strides of all axes, even those with one element, unlike NumPy's flag."""
        ends = [size * stride for size, stride in zip(self.shape, self.strides, strict=True)]
        return 0 in self.shape or [*self.strides] == [*ends[1:], self.dtype.itemsize][: self.ndim]

    def copy_to_device(self, host: np.ndarray) -> None:
        self.memory[...] = host

    def __getitem__(self, index: Any) -> Any:
        found = self.memory[index]
        return Array(found, self.stream, self.gpu, self.gpu) if isinstance(found, np.ndarray) else found


class Numba:
    """Numba's module `cuda`, with a current GPU."""

    def __init__(self, emulator: Any) -> None:
        self.emulator, self.current = emulator, 0
        self.gpus = _Gpus(self)

    @contextlib.contextmanager
    def on(self, gpu: int) -> Iterator[None]:
        former, self.current = self.current, gpu
        yield
        self.current = former

    def to_device(self, host: np.ndarray, stream: int = 0) -> Array:
        """Return a copy with the strides of the original, which may be any along an axis of one element."""
        memory = np.lib.stride_tricks.as_strided(host.copy("K"), host.shape, host.strides)
        array = Array(memory, stream, self.current, self.current)
        if array.memory.size:
            self.emulator.place(array.memory.ctypes.data, self.current)
        return array

    def device_array(self, shape: tuple[int, ...], dtype: str, stream: int = 0) -> Array:
        return self.to_device(np.empty(shape, dtype), stream)


class _Gpus:
    def __init__(self, numba: Numba) -> None:
        self.numba = numba

    def __getitem__(self, gpu: int) -> contextlib.AbstractContextManager[None]:
        return self.numba.on(gpu)


def install(monkeypatch: pytest.MonkeyPatch, emulator: Any) -> Numba:
    numba = Numba(emulator)
    package = ModuleType("numba")
    package.cuda = numba  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "numba", package)
    return numba
