"""Stage `counts`: compare the counts made without a GPU (make budgets) with a profiler's on one."""

from __future__ import annotations

from gpu.build import build, find_runners
from gpu.ncu import profile
from gpu.patterns import check_patterns
from gpu.report import Report

# Cases of bench/device_cases.py that are in the table of budgets too, with the same inputs.
CALLS = (
    "postprocess sparse N=1 C=91",
    "postprocess sparse N=8 C=91",
    "postprocess sparse N=1 C=21",
    "postprocess sparse N=8 C=21",
    "postprocess sparse N=1 C=91 NCHW maps",
    "postprocess dense N=1 C=91",
    "nms_padded N=8 C=90 n=400",
    "nms n=1000",
    "nms n=10000",
    "postprocess sparse N=1 C=91 bfloat16",
    "default_boxes",
)


def counts(report: Report) -> None:
    """Check the patterns, whose counts are known, then profile calls, whose counts docs/benchmarks.md compares."""
    report.step("build", 180, build)
    report.step("patterns", 60, lambda step: check_patterns(step, find_runners(step)))
    report.step("calls", 200, lambda step: profile(step, step.cut(CALLS)))
