"""Stage `sanitize`: compute-sanitizer's other tools, and the ops' tests on memory filled with 0xFF."""

from __future__ import annotations

import functools

from gpu.build import build, find_runners
from gpu.report import Report
from gpu.sanitizer import sanitize_runner
from gpu.stages.tests import run_test_files

# The tests of each family, which fail if an output or workspace that was never written is read.
_FAMILIES = ("box_coder", "box_iou", "default_boxes", "match", "multibox_loss", "nms", "postprocess")
_FILES = (*(f"tests/ops/test_{family}.py" for family in _FAMILIES), "tests/every_op/test_bits.py")


def sanitize(report: Report) -> None:
    """Look for races, uninitialized reads and misused barriers: by tools in the runners, by a fill in Python."""
    report.step("build", 180, build)
    for tool in ("synccheck", "initcheck", "racecheck"):  # the slowest last
        report.step(tool, 120, functools.partial(_run_tool, tool))
    report.step("filled memory", 150, _fill)


def _run_tool(tool: str, report: Report) -> None:
    sanitize_runner(report, tool, find_runners(report))


def _fill(report: Report) -> None:
    run_test_files(report, report.cut(_FILES), case_seconds=60, SSD_FAST_TEST_FILL="0xFF")
