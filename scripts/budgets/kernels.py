"""The budgets of all kernels: ptxas's report for every architecture, and the counts for one."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypedDict

from budgets import compile as cuda
from budgets import counts, sass, tools
from budgets.occupancy import resident

COUNTED = "sm_90"  # the architecture whose instructions are counted

# Where main_loop's rule is wrong: the beginning of the loop's label, by kernel.
MAIN_LOOPS = {
    "mining_kernel": "select.cuh: for (int first = static_cast<int>(threadIdx.x); first < count;",
    "nms_padded_kernel": "tile.cuh: for (int k = 0; k < count; ++k)",
    "score_filter_kernel": "for (int c = 0; c < head;",
    "segments_kernel": "tile.cuh: for (int k = 0; k < count; ++k)",
}

Row = dict[str, float]  # without zeros


class Kernel(TypedDict, total=False):
    resources: dict[str, dict[str, int]]  # by architecture: registers, shared, spills, threads
    counts: Row  # of the whole kernel
    loops: dict[str, Row]  # by label; the main one has "main": 1


Kernels = dict[str, Kernel]  # by "<file>: <kernel>"


def measure(architectures: Iterable[str] = cuda.ARCHITECTURES) -> Kernels:
    """The budgets of all kernels. Instructions are counted if COUNTED is among the architectures and nvdisasm is found
    (tools.missing)."""
    jobs = [(source, architecture) for source in cuda.sources() for architecture in architectures]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return merged(pool.map(lambda job: file_budgets(cuda.compile_cached(*job)), jobs))


def merged(parts: Iterable[Kernels]) -> Kernels:
    """Merge the tables of files and architectures, sorted."""
    table: Kernels = {}
    for part in parts:
        for name, kernel in part.items():
            known = table.setdefault(name, {"resources": {}})
            known["resources"] |= kernel["resources"]
            if "counts" in kernel:
                known["counts"], known["loops"] = kernel["counts"], kernel["loops"]
    return dict(sorted(table.items()))


def file_budgets(compiled: cuda.Compiled) -> Kernels:
    """The budgets of one file's kernels, for the architecture that it was compiled for."""
    resources = compiled.resources()
    counted = compiled.architecture == COUNTED and tools.missing() is None
    code = sass.parse(tools.disassemble(compiled.cubin)) if counted and resources else {}
    kernels: Kernels = {}
    for mangled, name in zip(resources, cuda.kernel_names(list(resources)), strict=True):
        kernel: Kernel = {"resources": {compiled.architecture: resources[mangled]}}
        if mangled in code:
            kernel["counts"] = _without_zeros(counts.kernel_counts(code[mangled]))
            kernel["loops"] = {label: _without_zeros(row) for label, row in counts.kernel_loops(code[mangled]).items()}
            kernel["loops"][_main_label(name, kernel["loops"])]["main"] = 1
        kernels[f"{compiled.source}: {name}"] = kernel
    return kernels


def main_loop(kernel: Kernel) -> tuple[str, Row]:
    """The label and the counts of the loop in which a kernel spends its time."""
    return next((label, row) for label, row in kernel["loops"].items() if row.get("main"))


def by_short_name(kernels: Mapping[str, Kernel]) -> dict[str, Kernel]:
    """The kernels by name without the file, as a launch names them."""
    return {name.rpartition(": ")[2]: kernel for name, kernel in kernels.items()}


def base_name(kernel: str) -> str:
    """nms_mask_kernel for "<file>: nms_mask_kernel<float>"."""
    return re.sub(r"<.*", "", kernel.rpartition(": ")[2])


def _main_label(name: str, loops: dict[str, Row]) -> str:
    """The loop that MAIN_LOOPS names. Otherwise the longest of the loops that load from global memory or, without any,
    from shared memory or, without any, that store. Among copies of a line, the one that moves most."""
    start = MAIN_LOOPS.get(base_name(name))
    named = [label for label in loops if start and label.startswith(start)]
    return named[0] if named else max(loops, key=lambda label: _weight(loops[label]))


def _weight(row: Row) -> tuple[float, float, float]:
    return -row.get("stored", 0), -row.get("shared", 0), row["instructions"]


def _without_zeros(row: Row) -> Row:
    return {what: count for what, count in row.items() if count}


