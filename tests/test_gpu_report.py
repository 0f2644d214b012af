"""The parts of the GPU report (scripts/gpu): findings that survive, programs under limits, and what tools print."""

from __future__ import annotations

import dataclasses
import importlib
import json
import multiprocessing
import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from gpu import cases, ncu, processes, summary
from gpu.findings import Findings, lost_context, read
from gpu.processes import TIMED_OUT, Log, execute
from gpu.rehearsal import stand_in
from gpu.report import CannotRunError, Deadline, Options, Report
from gpu.stages import STAGES
from gpu.stages.tests import gpu_test_files

ROOT = Path(__file__).resolve().parents[1]
RECORDED = ROOT / "scripts" / "gpu" / "rehearsal" / "recorded"


@pytest.fixture
def findings(tmp_path: Path) -> Findings:
    return Findings(tmp_path / "findings.jsonl", run="1")


@pytest.fixture
def report(tmp_path: Path, findings: Findings) -> Report:
    return Report(tmp_path, findings.labelled(stage="first"), Deadline.after(60), Options(rehearsal=True, jobs=2))


# ---- findings -------------------------------------------------------------------------------------------------------


def test_a_finding_is_one_write(findings, monkeypatch):
    written = []
    real = os.write
    monkeypatch.setattr(os, "write", lambda file, data: written.append(data) or real(file, data))
    findings.labelled(stage="first").add("passed", "nms", "of 2 boxes\nand more", us=1.5)
    assert len(written) == 1
    (found,) = read(findings.path)
    assert {k: v for k, v in found.items() if k != "time"} == {
        "run": "1",
        "stage": "first",
        "case": "nms",
        "status": "passed",
        "text": "of 2 boxes\nand more",
        "us": 1.5,
    }


def _append(path: Path, writer: int) -> None:
    for i in range(300):
        Findings(path, writer=str(writer)).add("passed", str(i), "x" * (i * 37 % 9000))


def test_several_writers_tear_no_line(findings):
    workers = [multiprocessing.Process(target=_append, args=(findings.path, writer)) for writer in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    found = read(findings.path)
    assert len(found) == len([*filter(None, findings.path.read_text().splitlines())]) == 4 * 300
    assert {(f["writer"], f["case"]) for f in found} == {(str(w), str(i)) for w in range(4) for i in range(300)}


def test_findings_that_cannot_be_written_are_printed(capfd):
    Findings(Path("/dev/full"), run="1").add("failed", "nms", "other bits")
    printed = capfd.readouterr().out
    assert "No space left on device: {" in printed and '"other bits"' in printed


def test_lines_that_are_no_findings_are_left_out(findings):
    findings.add("passed", "first")
    with findings.path.open("ab") as file:
        file.write(b"\xff\x00garbage\n{}\n[1]\n" + b"[" * 100_000 + b"\n" + b'{"case": "no status"}\n')
    findings.add("passed", "second")
    assert [found["case"] for found in read(findings.path)] == ["first", "second"]


def test_a_torn_line_costs_itself_alone(findings):
    findings.add("passed", "first")
    findings.add("passed", "second")
    data = findings.path.read_bytes()
    findings.path.write_bytes(data[:-20])
    assert [found["case"] for found in read(findings.path)] == ["first"]
    findings.add("passed", "third")
    assert [found["case"] for found in read(findings.path)] == ["first", "third"]


def test_cases_that_began_are_known(findings):
    assert findings.running() is None and findings.done() == set()
    with findings.case("a") as result:
        result["us"] = 3
        assert findings.running()["case"] == "a"
    with findings.case("b"):
        raise ValueError("wrong bits")
    findings.labelled(part="other").add("began", "c")
    assert findings.done() == {"a", "b"}
    assert [(f["case"], f["status"]) for f in findings.mine()] == [
        *(("a", "began"), ("a", "passed"), ("b", "began"), ("b", "failed"), ("c", "began")),
    ]
    assert findings.mine()[1]["us"] == 3 and findings.mine()[3]["text"] == "ValueError: wrong bits"
    assert findings.labelled(part="mine").running() is None, "another part's case"


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        ("RuntimeError: ssd_fast: match_kernel: misaligned address", True),
        ("torch.AcceleratorError: CUDA error: an illegal memory access was encountered", True),
        ("CUDA error: device-side assert triggered", True),
        ("CUDA error: operation not supported on global/shared address space", True),
        ("RuntimeError: CUDA out of memory", False),
        ("ValueError: nms: boxes: expected shape [n, 4], got [3]", False),
    ],
)
def test_errors_that_lose_the_context(text, lost):
    assert lost_context(text) == lost


