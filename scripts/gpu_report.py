"""Report what is right and what is slow on a machine with a GPU, in stages of a few minutes each.

    python scripts/gpu_report.py OUT [--stages first tests ...] [--deadline 480]        (or: make gpu-report OUT=DIR)
    python scripts/gpu_report.py OUT --read

    first     what is right and what is slow: build, C++ runners, memcheck, the golden bits, fresh-process checks,
              the time of each op and kernel, and Nsight Compute on the kernels
    tests     every test that uses a CUDA device, one process per file
    sanitize  racecheck, initcheck and synccheck on the runners; the ops' tests on memory filled with 0xFF
    rivals    the benchmarks on the GPU, against other libraries
    counts    whether Nsight Compute's counts agree with those without a GPU: requests, sectors, bank conflicts
    ab        variants of the kernels (--variants), alternating in one process

Needs cmake, nvcc and Python 3.11 or later with torch, pybind11 and pytest; downloads and installs nothing. Each finding
is appended to OUT/findings.jsonl at once, as one line, so a kill at any moment loses nothing; --read makes report.md
from it. OUT holds at most 8 files: findings.jsonl, report.md, ncu.csv and the logs build, run, tests and sanitizer.

Exit status, which the last line repeats: 0 nothing that ran went wrong; 1 something failed, crashed or hung; 2 wrong
use, or --read has no findings to read; 3 no GPU; 4 nothing went wrong, but time ran out before the rest, or a step was
skipped, such as one whose tool is missing; 128 + N ended by signal N.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from gpu import machine, summary
from gpu.findings import Finding, Findings, read
from gpu.processes import close
from gpu.report import Deadline, Options, Report
from gpu.stages import STAGES

_SHOWN = 11_000  # characters of the report that are printed, for readers who see only the end of the output


def main() -> int:
    options = parse_arguments()
    deadline = Deadline.after(options.deadline)
    out = options.out.resolve()
    path = out / "findings.jsonl"
    if options.read:
        if not read(path):
            print(f"gpu-report: there is no findings.jsonl with findings in {options.out}", file=sys.stderr)
            return 2
        summary.write(out)
        print((out / "report.md").read_text("utf-8"))
        return 1 if summary.is_bad(summary.latest(read(path))) else 0
    out.mkdir(parents=True, exist_ok=True)
    machine.add_tool_folders()
    findings = Findings(path, run=f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}")
    gpu = machine.gpu()
    if gpu is None:
        reason = "no GPU: nvidia-smi is missing, or lists none"
        findings.add("skipped", "report", reason)
        print(f"gpu-report: {reason} (exit status 3)", file=sys.stderr)
        return 3
    findings.add("passed", "gpu", **gpu)
    report = Report(
        out,
        findings,
        deadline,
        Options(
            options.runners and options.runners.resolve(),
            tuple(options.variants),
            options.rehearsal,
            options.pace,
            options.jobs,
        ),
    )
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    try:
        run_stages(report, list(dict.fromkeys(options.stages)))
    finally:
        close()
        summary.write(out)
    found = findings.mine()
    bad = [finding for finding in found if finding["status"] in summary.BAD]
    partial = any(finding.get("late") or is_skipped_step(finding) for finding in found)
    status = 1 if bad else 4 if partial else 0
    print(summary.shown(summary.latest(read(path)), _SHOWN).encode("utf-8", "backslashreplace").decode())
    print(f"gpu-report: {summary.verdict(found)} Exit status {status}. {out / 'report.md'}")
    return status


def is_skipped_step(finding: Finding) -> bool:
    return finding["case"] == "step" and finding["status"] == "skipped"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for the report")
    parser.add_argument(
        "--stages", nargs="+", choices=STAGES, default=["first"], metavar="STAGE", help="what to run (default: first)"
    )
    parser.add_argument("--deadline", type=float, default=480, help="seconds for all stages together (default: 480)")
    parser.add_argument("--runners", type=Path, help="use the C++ runners in this folder instead of building them")
    parser.add_argument(
        "--variants", nargs="+", default=[], metavar="NAME=WHAT", help="for ab: nvcc's flags, a checkout, or a _C*.so"
    )
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--jobs", type=int, default=cores, help="processes at a time (default: one per core)")
    parser.add_argument("--read", action="store_true", help="only write and print report.md, from the findings in OUT")
    parser.add_argument("--rehearsal", action="store_true", help=argparse.SUPPRESS)  # gpu_rehearsal.py passes these two
    parser.add_argument("--pace", type=float, default=1.0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if fault := find_fault(options):
        parser.error(fault)
    return options


def find_fault(options: argparse.Namespace) -> str | None:
    """What is wrong with the arguments, or None. Wrong arguments must not look like a report without failures."""
    if options.read:
        return None
    if options.out.exists() and not options.out.is_dir():
        return f"out: {options.out} is not a folder"
    if options.runners and not any(options.runners.glob("*_cuda")):
        return f"--runners: {options.runners} has no runners (*_cuda), which `make gpu-runners` builds"
    names = [variant.partition("=")[0] for variant in options.variants if "=" in variant]
    if "ab" in options.stages and (len(options.variants) < 2 or len({*names}) < len(options.variants)):
        return 'stage ab: expected two or more variants of different names, such as VARIANTS="base= fast=-DSSD_TILE=64"'
    return None


def run_stages(report: Report, names: list[str]) -> None:
    """Run the stages one after another, with report.md up to date after each."""
    for name in names:
        run, seconds = STAGES[name]
        stage = report.stage(name, seconds)
        if stage.over:
            report.findings.add("skipped", name, "no time was left for this stage", late=True)
            continue
        print(f"= {name}: {stage.deadline.left:.0f} s", flush=True)
        run(stage)
        summary.write(report.out)


def stop(number: int, frame: FrameType | None) -> None:
    """Kill the children and exit as if ended by the signal; `main` then writes report.md."""
    with contextlib.suppress(Exception):
        close()
    raise SystemExit(128 + number)


if __name__ == "__main__":
    if sys.version_info < (3, 11):  # noqa: UP036 (the package is not installed: any Python may run this)
        sys.exit("gpu-report: Python 3.11 or later is needed")
    sys.exit(main())
