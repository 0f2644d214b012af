"""What every stage is written with: its deadline, its steps, and programs that report case by case."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from gpu import summary
from gpu.findings import FINAL, REST, RESTART, Findings
from gpu.processes import TIMED_OUT, Ended, Log, execute

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]

_LEAST_SECONDS = 4.0  # of a step, at whatever pace
_STARTS = 25  # of a program whose cases crash, at most
_IDLE_SECONDS = 60.0  # before, between and after its cases, at least: imports on a cold machine take long


@dataclass(frozen=True)
class Deadline:
    """A moment, by time.monotonic()."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """The moment so many seconds from now."""
        return cls(time.monotonic() + seconds)

    def within(self, seconds: float) -> Deadline:
        """This moment, or that so many seconds from now, whichever is earlier."""
        return Deadline(min(self.at, time.monotonic() + seconds))

    @property
    def left(self) -> float:
        """Seconds until then; never less than 0."""
        return max(0.0, self.at - time.monotonic())

    def environment(self) -> dict[str, str]:
        """For programs that stop by themselves: the moment in seconds since 1970."""
        return {"SSD_FAST_DEADLINE": f"{time.time() + self.left:.1f}"}


@dataclass(frozen=True)
class Report:
    """Where findings go, and how much time is left; each stage and step has one of its own."""

    out: Path
    findings: Findings
    deadline: Deadline
    options: Options
    logs: dict[str, Log] = field(default_factory=dict)

    @property
    def build_folder(self) -> Path:
        """Of the builds for a GPU; a rehearsal, which links what it finds, has its own."""
        return ROOT / "build" / ("rehearsal" if self.options.rehearsal else "gpu")

    def stage(self, name: str, seconds: float) -> Report:
        """The report of a stage with so much time, at most what is left of the whole."""
        return replace(self, findings=self.findings.labelled(stage=name), deadline=self.deadline.within(seconds))

    def labelled(self, **labels: str) -> Report:
        """This report, with more labels on its findings."""
        return replace(self, findings=self.findings.labelled(**labels))

    def cut(self, items: Sequence[T]) -> Sequence[T]:
        """All of them; in a rehearsal the first alone."""
        return items[:1] if self.options.rehearsal else items

    def log(self, name: str) -> Log:
        """The log of that name, which all its writers share."""
        return self.logs.setdefault(name, Log(self.out / f"{name}.log"))

    def step(self, name: str, seconds: float, run: Callable[[Report], None]) -> None:
        """Do a part of the stage in so much time: run(the report of the step), recorded as the case "step".

        An exception in it is its failure, and the stage goes on. It is skipped where no time is left.
        """
        limit = self.deadline.within(max(seconds * self.options.pace, _LEAST_SECONDS))
        step = replace(self, findings=self.findings.labelled(step=name), deadline=limit)
        print(f"== {name}", flush=True)
        begin = time.monotonic()
        step.findings.add("began", "step")
        try:
            if step.over:
                raise LateError("no time was left")
            run(step)
        except CannotRunError as error:
            step.end("skipped", str(error), begin, **({"late": True} if isinstance(error, LateError) else {}))
        except Exception as error:
            step.end("failed", f"{type(error).__name__}: {error}", begin)
        else:
            ended = [found for found in step.findings.mine() if found["status"] in FINAL]
            bad = [found for found in ended if found["status"] not in ("passed", "skipped")]
            late = next((found for found in ended if found.get("late")), None)
            text = f"{len(ended)} cases" + (f", {len(bad)} of them bad: {bad[0]['case']}" if bad else "")
            text += f"; not all: {late['case']}: {late.get('text', '')}" if late else ""
            if not ended:
                step.end("failed", "no case was run", begin)
            elif all(found["status"] == "skipped" for found in ended):
                step.end("skipped", f"{text}, all of them skipped", begin)
            else:
                step.end("failed" if bad else "passed", text, begin)

    def end(self, status: str, text: str, begin: float, **values: bool) -> None:
        """Record how a step ended."""
        self.findings.add(status, "step", text, seconds=round(time.monotonic() - begin, 1), **values)
        summary.write(self.out)
        print(f"== {self.findings.labels['step']}: {status}: {text}".rstrip(": "), flush=True)

    @property
    def over(self) -> bool:
        """Whether too little time is left to begin anything."""
        return self.deadline.left < 1

    def execute(
        self,
        command: Sequence[str | Path],
        log: str,
        *,
        seconds: float | None = None,
        prefix: str = "",
        interrupt: bool = False,
    ) -> Ended:
        """Run a program with the environment of this project, within the deadline."""
        limit = self.deadline.left if seconds is None else min(seconds * self.options.pace, self.deadline.left)
        environment = self.environment()
        return execute(
            command, self.log(log), seconds=limit, environment=environment, prefix=prefix, interrupt=interrupt
        )

    def environment(self) -> dict[str, str]:
        """The variables by which a program finds its deadline and this checkout, which is not installed."""
        folders = [str(ROOT), str(ROOT / "scripts"), *filter(None, [os.environ.get("PYTHONPATH")])]
        return {"PYTHONPATH": os.pathsep.join(folders), "PYTEST_ADDOPTS": "", **self.deadline.environment()}

    def run_cases(
        self,
        command: Sequence[str | Path],
        log: str,
        *,
        part: str,
        case_seconds: float,
        prefix: str = "",
        variables: Mapping[str, str] | None = None,
        good_statuses: Sequence[int] = (0,),
    ) -> None:
        """Run a program that records its cases by itself, again after each case that ends it, until all are done.

        A case that crashes the program, or lasts too long, is recorded for it. What it does not get done, because its
        time is over or its exit status is not a good one, is recorded as one case, "the rest".
        """
        findings = self.findings.labelled(part=part)
        environment = self.environment() | findings.environment() | dict(variables or {})
        for _ in range(_STARTS):
            stuck = Stuck(findings, case_seconds * self.options.pace)
            done_before = findings.done()
            ended = execute(
                command,
                self.log(log),
                seconds=self.deadline.left,
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
                pass  # the case that lasted too long has ended after all, and another has begun: it begins again
            elif running is not None:
                how = "hung" if stuck.found else "crashed"
                tail = "" if stuck.found else f": {ended.tail}"
                findings.add(how, running["case"], f"the program {ended.verdict}{tail}")
            elif ended.status in good_statuses:
                return
            elif ended.status != RESTART or findings.done() == done_before:
                findings.add("failed", REST, f"the program {ended.verdict}: {ended.tail}")
                return
            if self.over:
                findings.add("skipped", REST, "the time of this step was over", late=True)
                return
        findings.add("failed", REST, f"given up after {_STARTS} starts")


class Stuck:
    """Whether a program's case lasts longer than it may, or none has run for long: for `execute`'s stop.

    case: the one that lasts too long.
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


class CannotRunError(Exception):
    """What a step raises that cannot begin: a tool or file that it needs is missing."""


class LateError(CannotRunError):
    """What a step raises that has no time left."""


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    runners: Path | None = None  # a folder of runners that were built elsewhere
    variants: tuple[str, ...] = ()  # of stage `ab`
    rehearsal: bool = False
    pace: float = 1.0  # a factor of every limit but the deadline: a rehearsal of hangs need not last as long
    jobs: int = os.cpu_count() or 1


def python(*words: str | Path) -> list[str | Path]:
    """A command of the interpreter that runs the report."""
    return [sys.executable, *words]