# ---- programs -------------------------------------------------------------------------------------------------------


def python(code: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(code)]


def test_output_is_logged_as_it_comes(tmp_path):
    log = Log(tmp_path / "run.log")
    seen_early = python(
        f"""
        import pathlib, sys, time
        print("hello", flush=True)
        log = pathlib.Path({str(log.path)!r})
        for _ in range(200):
            time.sleep(0.05)
            if "p: hello" in log.read_text():
                sys.exit(7)
        """
    )
    ended = execute(seen_early, log, seconds=20, prefix="p: ")
    assert (ended.status, ended.last_line, ended.verdict) == (7, "hello", "ended with status 7")


def test_the_time_limit_ends_a_program_and_its_children(tmp_path):
    code = """
        import subprocess, sys
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
        print(child.pid, flush=True)
        child.wait()
        """
    begin = time.monotonic()
    ended = execute(python(code), Log(tmp_path / "run.log"), seconds=1.0)
    assert ended.status == TIMED_OUT and time.monotonic() - begin < 10
    assert is_gone(int(ended.output))


def is_gone(pid: int) -> bool:
    """Whether a process ends within 5 seconds."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_a_tool_is_asked_before_it_is_killed(tmp_path):
    code = """
        import signal, sys, time
        signal.signal(signal.SIGINT, lambda *_: (print("what I have", flush=True), sys.exit(0)))
        print("begun", flush=True)
        time.sleep(1000)
        """
    ended = execute(python(code), Log(tmp_path / "run.log"), seconds=1.5, interrupt=True)
    assert ended.status == TIMED_OUT
    assert ended.output == "begun\nwhat I have"


def test_children_in_groups_of_their_own_end_too(tmp_path):
    """As the compilers that ninja starts."""
    code = """
        import subprocess, sys
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"], start_new_session=True)
        print(child.pid, flush=True)
        child.wait()
        """
    ended = execute(python(code), Log(tmp_path / "run.log"), seconds=1.5)
    assert is_gone(int(ended.output))


def test_a_program_whose_watcher_fails_is_ended(tmp_path):
    pids = tmp_path / "pid"
    code = f"import os, pathlib, time; pathlib.Path({str(pids)!r}).write_text(str(os.getpid())); time.sleep(1000)"

    def stop() -> bool:
        if pids.exists() and pids.read_text():
            raise OSError("the findings cannot be read")
        return False

    with pytest.raises(OSError, match="cannot be read"):
        execute(python(code), Log(tmp_path / "run.log"), seconds=20, stop=stop)
    assert is_gone(int(pids.read_text()))


def test_output_without_ends_of_lines_is_taken_in_pieces(tmp_path):
    code = "import sys; sys.stdout.buffer.write(bytes(range(128, 256)) * 100_000)"
    ended = execute(python(code), Log(tmp_path / "run.log", limit=1000), seconds=20)
    assert ended.status == 0 and max(len(line) for line in ended.output.split("\n")) <= 1 << 16


def test_a_full_disk_does_not_block_a_program(tmp_path):
    (tmp_path / "run.log").symlink_to("/dev/full")
    ended = execute(python("for i in range(30_000): print(i, 'x' * 20)"), Log(tmp_path / "run.log"), seconds=20)
    assert (ended.status, ended.last_line) == (0, f"29999 {'x' * 20}")


def test_signals_and_missing_programs_are_named(tmp_path):
    log = Log(tmp_path / "run.log")
    ended = execute(python("import os; os.kill(os.getpid(), 11)"), log, seconds=20)
    assert ended.verdict == "was ended by SIGSEGV"
    assert execute([str(tmp_path / "none")], log, seconds=20).status != 0


def test_a_log_has_a_limit(tmp_path):
    log = Log(tmp_path / "run.log", limit=1000)
    execute(python("for i in range(500): print(i, 'x' * 20)"), log, seconds=20)
    text = log.path.read_text()
    assert len(text) < 1100 and text.endswith("[the log is full: the rest is left out]\n")
    assert Log(log.path, limit=1000)._left <= 0, "a second report in the same folder starts anew"


# ---- programs that report case by case ------------------------------------------------------------------------------

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


def test_each_case_ends_as_it_must(report):
    names = ["a", "wrong", "b", "lost", "c", "crash", "d", "hang", "e"]
    statuses = ["passed", "failed", "passed", "failed", "passed", "crashed", "passed", "hung", "passed"]
    assert run_cases(report, *names, case_seconds=4) == [*zip(names, statuses, strict=True), ("step", "failed")]
    texts = {found["case"]: found.get("text", "") for found in report.findings.mine()}
    assert texts["crash"] == "the program was ended by SIGSEGV: about to crash"
    assert texts["hang"].startswith("the program was killed after ")
    assert texts["step"] == "9 cases, 4 of them bad: wrong"


def test_a_program_that_ends_early_is_a_failure(report):
    """It has not said which cases are left."""
    assert run_cases(report, "a", "leave", "b") == [
        ("a", "passed"),
        ("leave", "crashed"),
        ("b", "passed"),
        ("step", "failed"),
    ]


def test_a_program_that_does_not_start_is_a_failure(report):
    command = python("raise SystemExit(2)")
    report.step("cases", 20, lambda step: cases.run_cases(step, command, "run", part="p", case_seconds=5))
    assert [(f["case"], f["status"]) for f in report.findings.mine()][1:] == [
        ("the rest", "failed"),
        ("step", "failed"),
    ]


def test_a_program_that_always_crashes_is_given_up(report, monkeypatch):
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
def test_a_program_that_hangs_outside_its_cases_is_ended(report, monkeypatch, code):
    monkeypatch.setattr("gpu.cases._IDLE_SECONDS", 3.0)
    begin = time.monotonic()
    command = [*python(code), "a"]
    report.step("cases", 40, lambda step: cases.run_cases(step, command, "run", part="p", case_seconds=2))
    assert time.monotonic() - begin < 20
    rest = report.findings.mine()[-2]
    assert (rest["case"], rest["status"]) == ("the rest", "hung")
    assert "none of its cases running" in rest["text"]


def test_an_error_that_loses_the_context_of_a_program_does_not_end_the_report(report):
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


def test_a_step_without_cases_has_not_passed(report):
    report.step("none", 5, lambda step: None)
    report.step("skipped", 5, lambda step: step.findings.add("skipped", "a", "needs two GPUs"))
    ends = [(f["step"], f["status"], f["text"]) for f in report.findings.mine() if "seconds" in f]
    assert ends == [("none", "failed", "no case was run"), ("skipped", "skipped", "1 cases, all of them skipped")]


def test_a_step_has_its_own_time(report):
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


def test_a_step_that_fails_or_cannot_run_says_so(report):
    def fail(error):
        raise error

    report.step("one", 5, lambda step: fail(OSError("no space left")))
    report.step("two", 5, lambda step: fail(CannotRunError("ncu is nowhere")))
    late = Report(report.out, report.findings, Deadline.after(0), report.options)
    late.step("three", 5, lambda step: pytest.fail("it has no time"))
    ends = [(f["step"], f["status"], f["text"]) for f in report.findings.mine() if f["status"] != "began"]
    assert ends == [
        ("one", "failed", "OSError: no space left"),
        ("two", "skipped", "ncu is nowhere"),
        ("three", "skipped", "no time was left"),
    ]


def test_nothing_starts_once_the_report_ends(report, monkeypatch):
    monkeypatch.setattr(processes, "_closed", type(processes._closed)())
    processes.close()
    with pytest.raises(processes.EndingError):
        report.execute([sys.executable, "-c", "print(1)"], "run")


def test_what_the_report_ends_has_not_failed(report, monkeypatch):
    """Neither a case of the report's own nor one of a program's: both were running at the end."""
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


# ---- what tools print -----------------------------------------------------------------------------------------------


def ncu_table(name: str = "ncu_ok.txt") -> list[str]:
    return [line for line in (RECORDED / name).read_text().splitlines() if line.startswith('"')]


def test_ncu_table():
    kernels = ncu.parse(ncu_table())
    assert [kernel["name"] for kernel in kernels] == ["score_filter_kernel", "segment_nms_kernel", "merge_kernel"]
    first = kernels[0]
    assert (first["us"], first["dram_read_bytes"], first["registers"]) == (24.512, 22634496, 40)
    assert first["sectors_a_load"] == 4.0 and first["sectors_a_store"] == round(40960 / 17664, 2)
    assert first["grid"] == "(69, 8, 1)"


def test_ncu_table_with_odd_cells():
    whole = ncu.parse(ncu_table())[0]
    table = [line.replace('"24512"', '"24,512"').replace('"71.91"', '"n/a"') for line in ncu_table()]
    assert whole.pop("occupancy_percent") == 71.91
    assert ncu.parse(table)[0] == whole
    assert ncu.parse([]) == []


@pytest.mark.parametrize(
    ("mode", "status", "text"),
    [
        ("ok", "passed", ""),
        ("errors", "failed", "102 errors; it ended with status 9: Invalid __global__ write of size 8 bytes"),
        ("not_supported", "failed", "the tool could not run: Device not supported"),
        ("crash", "failed", "the tool gave no summary; it was ended by SIGSEGV"),
    ],
)
def test_sanitizer_verdicts(report, tmp_path, monkeypatch, mode, status, text):
    from gpu.sanitizer import sanitize_runner

    (tmp_path / "compute-sanitizer").symlink_to(stand_in.__file__)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SSD_FAST_STAND_INS", json.dumps({"compute-sanitizer": mode}))
    sanitize_runner(report, "memcheck", [Path("nms_cuda")])
    found = report.findings.mine()[-1]
    assert (found["case"], found["status"]) == ("memcheck nms_cuda", status)
    assert text in found.get("text", "")


def test_a_machine_that_cannot_profile_is_asked_once(report, tmp_path, monkeypatch):
    (tmp_path / "ncu").write_text(
        "#!/bin/sh\necho '==ERROR== Failed to initialize the profiler: LibraryNotLoaded'\nexit 9\n"
    )
    (tmp_path / "ncu").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    report.step("ncu", 20, lambda step: ncu.profile(step, ncu.PROFILED))
    found = [(f["case"], f["status"]) for f in report.findings.mine() if f["status"] != "began"]
    assert found == [(ncu.PROFILED[0], "failed"), ("step", "skipped")]
    assert "cannot profile on this machine: Failed to initialize" in report.findings.mine()[-1]["text"]


# ---- variants -------------------------------------------------------------------------------------------------------


def test_a_variant_that_does_not_compile_is_left_out(report, tmp_path, monkeypatch):
    """Not compared by the build that its folder had of other flags; and a file's only if it is there."""
    (tmp_path / "cmake").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "cmake").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(Report, "build_folder", tmp_path / "build")
    stale, given = tmp_path / "build" / "ab" / "tile" / "_C.so", tmp_path / "given.so"
    stale.parent.mkdir(parents=True)
    stale.touch()
    given.touch()
    variants = (f"gone={tmp_path / 'gone.so'}", "tile=-DTILE=8", f"given={given}")
    builds: list[str] = []
    options = dataclasses.replace(report.options, variants=variants)
    module = importlib.import_module("gpu.stages.ab")
    dataclasses.replace(report, options=options).step("build", 30, lambda step: module._build_all(step, builds))
    assert builds == [f"given={given}"]
    failed = [found["case"] for found in report.findings.mine() if found["status"] == "failed"]
    assert failed == ["file gone", "configure", "compile", "step"]


