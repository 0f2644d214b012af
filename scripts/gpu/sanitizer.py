"""compute-sanitizer over the C++ runners."""

from __future__ import annotations

import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gpu.report import CannotRunError, Report

_AT_ONCE = 4  # they share the GPU
_RUNNER_SECONDS = 120
_ERRORS_STATUS = 9
# Of what keeps the tool from looking; a race is an error of the program.
_NOT_RUN = re.compile(r"^=+ Error: (?!Race reported)(.*)", re.MULTILINE)
# The first: a second counts what --print-limit left out.
_SUMMARY = re.compile(r"^=+ (?:ERROR|RACECHECK) SUMMARY: (\d+) (?:error|hazard)", re.MULTILINE)


def sanitize_runner(report: Report, tool: str, runners: list[Path]) -> None:
    """Run one of the sanitizer's tools on each runner, some at a time: a case for each."""
    if shutil.which("compute-sanitizer") is None:
        raise CannotRunError("compute-sanitizer is nowhere on this machine")
    with ThreadPoolExecutor(min(_AT_ONCE, report.options.jobs)) as pool:
        for _ in pool.map(lambda runner: _sanitize(report, tool, runner), runners):
            pass


def _sanitize(report: Report, tool: str, runner: Path) -> None:
    case = f"{tool} {runner.name}"
    if report.over:
        report.findings.add("skipped", case, "the time of this step was over", late=True)
        return
    with report.findings.case(case) as result:
        # One schedule of each case: a GPU has its own.
        command = ["compute-sanitizer", f"--tool={tool}", f"--error-exitcode={_ERRORS_STATUS}", "--print-limit=20"]
        ended = report.execute(
            [*command, runner, "--schedules", "1"],
            "sanitizer",
            seconds=_RUNNER_SECONDS,
            prefix=f"{case}: ",
            interrupt=True,
        )
        if (not_run := _NOT_RUN.search(ended.output)) is not None:
            raise RuntimeError(f"the tool could not look: {not_run[1]}")
        summary = _SUMMARY.search(ended.output)
        if summary is None:
            raise RuntimeError(f"the tool gave no summary; it {ended.verdict}: {ended.last_line}")
        result["errors"] = int(summary[1])
        if ended.status or result["errors"]:
            first = [line.strip("= ") for line in ended.output.splitlines() if line.startswith("=====")]
            raise RuntimeError(f"{result['errors']} errors; it {ended.verdict}: {' / '.join(first[1:7])}")
