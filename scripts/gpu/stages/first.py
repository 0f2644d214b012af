"""Stage `first`: what is right on this GPU, what is slow, and why."""

from __future__ import annotations

import os
from pathlib import Path

from gpu import machine
from gpu.build import build, find_runners
from gpu.cases import run_cases
from gpu.ncu import PROFILED, profile
from gpu.report import LateError, Report, in_words, python
from gpu.sanitizer import sanitize_runner
from gpu.stages.tests import run_test_files

PROGRAMS = Path(__file__).resolve().parents[1] / "programs"

# These test what the emulator cannot show. Each of their tests starts its own processes.
FRESH_PROCESS_TESTS = ("tests/every_op/test_launches.py", "tests/every_op/test_alignment.py")


def first(report: Report) -> None:
    """Run the most informative steps first. Each has a limit, so that none uses up the time of the whole stage."""
    report.step("machine", 20, _describe)
    report.step("build", 180, build)
    report.step("runners", 30, _run_runners)
    report.step("memcheck", 75, lambda step: sanitize_runner(step, "memcheck", find_runners(step)))
    report.step("bits", 45, _check_bits)
    report.step("checks", 90, lambda step: run_test_files(step, FRESH_PROCESS_TESTS, case_seconds=75))
    report.step("times", 90, _time)
    report.step("ncu", 90, lambda step: profile(step, step.cut(PROFILED)))


def _describe(report: Report) -> None:
    with report.findings.case("software") as result:
        result.update(machine.software())
    with report.findings.case("gpu") as result:
        result.update(machine.gpu() or {})
        result["load_average"] = os.getloadavg()
    for tool in machine.missing_tools():
        report.findings.add("skipped", tool, "is neither on the PATH nor where NVIDIA's installers put it")


def _run_runners(report: Report) -> None:
    """Check each kernel family against its oracles on the host, one process per family."""
    for runner in find_runners(report):
        if report.over:
            raise LateError("the time of this step was over")
        with report.findings.case(runner.name) as result:
            command: list[str | Path] = [runner, "--schedules", "1"]
            result["again"] = in_words(command)
            ended = report.execute(command, "run", seconds=20)
            result["found"] = ended.last_line
            if ended.status:
                raise RuntimeError(f"{ended.last_line}; it {ended.verdict}; {_first_failure(ended.output)}")


def _first_failure(output: str) -> str:
    """The first case that failed, and the lines after it, which say why."""
    lines = [" ".join(line.split()) for line in output.splitlines() if line.strip()]
    first = next((i for i, line in enumerate(lines) if line.startswith("FAIL")), len(lines))
    return " / ".join(lines[first : first + 4])


def _check_bits(report: Report) -> None:
    command = python(PROGRAMS / "check_bits.py", *_rehearse(report))
    run_cases(report, command, "run", part="bits", case_seconds=30)


def _time(report: Report) -> None:
    command = python("bench/device_times.py", *_rehearse(report))
    run_cases(report, command, "run", part="times", case_seconds=30)
    if any(found["status"] == "passed" for found in report.findings.mine()):
        report.findings.add("passed", "gpu just after", **(machine.gpu() or {}))


def _rehearse(report: Report) -> list[str]:
    return ["--rehearse"] if report.options.rehearsal else []