def lines(table: Kernels) -> list[str]:
    """The table as text: resources with the blocks that fit on a multiprocessor, then the loops."""
    text = []
    for name, kernel in table.items():
        text.append(name)
        for architecture, needs in kernel["resources"].items():
            line = f"  {architecture}: {needs['registers']} registers, {needs['shared']} bytes shared"
            if threads := needs.get("threads"):
                fit = resident(architecture, needs["registers"], threads, needs["shared"])
                line += f"; {fit.blocks} blocks of {threads} threads fit ({fit.limit}) without dynamic shared memory"
            text.append(line + (f"; {needs['spills']} bytes SPILLED" if needs["spills"] else ""))
        if "counts" in kernel:
            text.append("  all: " + _words(kernel["counts"]))
            for label, row in kernel["loops"].items():
                marked = {what: count for what, count in row.items() if what not in ("main", "shared", "stored")}
                memory = "shared" if row.get("shared") else "stored" if row.get("stored") else "global"
                text.append(f"  {'main ' if row.get('main') else ''}loop, {memory}: {label}")
                text.append("    " + _words(marked))
    return text


def _words(row: Row) -> str:
    return ", ".join(f"{count} {what.replace('_', ' ')}" for what, count in row.items())


# ---- comparison ------------------------------------------------------------------------------------------------------

MARKS = ("integer_divisions", "divisions", "calls", "barriers", "atomics")


def problems(table: Kernels, golden: Kernels | None) -> list[str]:
    """Spills, and rows that are worse than the golden table or not in it. Better rows are not a problem."""
    found = []
    for name, kernel in table.items():
        for architecture, row in kernel["resources"].items():
            if row["spills"]:
                found.append(f"{name} [{architecture}]: spills {row['spills']} bytes")
        if golden is not None:
            found += _worse(name, kernel, golden.get(name))
    return found + [f"{name}: in the table, but no such kernel" for name in sorted(set(golden or {}) - set(table))]


def _worse(name: str, kernel: Kernel, golden: Kernel | None) -> list[str]:
    if golden is None:
        return [f"{name}: not in the table"]
    found = []
    for architecture, needs in kernel["resources"].items():
        if architecture in golden["resources"]:
            before = golden["resources"][architecture]
            found += _grown(f"{name} [{architecture}]", needs, before, ("registers", "shared"))
        else:
            found.append(f"{name} [{architecture}]: not in the table")
    if "counts" not in kernel:
        return found
    counted, allowed = _with_sums(kernel["counts"]), _with_sums(golden["counts"])
    found += _grown(name, counted, allowed, ("instructions", "loads", "stores", *MARKS, "local"))
    if counted.get("fences", 0) != allowed.get("fences", 0):  # one less may be a race
        found.append(f"{name}: fences changed from {allowed.get('fences', 0)} to {counted.get('fences', 0)}")
    for label in {**golden["loops"], **kernel["loops"]}:
        if label not in golden["loops"] or label not in kernel["loops"]:
            where = "in the table" if label in golden["loops"] else "in the kernel"
            found.append(f'{name}: loop "{label}": only {where}')
        else:
            found += loop_problems(f'{name}: loop "{label}"', kernel["loops"][label], golden["loops"][label])
    return found


def loop_problems(what: str, row: Row, allowed: Row) -> list[str]:
    """Compare two loops. Counts may grow with the bytes per iteration (unrolling is no loss); others may not fall."""
    if any(row.get(kind, 0) != allowed.get(kind, 0) for kind in ("shared", "stored", "main")):
        return [f"{what}: loads from another memory, or became or was the main loop"]
    per, allowed_per = row.get("bytes", 0), allowed.get("bytes", 0)
    if not per or not allowed_per:  # bulk copies, whose size is in a register
        per = allowed_per = 1
    found = []
    for key in ("instructions", "shortest", "round_trips", *MARKS):
        now, before = row.get(key, 0), allowed.get(key, 0)
        if now * allowed_per > before * per:
            of = "" if per == allowed_per else f" (of {allowed_per} bytes, now {per})"
            found.append(f"{what}: {key} per iteration grew from {before} to {now}{of}")
    for key in ("in_flight", "width"):
        if row.get(key, 0) < allowed.get(key, 0):
            found.append(f"{what}: {key} fell from {allowed.get(key, 0)} to {row.get(key, 0)}")
    return found


def _grown(where: str, row: Mapping[str, float], allowed: Mapping[str, float], keys: Sequence[str]) -> list[str]:
    return [
        f"{where}: {key} grew from {allowed.get(key, 0)} to {row.get(key, 0)}"
        for key in keys
        if row.get(key, 0) > allowed.get(key, 0)
    ]


def _with_sums(row: Row) -> Row:
    """Add the loads and the stores of all widths."""
    return row | {what: sum(n for key, n in row.items() if key.startswith(f"{what}_")) for what in ("loads", "stores")}
