"""report.md, made from the findings alone: of a whole report, of one that was killed, or of one that still runs."""

from __future__ import annotations

import contextlib
import os
import shlex
from pathlib import Path

from gpu import tables
from gpu.findings import BEGAN, FINAL, REST, Finding, read, unfinished
from gpu.tables import short, table

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
    parts += [*_bad(findings, *most), *_skipped(findings), *_steps(findings), *tables.times(findings)]
    for write_table in (tables.builds, tables.rivals, tables.kernels, tables.software):
        parts += write_table(findings)
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


def _steps(findings: list[Finding]) -> list[str]:
    steps: dict[tuple[str, str], Finding] = {}
    for found in findings:
        if found["case"] == "step":
            steps[found.get("stage", ""), found.get("step", "")] = found
    rows = []
    for (stage, step), found in steps.items():
        status = "not ended" if found["status"] == BEGAN else found["status"]
        rows.append([stage, step, status, found.get("seconds", ""), short(found.get("text", ""), 300)])
    names = ["stage", "step", "status", "seconds", "what was found"]
    return ["## Steps", "", *table(names, rows)] if rows else []


def _bad(findings: list[Finding], most: int, length: int) -> list[str]:
    """What went wrong, in the order found; cases with the same message share an entry."""
    alike: dict[tuple[str, str, str], list[Finding]] = {}
    for found in findings:
        if found["status"] in BAD and found["case"] != "step":
            alike.setdefault((_place(found), found["status"], short(found.get("text", ""), length)), []).append(found)
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
            lines.append(f"- {_place(found)}: {found['status']}: {short(found.get('text', ''), length)}")
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
            alike.setdefault((_place(found), short(found.get("text", ""), 200)), []).append(found)
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
        return f"SSD_FAST_BENCH_DEVICES=cuda python -m pytest {name}"
    if "::" in case:
        fill = "SSD_FAST_TEST_FILL=0xFF " if step == "filled memory" else ""
        return f"{fill}SSD_FAST_REQUIRE_CUDA=1 python -m pytest -m gpu {name}"
    if step == "bits":
        return f"python -m pytest -m gpu tests/every_op/test_bits.py -k {shlex.quote(f'gives_the_bits and {case}')}"
    if step == "times":
        return f"python bench/device_times.py --only {name}"
    if step == "ncu":
        return f"ncu --profile-from-start off python bench/profile_case.py {name}"
    return None
