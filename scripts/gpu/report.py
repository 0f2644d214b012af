"""Shared by the stages: deadlines, steps, and programs that record their own cases."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from gpu import summary
from gpu.findings import FINAL, Findings
from gpu.processes import Ended, Log, execute

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]

_LEAST_SECONDS = 4.0  # for a step, at any pace


@dataclass(frozen=True)
class Deadline:
    """A point in time, by time.monotonic()."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """The deadline this many seconds from now."""
        return cls(time.monotonic() + seconds)

    def within(self, seconds: float) -> Deadline:
        """This deadline, or the one this many seconds from now, whichever is earlier."""
        return Deadline(min(self.at, time.monotonic() + seconds))

    @property
    def left(self) -> float:
        """Seconds until the deadline, never less than 0."""
        return max(0.0, self.at - time.monotonic())

    def environment(self) -> dict[str, str]:
        """The variable from which programs read the deadline, in seconds since 1970."""
        return {"SSD_FAST_DEADLINE": f"{time.time() + self.left:.1f}"}


@dataclass(frozen=True)
class Report:
    """Where findings go and how much time is left. Each stage and each step has its own."""

    out: Path
    findings: Findings
    deadline: Deadline
    options: Options
    logs: dict[str, Log] = field(default_factory=dict)

    @property
    def build_folder(self) -> Path:
        """The folder of the builds for a GPU. A rehearsal has its own, since it only links what was built before."""
        return ROOT / "build" / ("rehearsal" if self.options.rehearsal else "gpu")

    def stage(self, name: str, seconds: float) -> Report:
        """The report of a stage with this many seconds, or with what is left of the whole if that is less."""
        return replace(self, findings=self.findings.labeled(stage=name), deadline=self.deadline.within(seconds))

    def labeled(self, **labels: str) -> Report:
        """This report, with more labels on its findings."""
        return replace(self, findings=self.findings.labeled(**labels))

    def cut(self, items: Sequence[T]) -> Sequence[T]:
        """All items; in a rehearsal only the first."""
        return items[:1] if self.options.rehearsal else items

    def log(self, name: str) -> Log:
        """The log of this name, which all its writers share."""
        return self.logs.setdefault(name, Log(self.out / f"{name}.log"))

    def step(self, name: str, seconds: float, run: Callable[[Report], None]) -> None:
        """Call run(the report of the step) with a limit in seconds, and record it as the case "step".

        If run raises an exception the step has failed, and the stage goes on. If no time is left the step is skipped.
        """
        limit = self.deadline.within(max(seconds * self.options.pace, _LEAST_SECONDS))
        step = replace(self, findings=self.findings.labeled(step=name), deadline=limit)
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
        """Record how the step ended."""
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
        """Run a program with this checkout on its path, within the deadline."""
        limit = self.deadline.left if seconds is None else min(seconds * self.options.pace, self.deadline.left)
        environment = self.environment()
        return execute(
            command, self.log(log), seconds=limit, environment=environment, prefix=prefix, interrupt=interrupt
        )

    def environment(self) -> dict[str, str]:
        """The variables by which a program finds its deadline and this checkout, which is not installed."""
        folders = [str(ROOT), str(ROOT / "scripts"), *filter(None, [os.environ.get("PYTHONPATH")])]
        return {"PYTHONPATH": os.pathsep.join(folders), "PYTEST_ADDOPTS": "", **self.deadline.environment()}


class CannotRunError(Exception):
    """Raised by a step that cannot begin, because a tool or file that it needs is missing."""


class LateError(CannotRunError):
    """Raised by a step that has no time left."""


@dataclass(frozen=True)
class Options:
    """The options of the command line."""

    runners: Path | None = None  # a folder of runners built elsewhere
    variants: tuple[str, ...] = ()  # of stage `ab`
    rehearsal: bool = False
    pace: float = 1.0  # multiplies every limit but the deadline, so that rehearsals of hangs are short
    jobs: int = os.cpu_count() or 1


def python(*words: str | Path) -> list[str | Path]:
    """A command for the interpreter that runs the report."""
    return [sys.executable, *words]


def in_words(command: Sequence[str | Path]) -> str:
    """A command as typed in the checkout's root."""
    return shlex.join(str(word).replace(f"{ROOT}/", "") for word in command)
