"""Where the commands write to: a terminal of no width, a full disk, a pipe that nobody reads."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
from cli_checks import FAILED, FINE, WRONG_USE

from ssd_fast.assets import asset_path

DETECT = ("detect", asset_path("chelsea.jpg"), "--device", "cpu")
COMMANDS = [("--help",), DETECT, (*DETECT, "--json")]  # Typer, Rich and plain text


def run_process(*arguments: object, columns: str = "80", **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ssd_fast", *map(str, arguments)],
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": columns},
        **({"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options),
    )


@pytest.mark.parametrize("columns", ["0", "1"])
def test_no_width_hides_nothing(columns):
    result = run_process(*DETECT, columns=columns)
    assert result.returncode == FINE and result.stderr == ""
    assert "cat" in result.stdout and "score" in result.stdout and "%" in result.stdout
    assert "--json" in run_process("detect", "--help", columns=columns).stdout
    result = run_process("detect", columns=columns)
    assert result.returncode == WRONG_USE and "Missing argument" in result.stderr


@pytest.mark.parametrize("arguments", COMMANDS, ids=range(len(COMMANDS)))
def test_a_full_output_is_one_line(arguments):
    with open("/dev/full", "w") as full:
        result = run_process(*arguments, stdout=full)
    assert result.returncode == FAILED
    assert result.stderr == "error: the output cannot be written: No space left on device\n"


def test_when_even_errors_cannot_be_written():
    with open("/dev/full", "w") as full:
        assert run_process(*DETECT, stdout=full, stderr=full).returncode == FAILED


@pytest.mark.parametrize("arguments", COMMANDS, ids=range(len(COMMANDS)))
def test_a_pipe_that_nobody_reads_is_left_quietly(arguments):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        result = run_process(*arguments, stdout=writer)
    finally:
        os.close(writer)
    assert result.returncode == FAILED and result.stderr == ""
