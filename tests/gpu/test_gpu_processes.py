"""The programs that the GPU report starts run under limits and are logged as they run."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from gpu.processes import TIMED_OUT, Log, execute

from helpers.gpu_reports import python


def test_output_is_logged_immediately(tmp_path):
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


def test_time_limit_ends_program_and_its_children(tmp_path):
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
    """Return whether a process ends within 5 seconds."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_tool_is_interrupted_before_it_is_killed(tmp_path):
    code = """
        import signal, sys, time
        signal.signal(signal.SIGINT, lambda *_: (print("what I have", flush=True), sys.exit(0)))
        print("begun", flush=True)
        time.sleep(1000)
        """
    ended = execute(python(code), Log(tmp_path / "run.log"), seconds=1.5, interrupt=True)
    assert ended.status == TIMED_OUT
    assert ended.output == "begun\nwhat I have"


def test_children_in_other_process_groups_are_ended(tmp_path):
    """ninja starts compilers in such groups."""
    code = """
        import subprocess, sys
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"], start_new_session=True)
        print(child.pid, flush=True)
        child.wait()
        """
    ended = execute(python(code), Log(tmp_path / "run.log"), seconds=1.5)
    assert is_gone(int(ended.output))


def test_program_whose_watcher_fails_is_ended(tmp_path):
    pids = tmp_path / "pid"
    code = f"import os, pathlib, time; pathlib.Path({str(pids)!r}).write_text(str(os.getpid())); time.sleep(1000)"

    def stop() -> bool:
        if pids.exists() and pids.read_text():
            raise OSError("the findings cannot be read")
        return False

    with pytest.raises(OSError, match="cannot be read"):
        execute(python(code), Log(tmp_path / "run.log"), seconds=20, stop=stop)
    assert is_gone(int(pids.read_text()))


def test_output_without_line_ends_is_read_in_pieces(tmp_path):
    code = "import sys; sys.stdout.buffer.write(bytes(range(128, 256)) * 100_000)"
    ended = execute(python(code), Log(tmp_path / "run.log", limit=1000), seconds=20)
    assert ended.status == 0 and max(len(line) for line in ended.output.split("\n")) <= 1 << 16


def test_full_disk_does_not_block_program(tmp_path):
    (tmp_path / "run.log").symlink_to("/dev/full")
    ended = execute(python("for i in range(30_000): print(i, 'x' * 20)"), Log(tmp_path / "run.log"), seconds=20)
    assert (ended.status, ended.last_line) == (0, f"29999 {'x' * 20}")


def test_signals_and_missing_programs_are_named(tmp_path):
    log = Log(tmp_path / "run.log")
    ended = execute(python("import os; os.kill(os.getpid(), 11)"), log, seconds=20)
    assert ended.verdict == "was ended by SIGSEGV"
    assert execute([str(tmp_path / "none")], log, seconds=20).status != 0


def test_log_has_size_limit(tmp_path):
    log = Log(tmp_path / "run.log", limit=1000)
    execute(python("for i in range(500): print(i, 'x' * 20)"), log, seconds=20)
    text = log.path.read_text()
    assert len(text) < 1100 and text.endswith("[the log is full: the rest is left out]\n")
    assert Log(log.path, limit=1000)._left <= 0, "a second report in the same folder starts with an empty log"
