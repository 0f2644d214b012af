"""Run compute-sanitizer on the C++ runners."""

from __future__ import annotations

import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gpu.report import CannotRunError, Report, in_words

_AT_ONCE = 4  # they share the GPU
_RUNNER_SECONDS = 120
_ERRORS_STATUS = 9
# An error that keeps the tool from running. A race is an error of the program.
_NOT_RUN = re.compile(r"^=+ Error: (?!Race reported)(.*)", re.MULTILINE)
# The first match counts: a second summary line counts what --print-limit left out.
_SUMMARY = re.compile(r"^=+ (?:ERROR|RACECHECK) SUMMARY: (\d+) (?:error|hazard)", re.MULTILINE)


def sanitize_runner(report: Report, tool: str, runners: list[Path]) -> None:
    """Run one of the sanitizer's tools on each runner, several at a time, as one case per runner."""
    if shutil.which("compute-sanitizer") is None:
        raise CannotRunError("compute-sanitizer was not found")
    with ThreadPoolExecutor(min(_AT_ONCE, report.options.jobs)) as pool:
        for _ in pool.map(lambda runner: _sanitize(report, tool, runner), runners):
            pass


def _sanitize(report: Report, tool: str, runner: Path) -> None:
    case = f"{tool} {runner.name}"
    if report.over:
        report.findings.add("skipped", case, "the time of this step was over", late=True)
        return
    with report.findings.case(case) as result:
        # The seeded schedules vary only the emulator, so one is enough on a GPU.
        options = [f"--tool={tool}", f"--error-exitcode={_ERRORS_STATUS}", "--print-limit=20"]
        if tool == "memcheck":
            # The runners look at every call's status themselves, and provoke a launch that must fail.
            options.append("--report-api-errors=no")
        command: list[str | Path] = ["compute-sanitizer", *options, runner, "--schedules", "1"]
        result["again"] = in_words(command)
        ended = report.execute(
            command,
            "sanitizer",
            seconds=_RUNNER_SECONDS,
            prefix=f"{case}: ",
            interrupt=True,
        )
        if (not_run := _NOT_RUN.search(ended.output)) is not None:
            raise RuntimeError(f"the tool could not run: {not_run[1]}")
        summary = _SUMMARY.search(ended.output)
        if summary is None:
            raise RuntimeError(f"the tool gave no summary; it {ended.verdict}: {ended.last_line}")
        result["errors"] = int(summary[1])
        if ended.status or result["errors"]:
            first = [line.strip("= ") for line in ended.output.splitlines() if line.startswith("=====")]
            raise RuntimeError(f"{result['errors']} errors; it {ended.verdict}: {' / '.join(first[1:7])}")
