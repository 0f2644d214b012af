"""`pytest bench/bench_nms.py` finds the benchmarks, and plain `pytest` finds the tests alone."""

from __future__ import annotations

import subprocess
import sys

import pytest

from helpers.paths import ROOT


def collected(*arguments: str) -> list[str]:
    """The ids of the cases that pytest collects with the project's own settings."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *arguments]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return [line for line in ended.stdout.splitlines() if "::" in line]


@pytest.mark.parametrize("file", sorted(path.name for path in (ROOT / "bench").glob("bench_*.py")))
def test_a_file_of_benchmarks_defines_some(file: str) -> None:
    assert "\ndef bench_" in (ROOT / "bench" / file).read_text()


def test_plain_pytest_collects_a_file_of_benchmarks() -> None:
    pytest.importorskip("pytest_benchmark", reason="pytest-benchmark, of the extra `bench`, is not installed")
    cases = collected("bench/bench_nms.py")
    functions = {case.partition("[")[0] for case in cases}
    assert functions == {f"bench/bench_nms.py::bench_{name}" for name in ("nms", "batched_nms", "nms_padded")}


def test_no_test_is_named_like_a_benchmark() -> None:
    """Since pytest looks for both names everywhere, and by default in tests/ alone."""
    assert not list((ROOT / "tests").rglob("bench_*.py"))
    assert not [path for path in (ROOT / "tests").rglob("test_*.py") if "\ndef bench_" in path.read_text()]
