"""report.md: failures first, with the command that repeats them, then the unchecked cases and the times."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from gpu import summary
from gpu.findings import read
from gpu.processes import Log, execute
from gpu.rehearsal import stand_in
from gpu.report import Report

from helpers.gpu_reports import make_report, python
from helpers.paths import ROOT


@pytest.fixture
def report(tmp_path: Path) -> Report:
    return make_report(tmp_path)


def test_summary_has_failures_and_times(report):
    def measure(step):
        kernels = [{"name": "resolve", "us": 14.0, "count": 1}, {"name": "scan", "us": 2.0, "count": 1}]
        with step.findings.case("nms n=1000") as result:
            result.update(graph_us=31.25, cold_us=40.0, eager_us=1234.5, limit_us=0.5, share_of_limit=0.016)
            result.update(launches=16, kernels=kernels)
        with step.findings.case("match N=32") as result:
            result["graph_error"] = "RuntimeError: not permitted"

    def check(step):
        with step.findings.case("match"):
            raise AssertionError("other bits | than the CPU's")

    report.step("times", 10, measure)
    report.step("bits", 10, check)
    report.findings.labeled(step="ncu").add("began", "step")
    report.findings.labeled(step="ncu").add("began", "nms n=10000")
    text = summary.markdown(read(report.findings.path))
    assert "| nms n=1000 | 31.25 | 1.6% | 0.5 | 40 | 1,234 | 16 | 15.25 | resolve 14, scan 2 |" in text
    assert "- match N=32: graph: RuntimeError: not permitted" in text
    assert "Cases: 2 passed, 1 failed, 1 not ended." in text
    assert "- first / bits / match: failed: AssertionError: other bits | than the CPU's" in text
    assert "| first | ncu | not ended |" in text
    assert "  - again: `python -m pytest -m gpu tests/every_op/test_bits.py -k 'gives_the_bits and match'`" in text
    assert "- first / ncu / nms n=10000: began and has not ended" in text
    assert "## What is wrong\n\n- first" in text
    report.findings.add("failed", "a name", "a lone surrogate: \udc80")
    summary.write(report.out)
    assert "\\udc80" in (report.out / "report.md").read_text()
    assert (report.out / "report.md").exists() and not (report.out / "report.md.new").exists()


def test_summary_has_gpu_and_unchecked_cases(report):
    gpu = {**stand_in.GPU, "clocks_event_reasons.active": "0x0000000000000024"}
    report.findings.add("passed", "gpu", **gpu)
    report.step("memcheck", 10, lambda step: step.findings.add("skipped", "a", "no tool"))
    text = summary.markdown(read(report.findings.path))
    assert "- GPU: NVIDIA H100 80GB HBM3, compute capability 9.0, driver 580.159.04; SM clock 1980 of 1980 MHz;" in text
    assert "clocks lowered by: power cap, temperature, by software" in text
    assert "## What is wrong\n\nNothing" in text
    assert "## What was not checked\n\n- first / memcheck / a: no tool\n\n## Steps" in text


def test_many_failures_leave_room_for_steps(report):
    """The printed summary is short, but has the steps."""
    for i in range(70):
        report.findings.labeled(step="bits").add("failed", f"case {i}", f"{i} " + "x" * 2000)
    report.step("times", 10, lambda step: step.findings.add("passed", "nms"))
    findings = read(report.findings.path)
    text = summary.shown(findings, 11_000)
    assert len(text) <= 11_000 < len(summary.markdown(findings))
    assert "| first | times | passed |" in text and "- and 55 more, in findings.jsonl" in text
    assert summary.shown(findings, 500).endswith("\n[cut here: report.md has the rest]\n")


@pytest.mark.parametrize(
    ("step", "case", "command"),
    [
        (
            "tests",
            "tests/ops/test_nms.py::test_a[1-2]",
            "SSD_FAST_REQUIRE_CUDA=1 python -m pytest -m gpu 'tests/ops/test_nms.py::test_a[1-2]'",
        ),
        ("times", "nms n=1000", "python bench/device_times.py --only 'nms n=1000'"),
        ("ncu", "nms n=1000", "ncu --profile-from-start off python bench/profile_case.py 'nms n=1000'"),
    ],
)
def test_summary_has_command_to_run_case_again(report, step, case, command):
    report.findings.labeled(step=step).add("failed", case, "wrong")
    report.findings.labeled(step=step).add("failed", "the rest", "the program ended with status 2")
    text = summary.markdown(read(report.findings.path))
    assert f": failed: wrong\n  - again: `{command}`\n" in text and text.count("again: ") == 1


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["--stages", "ab", "--variants", "base="], "stage ab: expected two or more variants of different names"),
        (["--stages", "ab", "--variants", "a=", "a=-DX=1"], "stage ab: expected two or more variants"),
        (["--runners", "{out}"], "has no runners"),
        (["--stages", "frist"], "invalid choice: 'frist'"),
    ],
)
def test_wrong_use_ends_with_status_2_and_no_report(tmp_path, words, fault):
    words = [word.format(out=tmp_path) for word in words]
    command = [sys.executable, str(ROOT / "scripts" / "gpu_report.py"), str(tmp_path), *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and fault in done.stderr
    assert not list(tmp_path.iterdir())


def test_output_tail_keeps_place_of_crash(tmp_path):
    code = """
        import faulthandler, os, signal
        faulthandler.enable()
        def fall(depth):
            fall(depth - 1) if depth else os.kill(os.getpid(), signal.SIGSEGV)
        fall(30)
        """
    ended = execute(python(code), Log(tmp_path / "run.log"), seconds=20)
    assert (
        ended.tail.startswith("Fatal Python error: Segmentation fault / ") and "in fall" in ended.tail.split(" / ")[1]
    )
