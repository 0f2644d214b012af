"""report.md, made from the findings alone: of a whole report, of one that was killed, or of one that still runs."""

from __future__ import annotations

import contextlib
import os
import shlex
from pathlib import Path
from typing import Any

from gpu.findings import BEGAN, FINAL, REST, Finding, read, unfinished

BAD = ("failed", "crashed", "hung")
_MOST_SKIPPED = 12  # reasons
_FULL = (60, 600)  # the most failures that are listed, and characters of each message
_SHORTER = (_FULL, (30, 300), (15, 200), (8, 150))

# Bits of nvidia-smi's clocks_event_reasons.active that lower the clocks.
_SLOWED_BY = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x20: "temperature, by software",
    0x40: "temperature, by hardware",
    0x80: "power brake",
}


def write(out: Path) -> None:
    """Replace report.md beside the findings atomically. If the disk is full, the old one stays."""
    draft = out / "report.md.new"
    try:
        draft.write_text(markdown(latest(read(out / "findings.jsonl"))), "utf-8", "backslashreplace")
        os.replace(draft, out / "report.md")
    except OSError as error:
        print(f"report.md was not written: {error}", flush=True)


def shown(findings: list[Finding], length: int) -> str:
    """The report in at most so many characters: the list of failures is shortened first, then the end is cut off."""
    for most in _SHORTER:
        text = markdown(findings, most)
        if len(text) <= length:
            return text
    note = "\n[cut here: report.md has the rest]\n"
    return text[: length - len(note)].rpartition("\n")[0] + note


def latest(findings: list[Finding]) -> list[Finding]:
    """For each stage, the findings of its last run."""
    runs = {found.get("stage"): found.get("run") for found in findings}
    return [found for found in findings if found.get("run") == runs[found.get("stage")]]


def markdown(findings: list[Finding], most: tuple[int, int] = _FULL) -> str:
    """The verdict and the card, what is wrong, what was not checked, the steps, the times, and the software.

    most: how many failures are listed, and how many characters of each message.
    """
    parts = ["# GPU report of ssd_fast", "", verdict(findings), "", *_card(findings)]
    parts += [*_bad(findings, *most), *_skipped(findings), *_steps(findings), *_times(findings), *_builds(findings)]
    parts += [*_rivals(findings), *_kernels(findings), *_software(findings)]
    return "\n".join(parts) + "\n"


def is_bad(findings: list[Finding]) -> bool:
    """Whether something failed, crashed or hung."""
    return any(found["status"] in BAD for found in findings)


def verdict(findings: list[Finding]) -> str:
    """How many cases ended, and how: one line."""
    statuses = [found["status"] for found in findings if found["case"] != "step"]
    counts = [f"{statuses.count(status)} {status}" for status in FINAL if status in statuses]
    running = sum(found["case"] != "step" for found in unfinished(findings))
    counts += [f"{running} not ended"] if running else []
    bad_steps = any(found["case"] == "step" and found["status"] in BAD for found in findings)
    counts += ["a step failed"] if bad_steps and not any(status in BAD for status in statuses) else []
    return f"Cases: {', '.join(counts) or 'none'}."


def _card(findings: list[Finding]) -> list[str]:
    """The GPU before the first step and after the times."""
    cards = {}
    for found in findings:
        if found["case"] in ("gpu", "gpu just after") and found["status"] == "passed" and "name" in found:
            cards["GPU" if found["case"] == "gpu" else "GPU just after the times"] = _describe_gpu(found)
    return [*(f"- {when}: {words}" for when, words in cards.items()), ""] if cards else []


def _describe_gpu(found: Finding) -> str:
    words = [f"{found['name']}, compute capability {found.get('compute_cap')}, driver {found.get('driver_version')}"]
    for name, key, most, unit in (
        ("SM clock", "clocks.sm", "clocks.max.sm", "MHz"),
        ("memory clock", "clocks.mem", "clocks.max.mem", "MHz"),
        ("power", "power.draw", "power.limit", "W"),
    ):
        if key in found:
            words.append(f"{name} {found[key]} of {found.get(most)} {unit}")
    for name, key, unit in (
        ("temperature", "temperature.gpu", "°C"),
        ("in use", "utilization.gpu", "%"),
        ("memory in use", "memory.used", "MiB"),
    ):
        if key in found:
            words.append(f"{name} {found[key]} {unit}")
    with contextlib.suppress(ValueError):
        reasons = int(found.get("clocks_event_reasons.active", ""), 16)
        slowed = [name for bit, name in _SLOWED_BY.items() if reasons & bit]
        words.append(f"clocks lowered by: {', '.join(slowed) or 'nothing'}")
    return "; ".join(words)


