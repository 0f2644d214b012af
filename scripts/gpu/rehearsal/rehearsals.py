"""Rehearse the GPU report: each rehearsal starts it with stand-ins for the tools, and knows what it must find."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from gpu.findings import FINAL, Finding, read, unfinished
from gpu.stages import STAGES

ROOT = Path(__file__).resolve().parents[3]
STAND_IN = Path(__file__).with_name("stand_in.py")
TOOLS = ("cmake", "nvcc", "ncu", "compute-sanitizer", "nvidia-smi")
MOST_FILES = 8

# How the planted tests end (scripts/gpu/rehearsal/planted).
PLANTED = {
    "passes": "passed",
    "fails": "failed",
    "is_skipped": "skipped",
    "loses_the_context": "failed",
    "passes_after_it": "passed",
    "crashes": "crashed",
    "passes_after_the_crash": "passed",
    "hangs": "hung",
    "passes_at_last": "passed",
}
DEADLINE = 7.0  # in seconds, for the rehearsal that has too little time
HASTE = 0.05  # the --pace of rehearsals in which something hangs


class Mishap(NamedTuple):
    """A tool that misbehaves in stage `first`, and how the step that shows it must end."""

    tool: str
    how: str
    step: str
    ending: str = "failed"
    pace: float = 1.0


MISHAPS = (
    Mishap("compute-sanitizer", "hang", "memcheck", pace=HASTE),
    Mishap("compute-sanitizer", "crash", "memcheck"),
    Mishap("compute-sanitizer", "errors", "memcheck"),
    Mishap("compute-sanitizer", "not_supported", "memcheck"),
    Mishap("ncu", "unknown_metric", "ncu", "passed"),
    Mishap("ncu", "hang", "ncu", pace=HASTE),
    Mishap("ncu", "crash", "ncu"),
    Mishap("ncu", "fail", "ncu"),
    Mishap("cmake", "hang", "build", pace=HASTE),
    Mishap("cmake", "fail", "build"),
)


class RehearsalError(Exception):
    """Raised if a rehearsal did not go as it must."""


def rehearsals(short: bool) -> list[tuple[str, Callable[[Path], None]]]:
    """The names of the rehearsals, and functions of the folder for the report that run them."""
    found: list[tuple[str, Callable[[Path], None]]] = []
    for stage in STAGES:
        found.append((stage, functools.partial(rehearse_stage, stage=stage)))
    for mishap in () if short else MISHAPS:
        found.append((f"{mishap.tool}-{mishap.how}", functools.partial(rehearse_mishap, mishap=mishap)))
    for seconds in (2.0, 6.0) if short else (0.5, 1.5, 3.0, 5.0, 8.0, 12.0, 20.0):
        found.append((f"kill-after-{seconds}", functools.partial(rehearse_kill, seconds=seconds)))
    found.append(("deadline", rehearse_deadline))
    found.append(("no-gpu", rehearse_without_gpu))
    return found


def rehearse_stage(out: Path, stage: str) -> None:
    """Run one stage: it stays within its time, and every case ends as it must."""
    variants = []
    if stage == "ab":
        (extension,) = (ROOT / "build" / "tests").glob("_C_emulated*.so")
        variants = ["--variants", f"old={extension}", "new=-DSSD_PLANTED=1"]
    # The planted test that hangs is killed after 3 seconds. Nothing hangs in the other stages.
    pace = HASTE if stage == "tests" else 1.0
    begin = time.monotonic()
    status = start(out, "--stages", stage, "--pace", str(pace), *variants).wait()
    findings = read(out / "findings.jsonl")
    check_files(out)
    expect(time.monotonic() - begin < STAGES[stage][1], f"it took {time.monotonic() - begin:.1f} s")
    expect(not running(findings), f"began and never ended: {running(findings)}")
    if stage == "tests":
        cases = {
            found["case"].partition("::test_")[2]: found["status"]
            for found in findings
            if "::" in found["case"] and found["status"] in FINAL
        }
        expect(cases == PLANTED, f"the planted tests ended otherwise: {cases}")
        expect(status == 1, f"exit status {status}")
    else:
        bad = [
            f"{found.get('step')} / {found['case']}: {found.get('text')}"
            for found in findings
            if found["status"] in ("failed", "crashed", "hung")
        ]
        expect(not bad, f"not well: {bad[:5]}")
        # Without a GPU the tests of two stages, the rivals that compile, and the patterns are skipped: not all was run.
        skips = ("first", "sanitize", "rivals", "counts")
        expect(status == (4 if stage in skips else 0), f"exit status {status}")


def rehearse_mishap(out: Path, mishap: Mishap) -> None:
    """Run stage `first` with a tool that misbehaves: its step says so, and all other steps run."""
    status = start(out, "--stages", "first", "--pace", str(mishap.pace), mishaps={mishap.tool: mishap.how}).wait()
    findings = read(out / "findings.jsonl")
    check_files(out)
    ended = {
        found["step"]: found["status"] for found in findings if found["case"] == "step" and found["status"] in FINAL
    }
    expect(ended.get(mishap.step) == mishap.ending, f"step {mishap.step} ended so: {ended.get(mishap.step)}")
    expect(
        list(ended) == ["machine", "build", "runners", "memcheck", "bits", "checks", "times", "ncu"], f"steps: {ended}"
    )
    expect(status == (1 if "failed" in ended.values() else 4), f"exit status {status}")


def rehearse_kill(out: Path, seconds: float) -> None:
    """Kill a report with SIGKILL: its findings are readable, also by --read, and none of its programs keeps running."""
    process = start(out, "--stages", "first", "tests")
    time.sleep(seconds)
    process.kill()
    process.wait()
    findings = read(out / "findings.jsonl")
    expect(len(findings) >= 1, "no findings")
    check_files(out)
    text = subprocess.run(command(out, "--read"), capture_output=True, text=True, check=False).stdout
    expect("| first | machine |" in text, f"--read shows nothing: {text[:300]}")
    time.sleep(1.0)
    size = (out / "findings.jsonl").stat().st_size
    time.sleep(1.0)
    expect((out / "findings.jsonl").stat().st_size == size, "a program of the killed report still writes")


def rehearse_deadline(out: Path) -> None:
    """Give the stages too little time: the rest is recorded as skipped, and the report ends in time."""
    begin = time.monotonic()
    status = start(out, "--stages", "first", "tests", "--deadline", str(DEADLINE)).wait()
    expect(time.monotonic() - begin < DEADLINE + 5, f"it took {time.monotonic() - begin:.1f} s")
    findings = read(out / "findings.jsonl")
    skipped = [found["case"] for found in findings if found["status"] == "skipped"]
    expect("tests" in skipped and status in (1, 4), f"exit status {status}, skipped: {skipped}")
    expect(not running(findings), f"began and never ended: {running(findings)}")


def rehearse_without_gpu(out: Path) -> None:
    """Let nvidia-smi fail, as without a GPU: the report exits at once with status 3."""
    begin = time.monotonic()
    status = start(out, mishaps={"nvidia-smi": "fail"}).wait()
    expect(status == 3, f"exit status {status}")
    expect(time.monotonic() - begin < 5, "it took longer than 5 s")


def start(out: Path, *words: str, mishaps: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start a report in which the stand-ins are first on the PATH."""
    tools = out.parent / "stand-ins"
    tools.mkdir(parents=True, exist_ok=True)
    for tool in TOOLS:
        if not (tools / tool).is_symlink():
            (tools / tool).symlink_to(STAND_IN)
    environment = os.environ | {
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "SSD_FAST_STAND_INS": json.dumps(mishaps or {}),
    }
    out.mkdir(parents=True)
    with (out.parent / f"{out.name}.txt").open("w") as file:
        return subprocess.Popen(command(out, "--rehearsal", *words), env=environment, stdout=file, stderr=file)


def command(out: Path, *words: str) -> list[str]:
    return [sys.executable, str(ROOT / "scripts" / "gpu_report.py"), str(out), *words]


def check_files(out: Path) -> None:
    """Check that the report has few files, and that at most the last line of the findings is torn."""
    files = sorted(path.name for path in out.iterdir())
    expect(len(files) <= MOST_FILES, f"more than {MOST_FILES} files: {files}")
    lines = [line for line in (out / "findings.jsonl").read_text().splitlines() if line]
    expect(len(lines) - len(read(out / "findings.jsonl")) <= 1, "more than the last line is torn")


def running(findings: list[Finding]) -> list[str]:
    """The steps and names of the cases that began and never ended."""
    return [f"{found.get('step')} / {found['case']}" for found in unfinished(findings)]


def expect(holds: bool, what: str) -> None:
    if not holds:
        raise RehearsalError(what)
