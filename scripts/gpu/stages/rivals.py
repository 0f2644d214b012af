"""Stage `rivals`: the benchmarks on the GPU, one after another; rivals that compile come last."""

from __future__ import annotations

import json
from pathlib import Path

from gpu.build import build
from gpu.cases import run_cases
from gpu.report import Report, python
from gpu.stages.tests import PYTEST_STATUSES

ROOT = Path(__file__).resolve().parents[3]

# The most used ops come first, the others follow by name.
_FIRST = ("bench_postprocess.py", "bench_nms.py", "bench_multibox_loss.py", "bench_match.py")
_REHEARSED = ("bench_default_boxes.py",)  # the quickest
_QUICK = {"SSD_FAST_BENCH_DEVICES": "cpu", "SSD_FAST_BENCH_QUICK": "1"}


def rivals(report: Report) -> None:
    """Run the benchmarks, ours and the rivals alternating in one process: one finding per case, with all times."""
    report.step("build", 180, build)
    report.step("machine", 60, _describe)
    report.step("rivals", 480, lambda step: _run_benchmarks(step, "0"))
    report.step("rivals that compile", 480, lambda step: _run_benchmarks(step, "only"))


def _describe(report: Report) -> None:
    """Record the environment, which bench/report.py puts above its table of these findings."""
    with report.findings.case("environment") as result:
        ended = report.execute(python("bench/machine.py"), "run")
        result["environment"] = json.loads(ended.output.splitlines()[-1])


def _run_benchmarks(report: Report, compiled: str) -> None:
    """Run all files in one process, since importing torch and the rivals takes longer than many cases."""
    variables = {"SSD_FAST_BENCH_DEVICES": "cuda", "SSD_FAST_BENCH_RIVAL_SECONDS": "0.5"}
    if report.options.rehearsal:
        variables |= _QUICK
    run_cases(
        report,
        python("-m", "pytest", *_files(report), "-p", "gpu.pytest_findings", "-p", "no:cacheprovider", "-q"),
        "run",
        part="bench",
        case_seconds=90,
        prefix="rivals: ",
        variables=variables | {"SSD_FAST_BENCH_COMPILE": compiled},
        good_statuses=PYTEST_STATUSES,
    )


def _files(report: Report) -> list[str]:
    names = sorted(path.name for path in (ROOT / "bench").glob("bench_*.py"))
    ordered = _REHEARSED if report.options.rehearsal else dict.fromkeys([*_FIRST, *names])
    return [f"bench/{name}" for name in ordered]
