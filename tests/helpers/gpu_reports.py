"""Helpers for the tests of the GPU report: a report in its own folder, and small programs."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

from gpu.findings import Findings
from gpu.report import Deadline, Options, Report


def make_report(folder: Path) -> Report:
    """Make the report of a rehearsal of stage `first`, with a minute left."""
    findings = Findings(folder / "findings.jsonl", run="1", stage="first")
    return Report(folder, findings, Deadline.after(60), Options(rehearsal=True, jobs=2))


def python(code: str) -> list[str]:
    """Return the command that runs the code."""
    return [sys.executable, "-c", textwrap.dedent(code)]
