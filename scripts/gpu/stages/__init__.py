"""The stages of the report, each a function of a Report, by the names that the command line knows."""

from __future__ import annotations

from collections.abc import Callable

from gpu.report import Report
from gpu.stages.ab import ab
from gpu.stages.first import first
from gpu.stages.rivals import rivals
from gpu.stages.sanitize import sanitize
from gpu.stages.tests import tests

# Each with its seconds. The first is planned for less than 300 on 16 cores; its steps have limits of their own.
STAGES: dict[str, tuple[Callable[[Report], None], float]] = {
    "first": (first, 480),
    "tests": (tests, 480),
    "sanitize": (sanitize, 480),
    "rivals": (rivals, 540),
    "ab": (ab, 300),
}
