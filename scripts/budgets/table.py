"""tests/golden/kernel_budgets.json: sections of rows, each measured, printed and compared in its own way."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from budgets import calls, kernels
from budgets import compile as cuda

GOLDEN = cuda.ROOT / "tests" / "golden" / "kernel_budgets.json"
ACCEPT = "make budgets BUDGETS=--update accepts it"


@dataclass(frozen=True)
class Section:
    """A part of the table: its key, and how its rows are measured (for these architectures), printed, and compared
    with the written ones (None: no written rows apply)."""

    key: str
    measure: Callable[[Sequence[str]], dict[str, Any]]
    lines: Callable[[Any], list[str]]
    problems: Callable[[Any, Any], list[str]]
    of_nvcc: bool  # whether the rows depend on nvcc's version


SECTIONS = [
    Section("kernels", kernels.measure, kernels.lines, kernels.problems, of_nvcc=True),
    Section("calls", calls.measure, calls.lines, calls.problems, of_nvcc=False),
]


def read(path: Path = GOLDEN) -> dict[str, Any]:
    """The file: "nvcc", and the rows of every section."""
    return json.loads(path.read_text()) if path.exists() else {}


def write(rows: Mapping[str, Any], path: Path = GOLDEN) -> None:
    """Replace these sections, and nvcc's version if one of them depends on it; the other sections stay."""
    content = {**read(path), **rows}
    if any(section.of_nvcc and section.key in rows for section in SECTIONS):
        content["nvcc"] = cuda.nvcc_version()
    keys = sorted(content, key=lambda key: key != "nvcc")
    path.write_text(text({key: content[key] for key in keys}) + "\n")


def text(value: Any, indent: int = 0) -> str:
    """JSON with each row, a dictionary of plain values, on one line, so that a diff shows how it changed."""
    if not isinstance(value, dict) or not any(isinstance(x, dict) for x in value.values()):
        return json.dumps(value)
    space = " " * (indent + 1)
    items = [f"{space}{json.dumps(key)}: {text(x, indent + 1)}" for key, x in value.items()]
    return "{\n" + ",\n".join(items) + "\n" + " " * indent + "}"


def unchecked(golden: Mapping[str, Any]) -> str | None:
    """Why rows that depend on nvcc are not compared, or None: another nvcc allocates and schedules differently."""
    if not golden:
        return f"there is no {GOLDEN.name}"
    if golden["nvcc"] != cuda.nvcc_version():
        return f"the table is of nvcc {golden['nvcc']}, this is {cuda.nvcc_version()}"
    return None


def check(section: Section, rows: Any, golden: Mapping[str, Any] | None = None) -> tuple[list[str], str | None]:
    """(problems, why growth was not checked)."""
    golden = read() if golden is None else golden
    why = unchecked(golden) if section.of_nvcc else None
    return section.problems(rows, None if why or not golden else golden.get(section.key, {})), why
