"""Count what a call's kernels do in the emulator: launches, requests, sectors, bank conflicts, barriers.

The counted build of the extension (tests/emu/counts.h) sees every access. A GPU's profiler gives the same numbers,
except where the two compilers differ: tests/cpp/patterns.h, docs/benchmarks.md.
"""

from __future__ import annotations

import importlib.util
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from budgets.cases import ROOT, Case
from budgets.rows import CALL, Row
from ssd_fast import _backend

COUNTED_BUILD = ROOT / "build" / "tests"

# Sums over the launches of a kernel in a call, or the largest of them.
_SUMS = (
    *("launches", "blocks", "loads", "load_sectors", "stores", "store_sectors", "least_sectors", "atomics"),
    *("atomic_sectors", "contended", "shared", "conflicts", "bytes_read", "bytes_written"),
)
_LARGEST = ("threads", "shared_bytes", "barriers", "longest_loads", "longest_shared")


def find_counted() -> Path | None:
    """The path of the counted build of the extension, which `make build-tests` makes."""
    path = COUNTED_BUILD / f"_C_counted{sysconfig.get_config_var('EXT_SUFFIX')}"
    return path if path.exists() else None


def load_counted() -> ModuleType:
    """The counted build.

    Raises: FileNotFoundError: it is not built.
    """
    path = find_counted()
    if path is None:
        raise FileNotFoundError(f"{COUNTED_BUILD} has no _C_counted: run `make build-tests`")
    spec = importlib.util.spec_from_file_location("_C_counted", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def count(case: Case, extension: Any) -> dict[str, Row]:
    """The rows of a case: each kernel by its short name, in the order of first launch, and the whole call."""
    prepared = case.prepare()
    before, threads = _backend.C, torch.get_num_threads()
    torch.set_num_threads(1)
    _backend.C = extension
    try:
        extension.emulator.start_counting()
        returned = prepared.call(*prepared.inputs)
        counts = extension.emulator.counts()
    finally:
        _backend.C = before
        torch.set_num_threads(threads)
    rows: dict[str, Row] = {
        CALL: {
            "launches": len(counts["launches"]),
            "memsets": len(counts["memsets"]),
            "least_bytes": prepared.bytes_moved(returned),
        }
    }
    for launch in counts["launches"]:
        name = short_name(launch["kernel"])
        rows[name] = added(rows[name], row_of(launch)) if name in rows else row_of(launch)
    rows[CALL]["bytes"] = sum(row.get("bytes_read", 0) + row.get("bytes_written", 0) for row in rows.values())
    return rows


def row_of(launch: dict[str, Any]) -> Row:
    """One launch's counts, summed over the lines of its source."""
    grid, block = launch["grid"], launch["block"]
    sites = launch["sites"]
    loads, stores = select(sites, "global", "load"), select(sites, "global", "store")
    row: Row = {
        "launches": 1,
        "blocks": grid[0] * grid[1] * grid[2],
        "threads": block[0] * block[1] * block[2],
        "shared_bytes": launch["dynamic_shared"] + launch["static_shared"],
        "loads": total(loads, "requests"),
        "load_sectors": total(loads, "sectors"),
        "stores": total(stores, "requests"),
        "store_sectors": total(stores, "sectors"),
        "least_sectors": total([*loads, *stores], "least_sectors"),
        "atomics": total(select(sites, "global", "atomic"), "requests"),
        "atomic_sectors": total(select(sites, "global", "atomic"), "sectors"),
        "contended": total(sites, "contended"),
        "shared": total([site for site in sites if site["space"] == "shared"], "requests"),
        "conflicts": total(sites, "conflicts"),
        "bytes_read": launch["bytes_read"],
        "bytes_written": launch["bytes_written"],
        "barriers": launch["barriers"],
        "longest_loads": launch["longest_loads"],
        "longest_shared": launch["longest_shared"],
    }
    if loads:
        row["load_width"] = width(loads)
    if stores:
        row["store_width"] = width(stores)
    return row


def added(row: Row, other: Row) -> Row:
    """Add up two launches of a kernel."""
    sums = {key: row[key] + other[key] for key in _SUMS}
    widths = {key: max(row.get(key, 0), other.get(key, 0)) for key in ("load_width", "store_width")}
    return row | sums | {key: max(row[key], other[key]) for key in _LARGEST} | {k: w for k, w in widths.items() if w}


def select(sites: Iterable[dict[str, Any]], space: str, use: str) -> list[dict[str, Any]]:
    return [site for site in sites if site["space"] == space and site["use"] == use]


def total(sites: Iterable[dict[str, Any]], key: str) -> int:
    return sum(site[key] for site in sites)


def width(sites: Iterable[dict[str, Any]]) -> int:
    """Bytes per lane of the accesses that move most."""
    moved: dict[int, int] = {}
    for site in sites:
        moved[site["bytes"]] = moved.get(site["bytes"], 0) + site["bytes"] * site["lanes"]
    return max(moved, key=lambda size: (moved[size], size))


def short_name(kernel: str) -> str:
    """A name without return type, namespaces and parameters, such as box_iou_kernel<float>."""
    name = kernel.removeprefix("void ").replace("(anonymous namespace)::", "").replace("ssd::", "")
    depth = 0
    for i, character in enumerate(name):
        depth += (character == "<") - (character == ">")
        if character == "(" and depth == 0:
            return name[:i]
    return name
