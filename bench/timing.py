"""Time calls: rivals alternate with us in one loop, on inputs that are warm or rotated past the cache."""

from __future__ import annotations

import itertools
import math
import os
import re
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch

QUICK = os.environ.get("SSD_FAST_BENCH_QUICK") == "1"  # a few rounds, to see that the benchmarks work
ROUNDS = 5 if QUICK else 60
RIVAL_ROUNDS = 2 if QUICK else 4  # at least, unless one call takes longer than RIVAL_SECONDS
RIVAL_SECONDS = float(os.environ.get("SSD_FAST_BENCH_RIVAL_SECONDS", 0.2 if QUICK else 2.0))  # per rival, in total
MOST_COPIES, MOST_BYTES = 1024, 4 << 30  # of the rotated inputs

Item = TypeVar("Item")
Call = Callable[[int], Any]  # runs an implementation on a copy of the inputs, by its number


@dataclass
class Implementation:
    """One way to compute what is timed.

    prepare turns inputs into the arguments of run, untimed. capturable: a CUDA graph can capture it. compiled:
    torch.compile compiles it on its first call. memory: the most bytes that a call takes, where a device may have less.
    absent: why it cannot be timed here.
    """

    name: str
    run: Callable[..., Any] | None = None
    prepare: Callable[..., tuple[Any, ...]] = lambda *inputs: inputs
    capturable: bool = False
    compiled: bool = False
    memory: int = 0
    absent: str | None = None


@dataclass
class Times:
    """Seconds per single call (CUDA: between events), and on a GPU per call in a replayed graph.

    rounds: the round in which each call was made.
    """

    calls: list[float] = field(default_factory=list)
    graph: list[float] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)

    def add(self, seconds: float, in_round: int) -> None:
        self.calls.append(seconds)
        self.rounds.append(in_round)

    def summary(self) -> dict[str, Any]:
        return {"rounds": len(self.calls), "call": spread(self.calls), "graph": spread(self.graph)}

    def compared_with(self, ours: Times) -> dict[str, Any]:
        """A rival's summary, with its time divided by ours of the same round."""
        our_calls = dict(zip(ours.rounds, ours.calls, strict=True))
        calls = zip(self.rounds, self.calls, strict=True)
        return self.summary() | {"ratio": spread([call / our_calls[n] for n, call in calls if n in our_calls])}


def spread(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    quartiles = statistics.quantiles(values, n=4) if len(values) > 1 else [values[0]] * 3
    return {"median": statistics.median(values), "q1": quartiles[0], "q3": quartiles[2], "min": min(values)}


def time_call(call: Call, copy: int, device: torch.device) -> float:
    """Seconds of one call that starts on an idle device."""
    if device.type == "cuda":
        return time_events(lambda: call(copy))
    begin = time.perf_counter()
    call(copy)
    return time.perf_counter() - begin


def time_events(work: Callable[[], Any]) -> float:
    """Seconds between two CUDA events around some work that starts on an idle device."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    work()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3


def time_graph(call: Call, copies: Sequence[int], *, replays: int) -> list[float]:
    """Seconds per call in a CUDA graph with one call per copy: the device's time, without Python's."""
    graph, _ = capture(call, copies)
    return [time_events(graph.replay) / len(copies) for _ in range(replays)]


def capture(call: Call, copies: Sequence[int]) -> tuple[torch.cuda.CUDAGraph, Any]:
    """A CUDA graph with one call per copy, replayed once, and the result of its last call."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for copy in copies[:3]:
            call(copy)
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for copy in copies:
            result = call(copy)
    graph.replay()
    torch.cuda.synchronize()
    return graph, result


def rival_rounds(seconds: float) -> int:
    """In how many rounds a rival is timed whose call takes `seconds`."""
    if seconds > RIVAL_SECONDS:
        return 1
    return max(RIVAL_ROUNDS, min(ROUNDS, int(RIVAL_SECONDS / max(seconds, 1e-9))))


def is_due(index: int, rounds: int) -> bool:
    """Whether a rival that is timed in `rounds` of ROUNDS, evenly spread, is timed in this one."""
    return index * rounds // ROUNDS != (index + 1) * rounds // ROUNDS


def size_of(inputs: Any) -> int:
    """Bytes of all tensors in nested lists and tuples.

    For inputs and results, the least that any implementation must move: each is read or written once.
    """
    if isinstance(inputs, torch.Tensor):
        return inputs.numel() * inputs.element_size()
    return sum(map(size_of, inputs)) if isinstance(inputs, (list, tuple)) else 0


def clone(inputs: Any) -> Any:
    """Nested lists and tuples with copies of their tensors, memory format and all.

    A copy requires grad where its original does, and is a leaf: otherwise the backward pass would reach the copying
    itself, and run on its stream instead of the one that a CUDA graph captures.
    """
    if isinstance(inputs, torch.Tensor):
        return inputs.detach().clone().requires_grad_(inputs.requires_grad)
    return type(inputs)(map(clone, inputs)) if isinstance(inputs, (list, tuple)) else inputs


def last_level_cache(device: torch.device) -> int:
    """Bytes of the last cache before memory."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).L2_cache_size)
    sizes = [16 << 20]
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        found = re.fullmatch(r"(\d+)([KM])", path.read_text().strip())
        if found:
            sizes.append(int(found[1]) << (10 if found[2] == "K" else 20))
    return max(sizes)


def number_of_copies(size: int, cache: int) -> tuple[int, bool]:
    """(how many copies of `size` bytes to rotate through, whether together they exceed twice the last cache)."""
    wanted = math.ceil(2 * cache / max(size, 1)) + 1
    copies = max(2, min(wanted, MOST_COPIES, MOST_BYTES // max(size, 1)))
    return copies, copies >= wanted


def bandwidth(device: torch.device) -> float:
    """Bytes per second that a large copy reads and writes; the byte limits are computed from it."""
    size = 1 << 30 if device.type == "cuda" else 1 << 28
    return copied_per_second(size, device, lambda work: time_call(lambda _: work(), 0, device))


def copied_per_second(size: int, device: torch.device, time_work: Callable[[Callable[[], Any]], float]) -> float:
    """Bytes per second that the fastest of several copies of `size` bytes reads and writes."""
    source = torch.zeros(size // 4, dtype=torch.float32, device=device)
    target = torch.empty_like(source)
    times = [time_work(lambda: target.copy_(source)) for _ in range(12)]
    return 2 * size / min(times[2:])


def in_turns(items: Sequence[Item], group: Callable[[Item], Any]) -> list[Item]:
    """Each group's first item, then each group's second, and so on."""
    groups: dict[Any, list[Item]] = {}
    for item in items:
        groups.setdefault(group(item), []).append(item)
    turns = itertools.zip_longest(*groups.values(), fillvalue=None)
    return [item for turn in turns for item in turn if item is not None]


def rotation(copies: int) -> Callable[[], int]:
    """A function that returns the number of the next copy, round and round."""
    numbers = itertools.cycle(range(copies))
    return lambda: next(numbers)
