"""Stage `rivals`: the benchmarks on the GPU, one after another, those that compile last."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from gpu.build import build
from gpu.report import Report, python
from gpu.stages.tests import PYTEST_STATUSES

ROOT = Path(__file__).resolve().parents[3]

# What people come for first; the others follow by name.
_FIRST = ("bench_postprocess.py", "bench_nms.py", "bench_multibox_loss.py", "bench_match.py")
_REHEARSED = ("bench_default_boxes.py",)  # the quickest
_QUICK = {"SSD_FAST_BENCH_DEVICES": "cpu", "SSD_FAST_BENCH_QUICK": "1"}


def rivals(report: Report) -> None:
    """Each case a finding with the times of all; ours and theirs alternate in one process."""
    report.step("build", 180, build)
    report.step("machine", 60, _describe)
    report.step("rivals", 480, lambda step: _run_files(step, "0"))
    report.step("rivals that compile", 480, lambda step: _run_files(step, "only"))


def _describe(report: Report) -> None:
    """What bench/report.py puts above the table that it makes of these findings."""
    with report.findings.case("environment") as result:
        ended = report.execute(python("bench/machine.py"), "run")
        result["environment"] = json.loads(ended.output.splitlines()[-1])


def _run_files(report: Report, compiled: str) -> None:
    for file in _files(report):
        _run(report, file, compiled)


def _files(report: Report) -> Sequence[str]:
    if report.options.rehearsal:
        return _REHEARSED
    rest = [path.name for path in sorted((ROOT / "bench").glob("bench_*.py")) if path.name not in _FIRST]
    return *_FIRST, *rest


def _run(report: Report, file: str, compiled: str) -> None:
    if report.over:
        report.findings.add("skipped", file, "the time of this step was over", late=True)
        return
    names = ["-o", "python_files=bench_*.py", "-o", "python_functions=bench_*", "-p", "gpu.pytest_findings"]
    variables = {"SSD_FAST_BENCH_DEVICES": "cuda", "SSD_FAST_BENCH_RIVAL_SECONDS": "0.5"}
    if report.options.rehearsal:
        variables |= _QUICK
    report.run_cases(
        python("-m", "pytest", f"bench/{file}", *names, "-p", "no:cacheprovider", "-q"),
        "run",
        part=file,
        case_seconds=90,
        prefix=f"{Path(file).stem}: ",
        variables=variables | {"SSD_FAST_BENCH_COMPILE": compiled},
        good_statuses=PYTEST_STATUSES,
    )
