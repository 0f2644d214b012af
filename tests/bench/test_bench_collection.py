"""`pytest bench/bench_nms.py` finds the benchmarks, and plain `pytest` finds the tests alone."""

from __future__ import annotations

import subprocess
import sys

import pytest

from helpers.paths import ROOT


def collected(*arguments: str) -> list[str]:
    """Return the ids of the cases that pytest collects with the project's settings."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *arguments]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return [line for line in ended.stdout.splitlines() if "::" in line]


@pytest.mark.parametrize("file", sorted(path.name for path in (ROOT / "bench").glob("bench_*.py")))
def test_benchmark_file_defines_benchmarks(file: str) -> None:
    assert "\ndef bench_" in (ROOT / "bench" / file).read_text()


def test_plain_pytest_collects_benchmark_file() -> None:
    pytest.importorskip("pytest_benchmark", reason="pytest-benchmark, of the extra `bench`, is not installed")
    cases = collected("bench/bench_nms.py")
    functions = {case.partition("[")[0] for case in cases}
    names = ("nms", "nms_of_detectors", "batched_nms", "nms_padded")
    assert functions == {f"bench/bench_nms.py::bench_{name}" for name in names}


def test_no_test_has_name_of_benchmark() -> None:
    """pytest collects both kinds of names in every file, and by default only in tests/."""
    assert not list((ROOT / "tests").rglob("bench_*.py"))
    assert not [path for path in (ROOT / "tests").rglob("test_*.py") if "\ndef bench_" in path.read_text()]
