"""Predict a call's time on a GPU from counts alone: an order of magnitude, within a factor of two.

A kernel takes the longest of three times, plus a little for its start and end:
  latency  of the slowest warp, or of all warps that a multiprocessor runs one after another: its instructions, each
           waiting for the previous one, and its loads, as many at once as in the main loop's machine code
  issue    all instructions, at the rate of the multiprocessors that have a block
  bytes    those that are read and written, each once, at the speed of a copy
Instructions are not counted while a kernel runs. They are estimated from its accesses to memory, each of which stands
for the instructions of the main loop around it. Not modeled: falling clocks, contention for caches, divergence beyond
what splits a request, dependent loads that hit different caches.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from budgets.kernels import Kernel, by_short_name, main_loop
from budgets.occupancy import resident
from budgets.rows import CALL

WARP = 32
SECTOR = 32  # bytes


@dataclass(frozen=True)
class Card:
    """Times are in clocks unless a comment says otherwise."""

    multiprocessors: int = 132
    clock: float = 1.83e9
    issued: int = 4  # instructions per multiprocessor
    dependent: int = 4  # from an instruction to one that needs its result
    l1: int = 35  # a load that hits
    l2: int = 270
    shared: int = 30
    barrier: int = 40
    gap_us: float = 1.1  # between the nodes of a graph
    memset_us: float = 1.6
    ramp_us: float = 1.5  # for a kernel that does nothing
    copy: float = 3.0e12  # bytes per second, read and written


H100, H200 = Card(), Card(copy=4.3e12)

OTHER_ACCESS = 6  # instructions around an access outside the main loop
SLOW_PATH = 18  # instructions of a division's slow path, which about half the warps take where boxes seldom overlap
PROLOGUE = 50  # instructions before the first loop


def call_us(rows: Mapping[str, Mapping[str, Any]], kernels: Mapping[str, Kernel], card: Card = H100) -> float:
    """Predict a call in a replayed CUDA graph. rows: from budgets.traffic; kernels: the table of budgets.kernels."""
    by_name, call = by_short_name(kernels), rows[CALL]
    nodes = call["launches"] + call["memsets"]
    times = [kernel_us(row, by_name[name], card) for name, row in rows.items() if name != CALL]
    return sum(times) + call["memsets"] * card.memset_us + (nodes - 1) * card.gap_us


def kernel_us(row: Mapping[str, Any], kernel: Kernel, card: Card = H100) -> float:
    """All launches of a kernel in a call."""
    launches, threads = row["launches"], row["threads"]
    blocks = row["blocks"] / launches
    warps = row["blocks"] * math.ceil(threads / WARP)
    needs = kernel["resources"]["sm_90"]
    at_once = max(1, resident("sm_90", needs["registers"], threads, row["shared_bytes"]).blocks)
    rounds = max(1, math.ceil(blocks / (card.multiprocessors * at_once)))
    _, main = main_loop(kernel)
    hits = 1 - min(1, row["bytes_read"] / SECTOR / max(1, row["load_sectors"]))

    def clocks(loads: float, shared: float, stores: float) -> float:
        """The latency of a warp that makes this many requests, one after another."""
        chain = (PROLOGUE + instructions(main, loads, shared, stores)) * card.dependent
        load = card.l1 * hits + card.l2 * (1 - hits)
        return chain + loads / in_flight(main) * load + shared * card.shared + row["barriers"] * card.barrier

    stores = row["stores"] / warps
    average = clocks(row["loads"] / warps, row["shared"] / warps, stores) * rounds
    latency = max(average, clocks(row["longest_loads"], row["longest_shared"], stores))
    issue = instructions(main, row["loads"], row["shared"], row["stores"]) / launches
    issue /= card.issued * min(blocks, card.multiprocessors)
    moved = (row["bytes_read"] + row["bytes_written"]) / launches / card.copy
    return launches * (card.ramp_us + max(latency / card.clock, issue / card.clock, moved) * 1e6)


def in_flight(main: Mapping[str, float]) -> float:
    """How many loads from global memory are under way at once: those of the main loop; elsewhere one."""
    return 1 if main.get("shared") or main.get("stored") else max(1, main.get("in_flight", 1))


def instructions(main: Mapping[str, float], loads: float, shared: float, stores: float) -> float:
    """The instructions for this many requests of a warp; those of the main loop's kind count as its own."""
    own = shared if main.get("shared") else stores if main.get("stored") else loads
    each = (main["instructions"] + SLOW_PATH * main.get("calls", 0)) / main["moves"]
    return own * each + (loads + shared + stores - own) * OTHER_ACCESS
