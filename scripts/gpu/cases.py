"""Run programs that record their findings case by case, and restart them after a case that ends them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from gpu.findings import REST, RESTART, Findings
from gpu.processes import TIMED_OUT, execute
from gpu.report import Report

_STARTS = 25  # at most, for a program whose cases crash
_IDLE_SECONDS = 60.0  # a program may spend this long outside its cases: imports on a cold machine are slow


def run_cases(
    report: Report,
    command: Sequence[str | Path],
    log: str,
    *,
    part: str,
    case_seconds: float,
    prefix: str = "",
    variables: Mapping[str, str] | None = None,
    good_statuses: Sequence[int] = (0,),
) -> None:
    """Run a program that records its own cases. After a case that ends it, start it again, until all are done.

    A case that crashes the program or takes too long is recorded on its behalf. The cases that it does not reach,
    because the time is over or because it exits with a bad status, are recorded as one case, "the rest".
    """
    findings = report.findings.labeled(part=part)
    environment = report.environment() | findings.environment() | dict(variables or {})
    for _ in range(_STARTS):
        stuck = Stuck(findings, case_seconds * report.options.pace)
        done_before = findings.done()
        ended = execute(
            command,
            report.log(log),
            seconds=report.deadline.left,
            environment=environment,
            prefix=prefix,
            stop=stuck,
        )
        running = findings.running()
        if ended.status == TIMED_OUT and not stuck.found:
            rest = f"; {running['case']} was running" if running else ""
            findings.add("skipped", REST, f"the time of this step was over{rest}", late=True)
            return
        if stuck.found and running is None:
            findings.add("hung", REST, f"the program {ended.verdict}, none of its cases running: {ended.tail}")
            return
        if running is not None and stuck.found and running["case"] != stuck.case:
            pass  # the slow case has ended after all, and the next one, which has begun, runs again
        elif running is not None:
            how = "hung" if stuck.found else "crashed"
            tail = "" if stuck.found else f": {ended.tail}"
            findings.add(how, running["case"], f"the program {ended.verdict}{tail}")
        elif ended.status in good_statuses:
            return
        elif ended.status != RESTART or findings.done() == done_before:
            findings.add("failed", REST, f"the program {ended.verdict}: {ended.tail}")
            return
        if report.over:
            findings.add("skipped", REST, "the time of this step was over", late=True)
            return
    findings.add("failed", REST, f"given up after {_STARTS} starts")


class Stuck:
    """Tell `execute` when to stop a program: a case takes too long, or no case has run for too long.

    case: the case that takes too long.
    """

    def __init__(self, findings: Findings, seconds: float) -> None:
        self.findings = findings
        self.seconds = seconds
        self.idle_since = time.time()
        self.found = False
        self.case: str | None = None
        self._next_look = time.monotonic() + min(1.0, seconds / 4)

    def __call__(self) -> bool:
        now = time.monotonic()
        if now < self._next_look:
            return False
        self._next_look = now + min(1.0, self.seconds / 4)
        running = self.findings.running()
        if running is None:
            last = max((found["time"] for found in self.findings.mine()), default=0.0)
            self.found = time.time() - max(last, self.idle_since) > max(self.seconds, _IDLE_SECONDS)
        else:
            self.found = time.time() - running["time"] > self.seconds
            self.case = running["case"]
        return self.found
