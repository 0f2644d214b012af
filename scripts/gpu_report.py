"""What a machine with a GPU says of this checkout, in stages that each fit the minutes that a GPU is lent for.

    python scripts/gpu_report.py OUT [--stages first tests ...] [--deadline 480]        (or: make gpu-report OUT=DIR)
    python scripts/gpu_report.py OUT --read

    first     what is right and what is slow: build, C++ runners, memcheck, the golden bits, fresh-process checks,
              the time of each op and kernel, and Nsight Compute on the kernels
    tests     every test that uses a CUDA device, a process for each file
    sanitize  racecheck, initcheck and synccheck on the runners; the ops' tests on memory filled with 0xFF
    rivals    the benchmarks on the GPU, against what others offer
    ab        variants of the kernels (--variants), alternating in one process

Needs cmake, nvcc and an environment with torch, pybind11 and pytest; downloads and installs nothing. Everything found
is appended to OUT/findings.jsonl at once, a line each, so a kill at any moment loses nothing; --read makes report.md of
it. OUT holds at most 8 files: findings.jsonl, report.md, ncu.csv and the logs build, run, tests and sanitizer.

Exit status: 0 all is well; 1 something failed, crashed or hung; 2 wrong use, or --read finds no findings; 3 no GPU;
4 what was run is well, but the time was over before the rest; 128 + N ended by signal N.
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
from gpu.findings import Findings, read
from gpu.processes import close
from gpu.report import Deadline, Options, Report
from gpu.stages import STAGES

_SHOWN = 11_000  # characters of report.md: where commands run elsewhere, the end of their output comes back first


def main() -> int:
    options = parse_arguments()
    deadline = Deadline.after(options.deadline)
    out = options.out.resolve()
    path = out / "findings.jsonl"
    if options.read:
        if not read(path):
            print(f"gpu-report: no findings in {options.out}", file=sys.stderr)
            return 2
        summary.write(out)
        print((out / "report.md").read_text("utf-8"))
        return 1 if summary.is_bad(summary.latest(read(path))) else 0
    out.mkdir(parents=True, exist_ok=True)
    machine.add_tool_folders()
    findings = Findings(path, run=f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}")
    if machine.gpu() is None:
        findings.add("skipped", "report", "no GPU: nvidia-smi is not there, or names none")
        print("gpu-report: no GPU on this machine (nvidia-smi names none)", file=sys.stderr)
        return 3
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
    late = any(finding.get("late") for finding in found)
    status = 1 if bad else 4 if late else 0
    if (out / "report.md").exists():  # unless the disk is full
        print((out / "report.md").read_text("utf-8")[:_SHOWN])
    print(f"gpu-report: {len(found)} findings, {len(bad)} of them bad (exit status {status}): {out / 'report.md'}")
    return status


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for the report")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=["first"], metavar="STAGE", help="(first)")
    parser.add_argument("--deadline", type=float, default=480, help="seconds for all of it (480)")
    parser.add_argument("--runners", type=Path, help="a folder of runners built elsewhere, which are not built then")
    parser.add_argument("--variants", nargs="+", default=[], metavar="NAME=WHAT", help="for ab: flags, folder or file")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes at a time (cores)")
    parser.add_argument("--read", action="store_true", help="only make and print report.md of the findings in OUT")
    parser.add_argument("--rehearsal", action="store_true", help=argparse.SUPPRESS)  # both by gpu_rehearsal.py
    parser.add_argument("--pace", type=float, default=1.0, help=argparse.SUPPRESS)
    return parser.parse_args()


def run_stages(report: Report, names: list[str]) -> None:
    """Run the stages one after another; report.md is up to date after each."""
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
    """End like a program that a signal ended, after the children and with report.md written."""
    with contextlib.suppress(Exception):
        close()
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
