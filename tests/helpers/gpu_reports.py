"""What the tests of the GPU report share: a report in a folder of its own, and small programs."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

from gpu.findings import Findings
from gpu.report import Deadline, Options, Report


def make_report(folder: Path) -> Report:
    """Of a rehearsal of stage `first`, with a minute left."""
    findings = Findings(folder / "findings.jsonl", run="1", stage="first")
    return Report(folder, findings, Deadline.after(60), Options(rehearsal=True, jobs=2))


def python(code: str) -> list[str]:
    """The command that runs it."""
    return [sys.executable, "-c", textwrap.dedent(code)]
