"""report.md, made from the findings alone: of a whole report, of one that was killed, or of one that still runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from gpu.findings import BEGAN, FINAL, Finding, read, unfinished

BAD = ("failed", "crashed", "hung")
_MOST_BAD = 60


def write(out: Path) -> None:
    """Put report.md beside the findings, in the place of an older one at once. A disk that is full keeps the older."""
    draft = out / "report.md.new"
    try:
        draft.write_text(markdown(latest(read(out / "findings.jsonl"))), "utf-8", "backslashreplace")
        os.replace(draft, out / "report.md")
    except OSError as error:
        print(f"report.md was not written: {error}", flush=True)


def latest(findings: list[Finding]) -> list[Finding]:
    """Of each stage that was run again, the findings of the last run."""
    runs = {found.get("stage"): found.get("run") for found in findings}
    return [found for found in findings if found.get("run") == runs[found.get("stage")]]


def markdown(findings: list[Finding]) -> str:
    """The steps and how they ended, what is wrong, and the times."""
    parts = ["# GPU report of ssd_fast", "", *_machine(findings), *_steps(findings), *_bad(findings)]
    parts += [*_times(findings), *_kernels(findings), *_builds(findings), *_rivals(findings)]
    return "\n".join(parts) + "\n"


def is_bad(findings: list[Finding]) -> bool:
    """Whether something failed, crashed or hung."""
    return any(found["status"] in BAD for found in findings)


def _machine(findings: list[Finding]) -> list[str]:
    lines = []
    for found in findings:
        if found["case"] in ("software", "gpu", "gpu just after") and found["status"] == "passed":
            facts = {key: value for key, value in found.items() if key not in _LABELS}
            lines.append(f"- {found['case']}: " + ", ".join(f"{key} {value}" for key, value in facts.items()))
    return [*dict.fromkeys(lines), ""]


def _steps(findings: list[Finding]) -> list[str]:
    steps: dict[tuple[str, str], Finding] = {}
    for found in findings:
        if found["case"] == "step":
            steps[found.get("stage", ""), found.get("step", "")] = found
    rows = []
    for (stage, step), found in steps.items():
        status = "was running at the end" if found["status"] == BEGAN else found["status"]
        rows.append([stage, step, status, found.get("seconds", ""), found.get("text", "")])
    return _table(["stage", "step", "status", "seconds", ""], rows)


def _bad(findings: list[Finding]) -> list[str]:
    """What went wrong, in the order found; cases that say the same share a line."""
    alike: dict[tuple[str, str, str], list[str]] = {}
    for found in findings:
        if found["status"] in BAD and found["case"] != "step":
            place = " / ".join(str(found[key]) for key in ("stage", "step") if key in found)
            alike.setdefault((place, found["status"], _short(found.get("text", ""), 600)), []).append(found["case"])
    lines = []
    for (place, status, text), cases in list(alike.items())[:_MOST_BAD]:
        names = ", ".join(cases[:8]) + (f" and {len(cases) - 8} more" if len(cases) > 8 else "")
        lines.append(f"- {place} / {names}: {status}: {text}")
    if len(alike) > _MOST_BAD:
        lines.append(f"- and {len(alike) - _MOST_BAD} more, in findings.jsonl")
    for found in unfinished(findings):
        if found["case"] != "step":
            lines.append(
                f"- {found.get('stage', '')} / {found.get('step', '')} / {found['case']}: began and has not ended"
            )
    return ["## What is wrong", "", *(lines or [f"Nothing, in {_count(findings)} cases that ended."]), ""]


def _count(findings: list[Finding]) -> int:
    return sum(found["status"] in FINAL and found["case"] != "step" for found in findings)


def _times(findings: list[Finding]) -> list[str]:
    rows = []
    for found in findings:
        if found.get("step") == "times" and "limit_us" in found:
            kernels = found.get("kernels") or []
            slowest = sorted(kernels, key=lambda kernel: -kernel["us"])[:4]
            rows.append(
                [found["case"]]
                + [_figure(found.get(key)) for key in ("graph_us", "cold_us", "eager_us", "limit_us")]
                + [found.get("launches", ""), ", ".join(f"{k['name']} {_figure(k['us'])}" for k in slowest)]
            )
    names = ["case", "graph, us", "cold, us", "eager, us", "byte limit, us", "launches", "slowest kernels, us"]
    return ["## Times", "", *_table(names, rows)] if rows else []


def _kernels(findings: list[Finding]) -> list[str]:
    columns = ["us", "sectors_a_load", "sectors_a_store", "bank_conflicts", "instructions", "issue_percent"]
    columns += ["occupancy_percent", "stall_long_scoreboard", "stall_barrier", "registers"]
    rows = [
        [found["case"], kernel["name"], *(_figure(kernel.get(column)) for column in columns)]
        for found in findings
        if found.get("step") == "ncu" and found["status"] in FINAL
        for kernel in found.get("kernels", [])
    ]
    return ["## Kernels, by ncu", "", *_table(["case", "kernel", *columns], rows)] if rows else []


def _builds(findings: list[Finding]) -> list[str]:
    rows = [
        [found["case"], *(f"{_figure(build['us'])} ({build['ratio']:.3f})" for build in found["builds"].values())]
        for found in findings
        if found.get("stage") == "ab" and "builds" in found
    ]
    names = next((list(found["builds"]) for found in findings if "builds" in found), [])
    return ["## Variants, us and ratio to the first", "", *_table(["case", *names], rows)] if rows else []


def _rivals(findings: list[Finding]) -> list[str]:
    rows = []
    for found in findings:
        measured = found.get("measured")
        if found.get("stage") == "rivals" and measured:
            ours = (measured["ours"]["call"] or {}).get("median")
            theirs = {name: (times["call"] or {}).get("median") for name, times in measured["rivals"].items()}
            ratios = ", ".join(f"{name} {theirs[name] / ours:.1f}x" for name in theirs if theirs[name] and ours)
            case = ", ".join(f"{key} {value}" for key, value in measured["parameters"].items())
            rows.append([measured["op"], case, measured["memory"], _figure(ours and ours * 1e6), ratios])
    names = ["op", "case", "memory", "our call, us", "their call by ours"]
    return ["## Rivals", "", *_table(names, rows)] if rows else []


_LABELS = ("time", "run", "stage", "step", "part", "case", "status", "seconds", "text")


def _short(text: str, length: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"


def _figure(value: Any) -> str:
    return f"{value:,.4g}" if isinstance(value, float | int) else "" if value is None else str(value)


def _table(names: list[str], rows: list[list[Any]]) -> list[str]:
    escaped = [[str(value).replace("|", "/").replace("\n", " ") for value in row] for row in rows]
    lines = [f"| {' | '.join(row)} |" for row in [names, ["---"] * len(names), *escaped]]
    return [*lines, ""]
