"""The tables of report.md: times, kernels, variants, rivals, and what they were measured with."""

from __future__ import annotations

from typing import Any

from gpu.findings import FINAL, Finding


def times(findings: list[Finding]) -> list[str]:
    rows, errors = [], []
    for found in findings:
        if found.get("step") != "times":
            continue
        errors += [
            f"- {found['case']}: {key.removesuffix('_error')}: {short(str(value), 200)}"
            for key, value in found.items()
            if key.endswith("_error")
        ]
        if "limit_us" in found:
            kernels = found.get("kernels") or []
            slowest = sorted(kernels, key=lambda kernel: -kernel["us"])[:4]
            gaps = found["graph_us"] - sum(k["us"] for k in kernels) if kernels and "graph_us" in found else None
            share = found.get("share_of_limit")
            rows.append(
                [found["case"], figure(found.get("graph_us")), "" if share is None else f"{share:.1%}"]
                + [figure(found.get(key)) for key in ("limit_us", "cold_us", "eager_us")]
                + [
                    found.get("launches", ""),
                    figure(gaps),
                    ", ".join(f"{k['name']} {figure(k['us'])}" for k in slowest),
                ]
            )
    if not rows and not errors:
        return []
    names = ["case", "graph", "share", "byte limit", "cold", "eager", "launches", "gaps", "slowest kernels"]
    key = (
        "Medians in microseconds per call. graph: in a replayed CUDA graph. byte limit: the inputs and outputs at the"
        " speed of a copy; share: byte limit / graph, low where there is much to gain. cold: in a graph that rotates"
        " copies of the inputs past the L2 cache; blank where they would be too many. eager: called from Python."
        " gaps: graph less all kernels, which overlap where it is negative."
    )
    failed = ["Not measured, because of an error:", "", *errors, ""] if errors else []
    return ["## Times", "", key, "", *failed, *table(names, rows)]


def kernels(findings: list[Finding]) -> list[str]:
    columns = ["us", "sectors_a_load", "sectors_a_store", "bank_conflicts", "instructions", "issue_percent"]
    columns += ["occupancy_percent", "stall_long_scoreboard", "stall_barrier", "registers"]
    rows = [
        [found["case"], kernel["name"], *(figure(kernel.get(column)) for column in columns)]
        for found in findings
        if found.get("step") == "ncu" and found["status"] in FINAL
        for kernel in found.get("kernels", [])
    ]
    key = (
        "us without locked clocks; 32-byte sectors per load and store request (4 is best for 4-byte values); stalls in"
        " cycles per issued instruction; registers per thread. findings.jsonl has all metrics."
    )
    return ["## Kernels, by Nsight Compute", "", key, "", *table(["case", "kernel", *columns], rows)] if rows else []


def builds(findings: list[Finding]) -> list[str]:
    rows = [
        [found["case"], *(f"{figure(build['us'])} ({build['ratio']:.3f})" for build in found["builds"].values())]
        for found in findings
        if found.get("stage") == "ab" and "builds" in found
    ]
    names = next((list(found["builds"]) for found in findings if "builds" in found), [])
    key = "Median in microseconds per call, in a replayed CUDA graph, and in brackets its ratio to the first variant's."
    return ["## Variants", "", key, "", *table(["case", *names], rows)] if rows else []


def rivals(findings: list[Finding]) -> list[str]:
    rows = []
    for found in findings:
        measured = found.get("measured")
        if found.get("stage") == "rivals" and measured:
            ours = (measured["ours"]["call"] or {}).get("median")
            theirs = {name: (times["call"] or {}).get("median") for name, times in measured["rivals"].items()}
            ratios = ", ".join(f"{name} {theirs[name] / ours:.1f}x" for name in theirs if theirs[name] and ours)
            case = ", ".join(f"{key} {value}" for key, value in measured["parameters"].items())
            rows.append([measured["op"], case, measured["memory"], figure(ours and ours * 1e6), ratios])
    names = ["op", "case", "memory", "our call, us", "their time / our time"]
    key = "Medians of calls from Python. A ratio below 1 is a case that we lose."
    return ["## Rivals", "", key, "", *table(names, rows)] if rows else []


def software(findings: list[Finding]) -> list[str]:
    lines = []
    for found in findings:
        if found["case"] == "software" and found["status"] == "passed":
            packages = found.get("packages", {}) | found.get("tools", {})
            versions = [v if v.startswith(name) else f"{name} {v}" for name, v in packages.items() if v]
            missing = [name for name, version in packages.items() if not version]
            lines += [f"- commit {found.get('commit')}; Python {found.get('python')}; {found.get('cores')} cores"]
            lines += [f"- {found.get('system')}", f"- {'; '.join(versions)}"]
            lines += [f"- not installed: {', '.join(missing)}"] if missing else []
    return ["## Software", "", *dict.fromkeys(lines), ""] if lines else []


def short(text: str, length: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"


def figure(value: Any) -> str:
    if isinstance(value, float | int):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return "" if value is None else str(value)


def table(names: list[str], rows: list[list[Any]]) -> list[str]:
    escaped = [[str(value).replace("|", "/").replace("\n", " ") for value in row] for row in rows]
    lines = [f"| {' | '.join(row)} |" for row in [names, ["---"] * len(names), *escaped]]
    return [*lines, ""]
