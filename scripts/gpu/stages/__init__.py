"""The stages of the report by their names on the command line; each is a function of a Report."""

from __future__ import annotations

from collections.abc import Callable

from gpu.report import Report
from gpu.stages.ab import ab
from gpu.stages.counts import counts
from gpu.stages.first import first
from gpu.stages.rivals import rivals
from gpu.stages.sanitize import sanitize
from gpu.stages.tests import tests

# Functions and limits in seconds. `first` took 205 with an H100 and 16 cores.
STAGES: dict[str, tuple[Callable[[Report], None], float]] = {
    "first": (first, 480),
    "tests": (tests, 480),
    "sanitize": (sanitize, 480),
    "rivals": (rivals, 540),
    "counts": (counts, 400),
    "ab": (ab, 300),
}
