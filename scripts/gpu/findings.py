"""Findings: lines of JSON, each appended to a file by one write, so that a kill at any moment leaves it readable.

The report and the programs that it starts append to the same file. A program gets the file's path and the labels of
its findings from its environment.

    findings = from_environment()
    for name in names:
        if name in findings.done():
            continue  # finished by an earlier process of this program, which a later case ended
        with findings.case(name) as result:
            result["us"] = measure(name)
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FILE = "SSD_FAST_FINDINGS"  # environment variables
LABELS = "SSD_FAST_FINDINGS_LABELS"

BEGAN = "began"
FINAL = ("passed", "failed", "skipped", "crashed", "hung")
REST = "the rest"  # stands for all the cases that a program did not begin
RESTART = 75  # exit status of a program that lost its CUDA context: start it again for the cases that are left

# After these errors every later CUDA call of the process fails too.
_LOST_CONTEXT = re.compile(
    r"illegal memory access|misaligned address|device-side assert|unspecified launch failure|illegal instruction"
    r"|invalid program counter|hardware stack error|global/shared address space|uncorrectable ECC|launch timed out"
)

Finding = dict[str, Any]


class Findings:
    """A file of findings, and the labels that this writer adds to its own."""

    restarts = False  # whether the process that started this one starts it again after RESTART

    def __init__(self, path: Path, **labels: str) -> None:
        self.path = path
        self.labels = labels

    def labeled(self, **labels: str) -> Findings:
        """The same file, with more labels."""
        found = Findings(self.path, **{**self.labels, **labels})
        found.restarts = self.restarts
        return found

    def environment(self) -> dict[str, str]:
        """The environment variables that from_environment reads in a program."""
        return {FILE: str(self.path), LABELS: json.dumps(self.labels)}

    def add(self, status: str, case: str, text: str = "", **values: Any) -> None:
        """Append one finding: a case, its status, and what was found."""
        finding = {"time": round(time.time(), 2), **self.labels, "case": case, "status": status}
        if text:
            finding["text"] = text
        line = json.dumps(finding | values, default=str) + "\n"
        try:
            _append(self.path, line)
        except OSError as error:  # such as a full disk; standard output may still reach the reader
            print(f"{error}: {line}", end="", flush=True)

    @contextlib.contextmanager
    def case(self, name: str) -> Iterator[dict[str, Any]]:
        """Record that a case began, how it ended, and what the body puts into the dict.

        An exception is recorded, and the program goes on, unless the exception leaves CUDA unusable: then a program
        that the report started exits with RESTART. The report itself does not use CUDA, so it always goes on.
        """
        self.add(BEGAN, name)
        values: dict[str, Any] = {}
        begin = time.monotonic()
        try:
            yield values
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            self.add("failed", name, text[:2000], seconds=round(time.monotonic() - begin, 2), **values)
            if self.restarts and lost_context(text):
                sys.stdout.flush()
                os._exit(RESTART)  # destructors would only raise the same error
        else:
            self.add("passed", name, seconds=round(time.monotonic() - begin, 2), **values)

    def mine(self) -> list[Finding]:
        """The findings with all the labels of this writer."""
        return [found for found in read(self.path) if self.labels.items() <= found.items()]

    def done(self) -> set[str]:
        """The cases that have ended."""
        return {found["case"] for found in self.mine() if found["status"] in FINAL}

    def running(self) -> Finding | None:
        """The `began` finding of the case that is running, or None."""
        return next(reversed(unfinished(self.mine())), None)


def lost_context(text: str) -> bool:
    """Whether an error's message says that the process can no longer use CUDA."""
    return _LOST_CONTEXT.search(text) is not None


def from_environment() -> Findings:
    """The writer that the report set up for this program.

    Raises: KeyError: the report did not start this program.
    """
    found = Findings(Path(os.environ[FILE]), **json.loads(os.environ[LABELS]))
    found.restarts = True
    return found


def read(path: Path) -> list[Finding]:
    """All findings of a file, without a line that was cut short."""
    found = []
    for line in path.read_text("utf-8", "replace").splitlines() if path.exists() else []:
        with contextlib.suppress(ValueError, RecursionError):
            found.append(json.loads(line))
    return [finding for finding in found if isinstance(finding, dict) and {"case", "status"} <= finding.keys()]


def unfinished(findings: list[Finding]) -> list[Finding]:
    """The `began` findings of the cases that never ended."""
    left: dict[tuple[str, ...], Finding] = {}
    for found in findings:
        key = tuple(str(found.get(label)) for label in ("run", "stage", "step", "part", "case"))
        if found["status"] == BEGAN:
            left[key] = found
        elif found["status"] in FINAL:
            left.pop(key, None)
    return list(left.values())


def _append(path: Path, line: str) -> None:
    """Append a line with one write, on a line of its own even after a writer that was killed within its line.

    A writer that is still writing looks the same; then the file gets an empty line.
    """
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(file).st_size
        torn = size > 0 and os.pread(file, 1, size - 1) != b"\n"
        os.write(file, (b"\n" if torn else b"") + line.encode())
    finally:
        os.close(file)
