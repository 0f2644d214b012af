"""Findings: one line of JSON each, appended to a file by one write, which a kill at any moment leaves readable.

The report and the programs that it starts append to the same file. A program learns of the file, and of the labels of
its findings, from its environment.

    findings = from_environment()
    for name in names:
        if name in findings.done():
            continue  # an earlier process of this program finished it, before one that crashed
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
REST = "the rest"  # the case that stands for those that a program has not begun
RESTART = 75  # exit status of a program whose CUDA context is lost: start it again for the cases that are left

# After these errors every later CUDA call of the process fails too.
_LOST_CONTEXT = re.compile(
    r"illegal memory access|misaligned address|device-side assert|unspecified launch failure|illegal instruction"
    r"|invalid program counter|hardware stack error|global/shared address space|uncorrectable ECC|launch timed out"
)

Finding = dict[str, Any]


class Findings:
    """A file of findings, and the labels that this writer puts on each of its own."""

    restarts = False  # whether the process can be started again by whoever started it

    def __init__(self, path: Path, **labels: str) -> None:
        self.path = path
        self.labels = labels

    def labelled(self, **labels: str) -> Findings:
        """The same file, with more labels."""
        found = Findings(self.path, **{**self.labels, **labels})
        found.restarts = self.restarts
        return found

    def environment(self) -> dict[str, str]:
        """The environment variables that from_environment reads in a program."""
        return {FILE: str(self.path), LABELS: json.dumps(self.labels)}

    def add(self, status: str, case: str, text: str = "", **values: Any) -> None:
        """Append one finding: a status, the case that it is of, and what was found."""
        finding = {"time": round(time.time(), 2), **self.labels, "case": case, "status": status}
        if text:
            finding["text"] = text
        line = json.dumps(finding | values, default=str) + "\n"
        try:
            _append(self.path, line)
        except OSError as error:  # a full disk, say: the output is the other way by which findings leave a machine
            print(f"{error}: {line}", end="", flush=True)

    @contextlib.contextmanager
    def case(self, name: str) -> Iterator[dict[str, Any]]:
        """Record that a case began, and how it ended, with what the body puts into the dict.

        An exception is a finding, not the end of the program, unless it leaves CUDA unusable: then a program that a
        report started exits with RESTART. The report itself uses no CUDA: there such an error is a program's.
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
                os._exit(RESTART)  # destructors would only meet the same error
        else:
            self.add("passed", name, seconds=round(time.monotonic() - begin, 2), **values)

    def mine(self) -> list[Finding]:
        """The findings with all the labels of this writer."""
        return [found for found in read(self.path) if self.labels.items() <= found.items()]

    def done(self) -> set[str]:
        """The cases that have ended."""
        return {found["case"] for found in self.mine() if found["status"] in FINAL}

    def running(self) -> Finding | None:
        """The finding by which the case that has begun and not ended announced itself."""
        begun: dict[str, Finding] = {}
        for found in self.mine():
            if found["status"] == BEGAN:
                begun[found["case"]] = found
            elif found["status"] in FINAL:
                begun.pop(found["case"], None)
        return next(reversed(begun.values()), None)


def lost_context(text: str) -> bool:
    """Whether an error's message says that the process can use CUDA no longer."""
    return _LOST_CONTEXT.search(text) is not None


def from_environment() -> Findings:
    """The writer that the report gave to this program.

    Raises: KeyError: the report did not start it.
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
    """Of the cases that began and never ended, the findings by which they began."""
    left: dict[str, Finding] = {}
    for found in findings:
        key = json.dumps([found.get(label) for label in ("run", "stage", "step", "part", "case")])
        if found["status"] == BEGAN:
            left[key] = found
        elif found["status"] in FINAL:
            left.pop(key, None)
    return list(left.values())


def _append(path: Path, line: str) -> None:
    """By one write; on a line of its own, also where a writer was killed within its line.

    One that is still writing looks the same, and an empty line comes of it.
    """
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(file).st_size
        torn = size > 0 and os.pread(file, 1, size - 1) != b"\n"
        os.write(file, (b"\n" if torn else b"") + line.encode())
    finally:
        os.close(file)
