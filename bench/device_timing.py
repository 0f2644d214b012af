"""Time one case on a GPU: in a graph, past the cache, called from Python, and each of its kernels."""

from __future__ import annotations

import contextlib
import re
import statistics
from collections.abc import Callable, Iterator
from typing import Any

import torch
from device_builders import Prepared
from gpu.findings import lost_context
from timing import capture, clone, number_of_copies, size_of, spread, time_events
from torch.autograd import DeviceType

CALLS = 10  # in a graph
MOST_COLD_COPIES = 256  # and calls in the graph that rotates through them
PROFILED_CALLS = 3
FEWEST, MOST = 5, 50  # repetitions
LONGEST_ARGUMENTS = 24  # characters of template arguments that a kernel's short name keeps

Values = dict[str, Any]


def measure(prepared: Prepared, device: torch.device, bandwidth: float | None, seconds: float, values: Values) -> None:
    """Fill values. If one part cannot be measured, its error goes into values, and the others are still measured.

    seconds: roughly what each part may take. bandwidth: a copy's, in bytes per second.
    """

    def call(_: int) -> Any:
        return prepared.call(*prepared.inputs)

    returned = call(0)
    values["bytes"] = prepared.bytes_moved(returned)
    del returned
    call(0)
    torch.cuda.synchronize()
    with error_in(values, "graph"):
        calls = calls_in_graph(seconds, time_events(lambda: call(0)))
        values["graph_calls"] = calls
        graph, _ = capture(call, [0] * calls)
        values |= quartiles("graph", repeat(graph.replay, seconds), calls)
        del graph
    if bandwidth is not None:
        values["limit_us"] = round(values["bytes"] / bandwidth * 1e6, 3)
        if "graph_us" in values:
            values["share_of_limit"] = round(values["limit_us"] / values["graph_us"], 4)
    with error_in(values, "eager"):
        values |= quartiles("eager", repeat(lambda: call(0), seconds), 1)
    with error_in(values, "kernels"):
        values["kernels"] = profile_kernels(lambda: call(0), PROFILED_CALLS)
        values["launches"] = round(sum(kernel["count"] for kernel in values["kernels"]), 2)
    with error_in(values, "cold"):
        values |= cold(prepared, device, seconds)


def calls_in_graph(seconds: float, once: float) -> int:
    """How many calls a graph gets: ten, so that the time between replays hardly counts, or fewer if calls are long."""
    return max(1, min(CALLS, int(seconds / FEWEST / max(once, 1e-9))))


def cold(prepared: Prepared, device: torch.device, seconds: float) -> Values:
    """Time calls whose inputs are not in the cache, since the copies together exceed it."""
    cache = torch.cuda.get_device_properties(device).L2_cache_size
    copies, past_cache = number_of_copies(size_of(prepared.inputs), cache)
    if not past_cache or copies > MOST_COLD_COPIES:
        return {"cold_left_out": "the inputs are so small that they would need too many copies"}
    sets = [prepared.inputs, *(clone(prepared.inputs) for _ in range(copies - 1))]
    once = time_events(lambda: prepared.call(*sets[0]))
    if FEWEST * copies * once > 4 * seconds:
        return {"cold_left_out": f"{copies} copies would take too long"}
    graph, _ = capture(lambda copy: prepared.call(*sets[copy]), range(copies))
    return {"cold_copies": copies} | quartiles("cold", repeat(graph.replay, seconds), copies)


def repeat(work: Callable[[], Any], seconds: float) -> list[float]:
    """The seconds of each repetition; together they take about `seconds`."""
    return [time_events(work) for _ in range(repetitions(seconds, time_events(work)))]


def repetitions(seconds: float, once: float) -> int:
    """How many repetitions of `once` seconds fit into `seconds`, from FEWEST to MOST."""
    return max(FEWEST, min(MOST, int(seconds / max(once, 1e-9))))


def quartiles(name: str, times: list[float], calls: int) -> Values:
    """`summary` with a name before each key."""
    return {f"{name}_{key}": value for key, value in summary(times, calls).items()}


def summary(times: list[float], calls: int) -> Values:
    """Median and quartiles in microseconds per call; each time is that of `calls` calls."""
    found = spread([seconds / calls * 1e6 for seconds in times])
    assert found is not None
    return {"us": round(found["median"], 3), "quartiles_us": [round(found["q1"], 3), round(found["q3"], 3)]}


@contextlib.contextmanager
def error_in(values: Values, name: str) -> Iterator[None]:
    """Put an error of the body into values, unless it leaves CUDA unusable."""
    try:
        yield
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        if lost_context(text):
            raise
        values[f"{name}_error"] = text[:500]
        torch.cuda.synchronize()


# ---- kernels --------------------------------------------------------------------------------------------------------


def profile_kernels(work: Callable[[], Any], calls: int) -> list[Values]:
    """Microseconds and launches per call of each kernel, memset and memcpy, in the order of first launch.

    Raises: RuntimeError: the profiler saw none.
    """
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profiler:
        for _ in range(calls):
            work()
        torch.cuda.synchronize()
    times: dict[str, list[float]] = {}
    for event in profiler.events():
        if event.device_type == DeviceType.CUDA and not event.is_user_annotation:
            times.setdefault(short_name(event.name), []).append(event.time_range.elapsed_us())
    if not times:
        raise RuntimeError("the profiler saw no kernel")
    return [
        {
            "name": name,
            "us": round(sum(found) / calls, 3),
            "median_us": round(statistics.median(found), 3),
            "count": round(len(found) / calls, 2),
            "kind": kind_of(name),
        }
        for name, found in times.items()
    ]


def kind_of(name: str) -> str:
    for kind in ("memset", "memcpy"):
        if name.lower().startswith(kind):
            return kind
    return "kernel"


def short_name(name: str) -> str:
    """A kernel's name without return type, namespaces and parameters, and with template arguments if short."""
    if kind_of(name) != "kernel":
        return name
    name = name.replace("(anonymous namespace)::", "").removeprefix("void ")
    head, arguments, depth = "", "", 0
    for character in name:
        depth += character == "<"
        if depth:
            arguments += character
        elif character == "(":
            break
        else:
            head += character
            arguments = "" if character == ":" else arguments  # they belonged to a namespace or class
        depth -= character == ">"
    arguments = re.sub(r"\b\w+::", "", arguments)
    return head.rpartition("::")[2] + (arguments if len(arguments) <= LONGEST_ARGUMENTS else "<...>")
