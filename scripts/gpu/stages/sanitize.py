"""Stage `sanitize`: compute-sanitizer's other tools, and the ops on memory that was filled with 0xFF."""

from __future__ import annotations

import functools

from gpu.build import build, find_runners
from gpu.report import Report
from gpu.sanitizer import sanitize_runner
from gpu.stages.tests import run_test_files

# The families' own tests: in these an output or a workspace that was never written shows.
_FAMILIES = ("box_coder", "box_iou", "default_boxes", "match", "multibox_loss", "nms", "postprocess", "bits")


def sanitize(report: Report) -> None:
    """Races, uninitialised reads and misused barriers: the tools watch the runners' memory; Python's is filled."""
    report.step("build", 180, build)
    for tool in ("synccheck", "initcheck", "racecheck"):  # the slowest last
        report.step(tool, 120, functools.partial(_run_tool, tool))
    report.step("filled memory", 150, _fill)


def _run_tool(tool: str, report: Report) -> None:
    sanitize_runner(report, tool, find_runners(report))


def _fill(report: Report) -> None:
    files = [f"tests/test_{family}.py" for family in report.cut(_FAMILIES)]
    run_test_files(report, files, case_seconds=60, SSD_FAST_TEST_FILL="0xFF")