# ---- the plan -------------------------------------------------------------------------------------------------------


def test_gpu_tests_are_found_by_their_text(request):
    """The report reads files instead of collecting them; here they are collected."""
    marked = {item.path.name for item in request.session.items if item.get_closest_marker("gpu")}
    report = Report(Path(), Findings(Path()), Deadline.after(1), Options())
    found = {Path(file).name for file in gpu_test_files(report)}
    assert marked <= found
    assert "test_nms.py" in found


def test_stages_fit_a_command():
    assert list(STAGES) == ["first", "tests", "sanitize", "rivals", "ab"]
    assert all(seconds <= 540 for _, seconds in STAGES.values())


# ---- the summary ----------------------------------------------------------------------------------------------------


def test_summary_tells_what_is_wrong_and_how_fast(report):
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
    report.findings.labelled(step="ncu").add("began", "step")
    report.findings.labelled(step="ncu").add("began", "nms n=10000")
    text = summary.markdown(read(report.findings.path))
    assert "| nms n=1000 | 31.25 | 1.6% | 0.5 | 40 | 1,234 | 16 | 15.25 | resolve 14, scan 2 |" in text
    assert "- match N=32: graph: RuntimeError: not permitted" in text
    assert "Cases: 2 passed, 1 failed, 1 not ended." in text
    assert "- first / bits / match: failed: AssertionError: other bits | than the CPU's" in text
    assert "| first | ncu | not ended |" in text
    assert "  - again: `python -m pytest -m gpu tests/test_bits.py -k 'gives_the_bits and match'`" in text
    assert "- first / ncu / nms n=10000: began and has not ended" in text
    assert "## What is wrong\n\n- first" in text
    report.findings.add("failed", "a name", "a lone surrogate: \udc80")
    summary.write(report.out)
    assert "\\udc80" in (report.out / "report.md").read_text()
    assert (report.out / "report.md").exists() and not (report.out / "report.md.new").exists()


