"""The table of docs/benchmarks.md: what each op's call does, as counted, and the time that the counts predict."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from budgets.compile import ROOT
from budgets.kernels import Kernel, by_short_name, main_loop
from budgets.occupancy import resident
from budgets.predict import call_us, kernel_us
from budgets.rows import CALL, Row, Rows

MEASURED = ROOT / "bench" / "results" / "h100-2026-11-27" / "findings.jsonl"  # the report that the table compares with
REWRITTEN = ("postprocess", "nms_padded")  # the beginnings of cases whose kernels were rewritten after that report
BEGIN, END = "<!-- counts: begin -->", "<!-- counts: end -->"
Kernels = Mapping[str, Kernel]


def tables(rows: Rows, kernels: Kernels, findings: Path = MEASURED) -> list[str]:
    """The lines of all tables. findings: those of the GPU report to compare with."""
    measured, profiles = measured_times(findings), profiled_kernels(findings)
    by_name = by_short_name(kernels)
    calls = [call_cells(case, row, kernels, measured.get(case)) for case, row in rows.items()]
    parts = [
        kernel_cells(case, name, row, by_name[name])
        for case, of_case in rows.items()
        for name, row in of_case.items()
        if name != CALL
    ]
    compared = [cells for case, profile in profiles.items() for cells in profile_cells(case, rows[case], profile)]
    return [
        *table(CALL_COLUMNS, calls),
        *("", *table(KERNEL_COLUMNS, parts)),
        *("", *table(PROFILE_COLUMNS, compared)),
    ]


CALL_COLUMNS = ("call", "launches", "memsets", "KB at least", "KB in sectors", "predicted us", "measured us")


def call_cells(case: str, rows: Mapping[str, Row], kernels: Kernels, measured: float | None) -> tuple[str, ...]:
    call = rows[CALL]
    sectors = sum(row["load_sectors"] + row["store_sectors"] for name, row in rows.items() if name != CALL)
    return (
        case,
        str(call["launches"]),
        str(call["memsets"]),
        kilobytes(call["least_bytes"]),
        kilobytes(32 * sectors),
        f"{call_us(rows, kernels):,.0f}",
        "" if measured is None else f"{measured:,.0f}",
    )


KERNEL_COLUMNS = (
    *("call", "kernel", "blocks x threads", "fit", "load requests", "sectors each", "width", "stores", "sectors each"),
    *("bank conflicts", "barriers", "instructions", "in flight", "predicted us"),
)


def kernel_cells(case: str, name: str, row: Row, kernel: Any) -> tuple[str, ...]:
    needs = kernel["resources"]["sm_90"]
    fit = resident("sm_90", needs["registers"], row["threads"], row["shared_bytes"]).blocks
    _, main = main_loop(kernel)
    times = "" if row["launches"] == 1 else f" ({row['launches']} launches)"
    return (
        case,
        f"`{name}`{times}",
        f"{row['blocks']:,} x {row['threads']}",
        str(fit),
        f"{row['loads']:,}",
        each(row["load_sectors"], row["loads"]),
        load_width(row, kernel),
        f"{row['stores']:,}",
        each(row["store_sectors"], row["stores"]),
        f"{row['conflicts']:,}",
        str(row["barriers"]),
        f"{main['instructions'] / main['moves']:.3g}",
        str(main.get("in_flight", "")),
        f"{kernel_us(row, kernel):,.1f}",
    )


PROFILE_COLUMNS = ("call", "kernel", "load requests", "sectors", "store requests", "sectors", "bank conflicts")
PROFILED = (
    *(("loads", "load_requests"), ("load_sectors", "load_sectors"), ("stores", "store_requests")),
    *(("store_sectors", "store_sectors"), ("conflicts", "bank_conflicts")),
)


def profile_cells(case: str, rows: Mapping[str, Row], profile: Mapping[str, Row]) -> Iterator[tuple[str, ...]]:
    """Each kernel's count and, after a slash, the profiler's count where it differs."""
    for name, row in rows.items():
        found = profile.get(name.partition("<")[0])
        if found is not None:
            pairs = [(row[counted], round(found[profiled])) for counted, profiled in PROFILED]
            yield case, f"`{name}`", *(f"{a:,}" if a == b else f"{a:,} / {b:,}" for a, b in pairs)


def load_width(row: Row, kernel: Any) -> str:
    """Bytes per lane of the loads that move most, and those of the machine code if it has no loads of this width."""
    if "load_width" not in row:
        return ""
    widths = [key.removeprefix("loads_") for key in kernel.get("counts", {}) if key.startswith("loads_")]
    counted = str(row["load_width"])
    return counted if counted in widths or not widths else f"{counted} (SASS: {', '.join(widths)})"


def each(sectors: int, requests: int) -> str:
    return f"{sectors / requests:.2f}" if requests else ""


def kilobytes(count: int) -> str:
    return f"{count / 1000:,.0f}" if count >= 10_000 else f"{count / 1000:.1f}"


def table(columns: Iterable[str], cells: Iterable[Iterable[str]]) -> list[str]:
    head = list(columns)
    lines = [head, ["---"] * len(head), *cells]
    return ["| " + " | ".join(line) + " |" for line in lines]


def measured_times(findings: Path) -> dict[str, float]:
    """A graph's microseconds by case, from the findings of a GPU report that ran today's kernels."""
    lines = [json.loads(line) for line in findings.read_text("utf-8").splitlines()]
    times = {line["case"]: line["graph_us"] for line in lines if line.get("step") == "times" and "graph_us" in line}
    return {case: time for case, time in times.items() if not case.startswith(REWRITTEN)}


def profiled_kernels(findings: Path) -> dict[str, dict[str, Row]]:
    """Nsight Compute's counts by case and kernel, all launches together."""
    cases: dict[str, dict[str, Row]] = {}
    for line in findings.read_text("utf-8").splitlines():
        finding = json.loads(line)
        if (finding.get("stage"), finding.get("step")) != ("counts", "calls") or "kernels" not in finding:
            continue
        if finding["case"].startswith(REWRITTEN):
            continue
        kernels = cases.setdefault(finding["case"], {})
        for launch in finding["kernels"]:
            kernel = kernels.setdefault(launch["name"], dict.fromkeys((key for _, key in PROFILED), 0))
            for key in kernel:
                kernel[key] += launch.get(key, 0)
    return cases


def put(text: str, lines: Iterable[str]) -> str:
    """The page with these lines between the marks.

    Raises: ValueError: the page lacks the marks.
    """
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no {BEGIN} ... {END}")
    return f"{head}{begin}\n\n" + "\n".join(lines) + f"\n\n{end}{tail}"
