"""Steps of the GPU report, and programs that record their cases: a crash or hang costs only its own case."""

from __future__ import annotations

import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from gpu import cases, processes
from gpu.report import CannotRunError, Deadline, Report

from helpers.gpu_reports import make_report, python


@pytest.fixture
def report(tmp_path: Path) -> Report:
    return make_report(tmp_path)


CASES = """
    import os, signal, sys, time
    from gpu.findings import from_environment

    findings = from_environment()
    for name in sys.argv[1:]:
        if name in findings.done():
            continue
        with findings.case(name):
            if name == "wrong":
                raise AssertionError("other bits")
            if name == "lost":
                raise RuntimeError("CUDA error: misaligned address")
            if name == "crash":
                print("about to crash", flush=True)
                os.kill(os.getpid(), signal.SIGSEGV)
            if name == "hang":
                time.sleep(1000)
            if name == "leave":
                sys.exit(3)
    """


def run_cases(report: Report, *names: str, case_seconds: float = 30.0) -> list[tuple[str, str]]:
    command = [*python(CASES), *names]
    report.step("cases", 40, lambda step: cases.run_cases(step, command, "run", part="p", case_seconds=case_seconds))
    return [(f["case"], f["status"]) for f in report.findings.mine() if f["status"] != "began"]


def test_run_cases_records_outcome_of_each_case(report):
    names = ["a", "wrong", "b", "lost", "c", "crash", "d", "hang", "e"]
    statuses = ["passed", "failed", "passed", "failed", "passed", "crashed", "passed", "hung", "passed"]
    assert run_cases(report, *names, case_seconds=4) == [*zip(names, statuses, strict=True), ("step", "failed")]
    texts = {found["case"]: found.get("text", "") for found in report.findings.mine()}
    assert texts["crash"] == "the program was ended by SIGSEGV: about to crash"
    assert texts["hang"].startswith("the program was killed after ")
    assert texts["step"] == "9 cases, 4 of them bad: wrong"


def test_program_that_ends_early_is_a_failure(report):
    """It has not said which cases remain."""
    assert run_cases(report, "a", "leave", "b") == [
        ("a", "passed"),
        ("leave", "crashed"),
        ("b", "passed"),
        ("step", "failed"),
    ]


def test_program_that_does_not_start_is_a_failure(report):
    command = python("raise SystemExit(2)")
    report.step("cases", 20, lambda step: cases.run_cases(step, command, "run", part="p", case_seconds=5))
    assert [(f["case"], f["status"]) for f in report.findings.mine()][1:] == [
        ("the rest", "failed"),
        ("step", "failed"),
    ]


def test_program_that_always_crashes_is_given_up(report, monkeypatch):
    monkeypatch.setattr("gpu.cases._STARTS", 6)
    names = [f"lost{i}" for i in range(9)]
    code = CASES.replace('name == "lost"', 'name.startswith("lost")')
    command = [*python(code), *names]
    report.step("cases", 50, lambda step: cases.run_cases(step, command, "run", part="p", case_seconds=20))
    found = [(f["case"], f["status"]) for f in report.findings.mine() if f["status"] != "began"]
    assert found == [*((name, "failed") for name in names[:6]), ("the rest", "failed"), ("step", "failed")]


@pytest.mark.parametrize(
    "code", ["import time; time.sleep(1000)", f"{textwrap.dedent(CASES)}\ntime.sleep(1000)"], ids=["before", "after"]
)
def test_program_that_hangs_outside_its_cases_is_ended(report, monkeypatch, code):
    monkeypatch.setattr("gpu.cases._IDLE_SECONDS", 3.0)
    begin = time.monotonic()
    command = [*python(code), "a"]
    report.step("cases", 40, lambda step: cases.run_cases(step, command, "run", part="p", case_seconds=2))
    assert time.monotonic() - begin < 20
    rest = report.findings.mine()[-2]
    assert (rest["case"], rest["status"]) == ("the rest", "hung")
    assert "none of its cases running" in rest["text"]


def test_lost_context_of_program_does_not_end_report(report):
    def look(step):
        with step.findings.case("nms_cuda"):
            raise RuntimeError("FAIL: CUDA error: an illegal memory access was encountered")
        step.findings.add("passed", "match_cuda")

    report.step("runners", 10, look)
    assert [(f["case"], f["status"]) for f in report.findings.mine()][2:] == [
        ("nms_cuda", "failed"),
        ("match_cuda", "passed"),
        ("step", "failed"),
    ]


def test_step_without_cases_has_not_passed(report):
    report.step("none", 5, lambda step: None)
    report.step("skipped", 5, lambda step: step.findings.add("skipped", "a", "needs two GPUs"))
    ends = [(f["step"], f["status"], f["text"]) for f in report.findings.mine() if "seconds" in f]
    assert ends == [("none", "failed", "no case was run"), ("skipped", "skipped", "1 cases, all of them skipped")]


def test_step_has_own_time_limit(report):
    begin = time.monotonic()
    command = [*python(CASES), "a", "hang", "b"]
    report.step("short", 4, lambda step: cases.run_cases(step, command, "run", part="p", case_seconds=100))
    assert time.monotonic() - begin < 20
    found = [(f["case"], f["status"]) for f in report.findings.mine() if f["status"] != "began"]
    assert found == [("a", "passed"), ("the rest", "skipped"), ("step", "passed")]
    text = "the time of this step was over; hang was running"
    assert (report.findings.mine()[-2]["text"], report.findings.mine()[-2]["late"]) == (text, True)
    assert report.findings.mine()[-1]["text"] == f"2 cases; not all: the rest: {text}"
    report.step("next", 5, lambda step: step.findings.add("passed", "x"))
    assert report.findings.mine()[-1]["status"] == "passed"


def test_step_that_fails_or_cannot_run_says_so(report):
    def fail(error):
        raise error

    report.step("one", 5, lambda step: fail(OSError("no space left")))
    report.step("two", 5, lambda step: fail(CannotRunError("ncu is nowhere")))
    late = Report(report.out, report.findings, Deadline.after(0), report.options)
    late.step("three", 5, lambda step: pytest.fail("it ran, though it had no time"))
    ends = [(f["step"], f["status"], f["text"]) for f in report.findings.mine() if f["status"] != "began"]
    assert ends == [
        ("one", "failed", "OSError: no space left"),
        ("two", "skipped", "ncu is nowhere"),
        ("three", "skipped", "no time was left"),
    ]


def test_nothing_starts_after_end_of_report(report, monkeypatch):
    monkeypatch.setattr(processes, "_closed", type(processes._closed)())
    processes.close()
    with pytest.raises(processes.EndingError):
        report.execute([sys.executable, "-c", "print(1)"], "run")


def test_cases_ended_by_report_have_not_failed(report, monkeypatch):
    """A case of the report itself and a case of a program were both running at the end, and neither failed."""
    monkeypatch.setattr(processes, "_closed", type(processes._closed)())
    monkeypatch.setattr(processes, "_running", set())
    threading.Timer(2.0, processes.close).start()

    def wait(step):
        with step.findings.case("own"):
            cases.run_cases(step, [*python(CASES), "a", "hang"], "run", part="p", case_seconds=30)

    begin = time.monotonic()
    with pytest.raises(processes.EndingError):
        report.step("cases", 40, wait)
    assert time.monotonic() - begin < 15
    assert {f["status"] for f in report.findings.mine()} <= {"began", "passed"}
