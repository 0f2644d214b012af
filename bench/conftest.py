"""The fixture `race`: verify our result, then time us and the rivals in one loop, and record all of it."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from rivals import COMPILE, choose, free_memory
from timing import (
    RIVAL_SECONDS,
    ROUNDS,
    Implementation,
    Times,
    bandwidth,
    clone,
    in_turns,
    is_due,
    last_level_cache,
    number_of_copies,
    rival_rounds,
    rotation,
    size_of,
    time_call,
    time_graph,
)

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))  # for its comparators
sys.path.append(str(Path(__file__).resolve().parents[1] / "scripts"))

from gpu.findings import lost_context

AVAILABLE = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
DEVICES = os.environ.get("SSD_FAST_BENCH_DEVICES", ",".join(AVAILABLE)).split(",")

bandwidth = functools.cache(bandwidth)

Race = Callable[..., None]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the cases so that a run that is cut short has timed every op."""
    items[:] = in_turns(items, lambda item: item.nodeid.partition("[")[0])


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


@pytest.fixture(params=["warm", "rotated"])
def memory(request: pytest.FixtureRequest) -> str:
    """warm: the same inputs in every call. rotated: copies that together exceed the last-level cache."""
    return str(request.param)


@pytest.fixture
def race(benchmark: Any, memory: str) -> Race:
    """race(op, inputs, ours, rivals, verify=..., ...): see `_run`."""
    return functools.partial(_run, benchmark, memory)


def _run(
    benchmark: Any,
    memory: str,
    op: str,
    inputs: tuple[Any, ...],
    ours: Implementation,
    rivals: Sequence[Implementation],
    *,
    verify: Callable[[Any], None],
    **parameters: Any,
) -> None:
    """Verify our result, then time everyone in turn. Each round times one of our calls; its untimed setup makes one
    call of each rival that is due (slow rivals sit out most rounds).

    verify raises if our result is wrong. parameters: those of the case, for the report.
    """
    device = next(x.device for x in _tensors(inputs))
    assert ours.run is not None
    rivals = choose(rivals, free_memory(device))
    if COMPILE == "only" and all(rival.absent for rival in rivals):
        pytest.skip("torch.compile is not a rival in this case")
    with torch.inference_mode():
        result = ours.run(*ours.prepare(*inputs))
        verify(result)
        bytes_moved = size_of(inputs) + size_of(result)
        del result
        copies, past_cache = (
            (1, False) if memory == "warm" else number_of_copies(size_of(inputs), last_level_cache(device))
        )
        sets = [inputs, *(clone(inputs) for _ in range(copies - 1))]
        our_call = _call(ours, sets)
        calls, rounds, failed = _start_rivals(rivals, sets, device)
        times = {name: Times() for name in (ours.name, *calls)}
        next_copy = rotation(copies)
        current = 0
        index = 0

        def setup() -> None:
            nonlocal current, index
            current = next_copy()
            for name, call in calls.items():
                if is_due(index, rounds[name]):
                    times[name].add(time_call(call, current, device), index)
            index += 1

        def timed() -> None:
            times[ours.name].add(time_call(our_call, current, device), index - 1)

        benchmark.group = op
        benchmark.pedantic(timed, setup=setup, rounds=ROUNDS, iterations=1, warmup_rounds=2)
        del times[ours.name].calls[:2], times[ours.name].rounds[:2]  # those of the warm-up

        if device.type == "cuda":
            failed |= _time_graphs(ours, rivals, {ours.name: our_call, **calls}, copies, times)

    benchmark.extra_info.update(
        op=op,
        device=device.type,
        memory=memory,
        parameters=parameters,
        past_cache=past_cache,
        bytes=bytes_moved,
        bandwidth=bandwidth(device),
        ours=times[ours.name].summary(),
        rivals={name: times[name].compared_with(times[ours.name]) for name in calls},
        absent={rival.name: rival.absent for rival in rivals if rival.absent} | failed,
    )


def _tensors(inputs: Any) -> Any:
    if isinstance(inputs, torch.Tensor):
        yield inputs
    elif isinstance(inputs, (list, tuple)):
        for item in inputs:
            yield from _tensors(item)


def _call(implementation: Implementation, sets: Sequence[tuple[Any, ...]]) -> Callable[[int], Any]:
    run = implementation.run
    assert run is not None
    prepared = [implementation.prepare(*inputs) for inputs in sets]
    return lambda copy: run(*prepared[copy])


def _start_rivals(
    rivals: Sequence[Implementation], sets: Sequence[tuple[Any, ...]], device: torch.device
) -> tuple[dict[str, Callable[[int], Any]], dict[str, int], dict[str, str]]:
    """(the rivals' calls, warmed up and compiled; how many rounds each gets; why the others cannot run)."""
    calls, rounds, failed = {}, {}, {}
    for rival in rivals:
        if rival.absent:
            continue
        try:
            call = _call(rival, sets)
            seconds = time_call(call, 0, device)  # compiles what compiles on its first call
            if seconds < 2 * RIVAL_SECONDS or rival.compiled:
                seconds = time_call(call, 0, device)
            rounds[rival.name] = rival_rounds(seconds)
            calls[rival.name] = call
        except Exception as error:  # of any kind: a failing rival must not keep us from being timed
            raise_if_lost(rival.name, error)
            failed[rival.name] = f"cannot run: {type(error).__name__}: {str(error).strip().splitlines()[0][:160]}"
    return calls, rounds, failed


def _time_graphs(
    ours: Implementation,
    rivals: Sequence[Implementation],
    calls: dict[str, Callable[[int], Any]],
    copies: int,
    times: dict[str, Times],
) -> dict[str, str]:
    """Time in CUDA graphs what they can capture: ten calls per graph, or one per copy. Returns why rivals failed."""
    order = list(range(copies)) if copies > 1 else [0] * 10
    failed = {}
    if ours.capturable:
        times[ours.name].graph = time_graph(calls[ours.name], order, replays=ROUNDS)
    for rival in rivals:
        if not rival.capturable or rival.name not in calls:
            continue
        seconds = len(order) * min(times[rival.name].calls, default=0.0)
        if seconds > 2 * RIVAL_SECONDS:
            failed[f"{rival.name} in a graph"] = f"{len(order)} calls in a graph would take {seconds:.0f} s"
            continue
        try:
            times[rival.name].graph = time_graph(calls[rival.name], order, replays=ROUNDS)
        except RuntimeError as error:
            raise_if_lost(rival.name, error)
            torch.cuda.synchronize()
            failed[f"{rival.name} in a graph"] = f"cannot be captured: {str(error).strip().splitlines()[0][:160]}"
    return failed


def raise_if_lost(rival: str, error: Exception) -> None:
    """Blame a rival that has left CUDA unusable; otherwise whatever runs next would be blamed."""
    if lost_context(str(error)):
        raise RuntimeError(f"the rival {rival} has failed: {error}") from error
