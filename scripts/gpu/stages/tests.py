"""Stage `tests`: every test that uses a CUDA device, one process per file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gpu.build import build
from gpu.cases import run_cases
from gpu.report import Report, python

ROOT = Path(__file__).resolve().parents[3]
_USES_A_DEVICE = re.compile(r"\b(backend|cuda)\b")  # the fixtures through which a test gets one
PYTEST_STATUSES = 0, 1, 5  # all passed, some failed (their findings say which), no tests
_AT_ONCE = 8


def tests(report: Report) -> None:
    """Run `pytest -m gpu` on each file by itself, so that a file that ruins its process fails no other file."""
    report.step("build", 180, build)
    report.step("tests", 450, lambda step: run_test_files(step, gpu_test_files(step), case_seconds=60))


def gpu_test_files(report: Report) -> list[str]:
    """The files with tests that use a CUDA device, found by a text search, which is faster than collecting them."""
    folder = ROOT / ("scripts/gpu/rehearsal/planted" if report.options.rehearsal else "tests")
    found = [path for path in sorted(folder.rglob("test_*.py")) if _USES_A_DEVICE.search(path.read_text())]
    return [str(path.relative_to(ROOT)) for path in found]


def run_test_files(report: Report, files: Sequence[str], *, case_seconds: float, **variables: str) -> None:
    """Run the `gpu` tests of the files, several files at a time; each test is a case."""
    if not report.options.rehearsal:
        variables["SSD_FAST_REQUIRE_CUDA"] = "1"
    at_once = max(1, min(_AT_ONCE, report.options.jobs // 2, len(files)))
    variables["OMP_NUM_THREADS"] = str(max(1, report.options.jobs // at_once))  # else each takes all cores

    def run(file: str) -> None:
        command = python("-m", "pytest", "-m", "gpu", "-p", "gpu.pytest_findings", "-p", "no:cacheprovider", "-q", file)
        run_cases(
            report,
            command,
            "tests",
            part=file,
            case_seconds=case_seconds,
            prefix=f"{Path(file).stem}: ",
            variables=variables,
            good_statuses=PYTEST_STATUSES,
        )

    with ThreadPoolExecutor(at_once) as pool:
        for _ in pool.map(run, files):
            pass
    if not report.findings.done():
        raise RuntimeError("no test ran: none of the files has a test that is marked gpu")
