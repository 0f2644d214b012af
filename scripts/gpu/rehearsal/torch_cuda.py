"""Stand-ins for parts of torch.cuda and torch.profiler, so that every line of the GPU programs runs without a GPU.

A call of the extension stands for a kernel: graphs replay these calls, and the profiler lists them. Tensors stay on the
CPU, so the extension is the emulated one.
"""

from __future__ import annotations

import contextlib
import functools
import time
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest import mock

import torch
from torch.autograd import DeviceType
from torch.autograd.profiler_util import FunctionEvent

PROPERTIES = types.SimpleNamespace(name="none, a rehearsal", L2_cache_size=1 << 14, multi_processor_count=1)
FREE_MEMORY = 1 << 32
FORBIDDEN = "CUDA error: operation not permitted when stream is capturing"

_graph: CUDAGraph | None = None  # the one being captured
_launches: list[tuple[str, float, float]] | None = None  # what a profiler sees: name, begin and end in us


def install() -> None:
    """Install the stand-ins for the rest of the process."""
    stand_ins: dict[Any, dict[str, Any]] = {
        torch.cuda: {
            "CUDAGraph": CUDAGraph,
            "Event": Event,
            "Stream": Stream,
            "current_stream": lambda device=None: Stream(),
            "get_device_properties": lambda device=None: PROPERTIES,
            "graph": capturing,
            "mem_get_info": lambda device=None: (FREE_MEMORY, FREE_MEMORY),
            "stream": contextlib.nullcontext,
            "synchronize": synchronize,
        },
        torch.cuda.profiler: {"start": start_range, "stop": stop_range},
        torch.profiler: {"profile": Profile},
    }
    for module, names in stand_ins.items():
        for name, stand_in in names.items():
            getattr(module, name)  # raises if torch no longer has it
            setattr(module, name, stand_in)


class Recorded:
    """A build of the extension whose calls are seen by graphs and profilers."""

    def __init__(self, extension: Any) -> None:
        self._extension = extension

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._extension, name)
        if name.endswith("_workspace") or isinstance(found, type) or not callable(found):
            return found
        return functools.partial(_launch, name, found)


def _launch(name: str, function: Callable[..., Any], *arguments: Any, **options: Any) -> None:
    begin = time.perf_counter_ns() / 1e3
    function(*arguments, **options)
    if _graph is not None:
        _graph.calls.append(functools.partial(_launch, name, function, *arguments, **options))
    if _launches is not None:
        _launches.append((name, begin, time.perf_counter_ns() / 1e3))


# ---- streams and events ---------------------------------------------------------------------------------------------


def synchronize(device: Any = None) -> None:
    if _graph is not None:
        raise RuntimeError(FORBIDDEN)


class Event:
    def __init__(self, enable_timing: bool = False) -> None:
        self._is_timed = enable_timing
        self._time: float | None = None

    def record(self, stream: Any = None) -> None:
        self._time = time.perf_counter()

    def synchronize(self) -> None:
        synchronize()

    def elapsed_time(self, end: Event) -> float:
        """Milliseconds, as in torch."""
        if not (self._is_timed and end._is_timed) or self._time is None or end._time is None:
            raise ValueError("both events must be recorded, with enable_timing=True")
        return (end._time - self._time) * 1e3


class Stream:
    cuda_stream = 0

    def wait_stream(self, stream: Stream) -> None:
        """Do nothing: the CPU runs everything in order."""

    def synchronize(self) -> None:
        synchronize()


# ---- graphs ---------------------------------------------------------------------------------------------------------


class CUDAGraph:
    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []

    def replay(self) -> None:
        for call in self.calls:
            call()


# Methods that read a tensor's values on the host, and so wait for the GPU.
READS = ("item", "tolist", "cpu", "numpy", "nonzero", "__int__", "__index__", "__bool__", "__float__")


def _refuse(*_: Any) -> None:
    raise RuntimeError(FORBIDDEN)


@contextlib.contextmanager
def capturing(graph: CUDAGraph) -> Iterator[None]:
    """Record the calls, and make them too, so that code that uses their results works."""
    global _graph
    refusals: dict[str, Any] = dict.fromkeys(READS, _refuse)
    synchronize()
    _graph = graph
    try:
        with mock.patch.multiple(torch.Tensor, **refusals):
            yield
    finally:
        _graph = None


# ---- profilers ------------------------------------------------------------------------------------------------------


def start_range() -> None:
    global _launches
    _launches = []


def stop_range() -> None:
    """Print what a profiler of the range would have seen."""
    global _launches
    assert _launches is not None, "stopped before it was started"
    print(f"profiled: {' '.join(name for name, *_ in _launches)}", flush=True)
    _launches = None


class Profile:
    """torch.profiler.profile, where each launch is a call on the host, a memset, and a kernel with a C++ name."""

    def __init__(self, activities: Sequence[torch.profiler.ProfilerActivity]) -> None:
        assert torch.profiler.ProfilerActivity.CUDA in activities
        self._events: list[FunctionEvent] = []

    def __enter__(self) -> Profile:
        start_range()
        return self

    def __exit__(self, *_: object) -> None:
        global _launches
        assert _launches is not None
        for number, (name, begin, end) in enumerate(_launches):
            kernel = f"void ssd::(anonymous namespace)::{name}_kernel<float>(ssd::Task<float>, int)"
            for event, kind in (
                ("cudaLaunchKernel", DeviceType.CPU),
                ("Memset (Device)", DeviceType.CUDA),
                (kernel, DeviceType.CUDA),
            ):
                self._events.append(FunctionEvent(number, event, 0, begin, end, device_type=kind, use_device="cuda"))
        _launches = None

    def events(self) -> list[FunctionEvent]:
        return self._events
