"""tests/golden/kernel_budgets.json: sections of rows that are measured, printed and compared, each in its own way."""

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
    """A part of the table: its key, how its rows are measured (for these architectures), printed, and compared with
    the written ones (None: there are none that hold)."""

    key: str
    measure: Callable[[Sequence[str]], dict[str, Any]]
    lines: Callable[[Any], list[str]]
    problems: Callable[[Any, Any], list[str]]
    of_nvcc: bool  # whether another nvcc gives other rows


SECTIONS = [
    Section("kernels", kernels.measure, kernels.lines, kernels.problems, of_nvcc=True),
    Section("calls", calls.measure, calls.lines, calls.problems, of_nvcc=False),
]


def read(path: Path = GOLDEN) -> dict[str, Any]:
    """The file: "nvcc", and the rows of every section."""
    return json.loads(path.read_text()) if path.exists() else {}


def write(rows: Mapping[str, Any], path: Path = GOLDEN) -> None:
    """Replaces these sections, and if one is of nvcc's making, its version; the other sections stay."""
    content = {**read(path), **rows}
    if any(section.of_nvcc and section.key in rows for section in SECTIONS):
        content["nvcc"] = cuda.nvcc_version()
    keys = sorted(content, key=lambda key: key != "nvcc")
    path.write_text(text({key: content[key] for key in keys}) + "\n")


def text(value: Any, indent: int = 0) -> str:
    """JSON in which a row, a dictionary of plain values, takes one line, so that a diff shows what became of it."""
    if not isinstance(value, dict) or not any(isinstance(x, dict) for x in value.values()):
        return json.dumps(value)
    space = " " * (indent + 1)
    items = [f"{space}{json.dumps(key)}: {text(x, indent + 1)}" for key, x in value.items()]
    return "{\n" + ",\n".join(items) + "\n" + " " * indent + "}"


def unchecked(golden: Mapping[str, Any]) -> str | None:
    """Why the rows of nvcc's making are not compared, or None: another nvcc allocates and schedules differently."""
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