def _software(findings: list[Finding]) -> list[str]:
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


def _steps(findings: list[Finding]) -> list[str]:
    steps: dict[tuple[str, str], Finding] = {}
    for found in findings:
        if found["case"] == "step":
            steps[found.get("stage", ""), found.get("step", "")] = found
    rows = []
    for (stage, step), found in steps.items():
        status = "not ended" if found["status"] == BEGAN else found["status"]
        rows.append([stage, step, status, found.get("seconds", ""), _short(found.get("text", ""), 300)])
    names = ["stage", "step", "status", "seconds", "what was found"]
    return ["## Steps", "", *_table(names, rows)] if rows else []


def _bad(findings: list[Finding], most: int, length: int) -> list[str]:
    """What went wrong, in the order found; cases with the same message share an entry."""
    alike: dict[tuple[str, str, str], list[Finding]] = {}
    for found in findings:
        if found["status"] in BAD and found["case"] != "step":
            alike.setdefault((_place(found), found["status"], _short(found.get("text", ""), length)), []).append(found)
    lines = []
    for (place, status, text), group in list(alike.items())[:most]:
        lines.append(f"- {place} / {_names(group)}: {status}: {text}")
        if command := _again(group[0]):
            lines.append(f"  - again: `{command}`")
    if len(alike) > most:
        lines.append(f"- and {len(alike) - most} more, in findings.jsonl")
    for found in findings:  # a step that failed outside its cases
        has_bad_case = any(other.startswith(_place(found)) for other, *_ in alike)
        if found["case"] == "step" and found["status"] in BAD and not has_bad_case:
            lines.append(f"- {_place(found)}: {found['status']}: {_short(found.get('text', ''), length)}")
    for found in unfinished(findings):
        if found["case"] != "step":
            lines.append(f"- {_place(found)} / {found['case']}: began and has not ended")
    if any("again: `" in line for line in lines):
        lines += [
            "",
            "Run these in the checkout with PYTHONPATH=.:scripts. The logs have the whole output.",
        ]
    return ["## What is wrong", "", *(lines or ["Nothing in the cases that ended."]), ""]


def _skipped(findings: list[Finding]) -> list[str]:
    """What says nothing about the GPU, since it did not run: cases with the same reason share an entry."""
    alike: dict[tuple[str, str], list[Finding]] = {}
    for found in findings:
        if found["status"] == "skipped":
            alike.setdefault((_place(found), _short(found.get("text", ""), 200)), []).append(found)
    for place, _ in [*alike]:  # a step all of whose cases were skipped says nothing new
        steps = [key for key, group in alike.items() if key[0] == place and group[0]["case"] == "step"]
        if len([key for key in alike if key[0] == place]) > len(steps):
            for key in steps:
                del alike[key]
    lines = [
        f"- {place}{'' if group[0]['case'] == 'step' else f' / {_names(group, 3)}'}: {text}"
        for (place, text), group in list(alike.items())[:_MOST_SKIPPED]
    ]
    if len(alike) > _MOST_SKIPPED:
        lines.append(f"- and {len(alike) - _MOST_SKIPPED} more reasons, in findings.jsonl")
    return ["## What was not checked", "", *lines, ""] if lines else []


def _place(found: Finding) -> str:
    return " / ".join(str(found[key]) for key in ("stage", "step", "variant") if key in found) or "report"


