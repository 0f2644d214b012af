"""Helpers for the tests of the commands: run one, and check its failure."""

from __future__ import annotations

from typing import Any

from typer.testing import CliRunner

from ssd_fast.cli import app

FINE, FAILED, WRONG_USE = 0, 1, 2


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def one_line(result: Any, *parts: object) -> None:
    """Check that the command failed and said why in one line."""
    assert result.exit_code == FAILED, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in result.output, result.stderr
    for part in parts:
        assert str(part) in lines[0]