def test_summary_tells_which_gpu_and_what_was_not_checked(report):
    gpu = {**stand_in.GPU, "clocks_event_reasons.active": "0x0000000000000024"}
    report.findings.add("passed", "gpu", **gpu)
    report.step("memcheck", 10, lambda step: step.findings.add("skipped", "a", "no tool"))
    text = summary.markdown(read(report.findings.path))
    assert "- GPU: NVIDIA H100 80GB HBM3, compute capability 9.0, driver 580.159.04; SM clock 1980 of 1980 MHz;" in text
    assert "clocks lowered by: power cap, temperature, by software" in text
    assert "## What is wrong\n\nNothing" in text
    assert "## What was not checked\n\n- first / memcheck / a: no tool\n\n## Steps" in text


def test_many_failures_leave_room_for_the_rest(report):
    """What is printed is short, and has the steps all the same."""
    for i in range(70):
        report.findings.labelled(step="bits").add("failed", f"case {i}", f"{i} " + "x" * 2000)
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
            "tests/test_nms.py::test_a[1-2]",
            "SSD_FAST_REQUIRE_CUDA=1 python -m pytest -m gpu 'tests/test_nms.py::test_a[1-2]'",
        ),
        ("times", "nms n=1000", "python bench/device_times.py --only 'nms n=1000'"),
        ("ncu", "nms n=1000", "ncu --profile-from-start off python bench/profile_case.py 'nms n=1000'"),
    ],
)
def test_summary_tells_how_to_run_a_case_again(report, step, case, command):
    report.findings.labelled(step=step).add("failed", case, "wrong")
    report.findings.labelled(step=step).add("failed", "the rest", "the program ended with status 2")
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
def test_wrong_use_is_not_a_report_without_failures(tmp_path, words, fault):
    words = [word.format(out=tmp_path) for word in words]
    command = [sys.executable, str(ROOT / "scripts" / "gpu_report.py"), str(tmp_path), *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and fault in done.stderr
    assert not list(tmp_path.iterdir())


def test_the_place_of_a_crash_is_kept(tmp_path):
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