def _names(group: list[Finding], most: int = 8) -> str:
    names = [found["case"] for found in group]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _again(found: Finding) -> str | None:
    """A command that runs one case by itself, or None."""
    stage, step, case = (found.get(key, "") for key in ("stage", "step", "case"))
    if "again" in found or case == REST:
        return found.get("again")
    name = shlex.quote(case)
    if "::" in case and stage == "rivals":
        options = "-o 'python_files=bench_*.py' -o 'python_functions=bench_*'"
        return f"SSD_FAST_BENCH_DEVICES=cuda python -m pytest {options} {name}"
    if "::" in case:
        fill = "SSD_FAST_TEST_FILL=0xFF " if step == "filled memory" else ""
        return f"{fill}SSD_FAST_REQUIRE_CUDA=1 python -m pytest -m gpu {name}"
    if step == "bits":
        return f"python -m pytest -m gpu tests/test_bits.py -k {shlex.quote(f'gives_the_bits and {case}')}"
    if step == "times":
        return f"python bench/device_times.py --only {name}"
    if step == "ncu":
        return f"ncu --profile-from-start off python bench/profile_case.py {name}"
    return None


def _times(findings: list[Finding]) -> list[str]:
    rows, errors = [], []
    for found in findings:
        if found.get("step") != "times":
            continue
        errors += [
            f"- {found['case']}: {key.removesuffix('_error')}: {_short(str(value), 200)}"
            for key, value in found.items()
            if key.endswith("_error")
        ]
        if "limit_us" in found:
            kernels = found.get("kernels") or []
            slowest = sorted(kernels, key=lambda kernel: -kernel["us"])[:4]
            share = found.get("share_of_limit")
            rows.append(
                [found["case"], _figure(found.get("graph_us")), "" if share is None else f"{share:.1%}"]
                + [_figure(found.get(key)) for key in ("limit_us", "cold_us", "eager_us")]
                + [found.get("launches", ""), ", ".join(f"{k['name']} {_figure(k['us'])}" for k in slowest)]
            )
    if not rows and not errors:
        return []
    names = ["case", "graph", "share", "byte limit", "cold", "eager", "launches", "slowest kernels"]
    key = (
        "Medians in microseconds per call. graph: in a replayed CUDA graph. byte limit: the inputs and outputs at the"
        " speed of a copy; share: byte limit / graph, low where there is much to gain. cold: in a graph that rotates"
        " copies of the inputs past the L2 cache; blank where they would be too many. eager: called from Python."
    )
    failed = ["Not measured, because of an error:", "", *errors, ""] if errors else []
    return ["## Times", "", key, "", *failed, *_table(names, rows)]


def _kernels(findings: list[Finding]) -> list[str]:
    columns = ["us", "sectors_a_load", "sectors_a_store", "bank_conflicts", "instructions", "issue_percent"]
    columns += ["occupancy_percent", "stall_long_scoreboard", "stall_barrier", "registers"]
    rows = [
        [found["case"], kernel["name"], *(_figure(kernel.get(column)) for column in columns)]
        for found in findings
        if found.get("step") == "ncu" and found["status"] in FINAL
        for kernel in found.get("kernels", [])
    ]
    key = (
        "us without locked clocks; 32-byte sectors per load and store request (4 is best for 4-byte values); stalls in"
        " cycles per issued instruction; registers per thread. findings.jsonl has all metrics."
    )
    return ["## Kernels, by Nsight Compute", "", key, "", *_table(["case", "kernel", *columns], rows)] if rows else []


def _builds(findings: list[Finding]) -> list[str]:
    rows = [
        [found["case"], *(f"{_figure(build['us'])} ({build['ratio']:.3f})" for build in found["builds"].values())]
        for found in findings
        if found.get("stage") == "ab" and "builds" in found
    ]
    names = next((list(found["builds"]) for found in findings if "builds" in found), [])
    key = "Median in microseconds per call, in a replayed CUDA graph, and in brackets its ratio to the first variant's."
    return ["## Variants", "", key, "", *_table(["case", *names], rows)] if rows else []


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
    names = ["op", "case", "memory", "our call, us", "their time / our time"]
    key = "Medians of calls from Python. A ratio below 1 is a case that we lose."
    return ["## Rivals", "", key, "", *_table(names, rows)] if rows else []


def _short(text: str, length: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"


def _figure(value: Any) -> str:
    if isinstance(value, float | int):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return "" if value is None else str(value)


def _table(names: list[str], rows: list[list[Any]]) -> list[str]:
    escaped = [[str(value).replace("|", "/").replace("\n", " ") for value in row] for row in rows]
    lines = [f"| {' | '.join(row)} |" for row in [names, ["---"] * len(names), *escaped]]
    return [*lines, ""]
