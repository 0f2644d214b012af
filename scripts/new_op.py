"""Stamp a new op: its nine files, and its lines in the lists that name every op.

    python scripts/new_op.py NAME

NAME is the op's name in Python and C++, such as box_coverage. As stamped, the op computes the area of every box: it
compiles, and passes its test on every backend. "FILL IN" marks what to replace. CONTRIBUTING.md says what comes next.
"""

from __future__ import annotations

import argparse
import builtins
import keyword
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TEMPLATES = ROOT / "scripts" / "op_templates"
STAND_IN = "new_op"  # the op's name in the templates

# Words that Python allows as names and C++ does not, and names that the sources use themselves.
_RESERVED = {
    *("auto", "case", "char", "const", "default", "delete", "do", "double", "enum", "explicit", "export", "extern"),
    *("friend", "goto", "inline", "long", "mutable", "namespace", "new", "operator", "private", "protected", "public"),
    *("register", "short", "signed", "sizeof", "static", "struct", "switch", "template", "this", "throw", "typedef"),
    *("typename", "union", "unsigned", "using", "virtual", "void", "volatile", "ssd", "std", "torch", "new_op"),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", metavar="NAME", help="the op's name: lower case letters, digits and underscores")
    name = parser.parse_args().name
    if fault := find_fault(name):
        parser.error(fault)
    edited = {path: edit((ROOT / path).read_text(), name) for path, edit in EDITS.items()}  # all or nothing
    stamped = stamp(name)
    for path, text in edited.items():
        (ROOT / path).write_text(text)
    tidy(stamped)
    print("\n".join(["stamped:", *(f"  {path}" for path in stamped), "edited:", *(f"  {path}" for path in edited)]))
    return 0


def find_fault(name: str) -> str | None:
    """Why an op cannot have this name, or None."""
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name):
        return f"NAME: expected lower case letters, digits and underscores, got {name!r}"
    if keyword.iskeyword(name) or hasattr(builtins, name) or name in _RESERVED:
        return f"NAME: expected a name that means nothing else in Python and C++, got {name!r}"
    if name in exported_names() or (ROOT / "csrc" / name).exists():
        return f"NAME: expected a new name, but ssd_fast or csrc has {name!r}"
    taken = [path for path in map(Path, targets(name)) if (ROOT / path).exists()]
    return f"NAME: expected a new name, but there is {taken[0]}" if taken else None


def exported_names() -> set[str]:
    """The public names of ssd_fast and of its ops, read from the source."""
    found: set[str] = set()
    for package in ("ssd_fast", "ssd_fast/ops", "ssd_fast/reference"):
        text = (ROOT / package / "__init__.py").read_text()
        found |= set(re.findall(r'"([a-z_]+)"', text)) | set(re.findall(r"^from \.(\w+)", text, re.MULTILINE))
    return found


def targets(name: str) -> list[str]:
    """The files to stamp, relative to the repository."""
    files = sorted(path.relative_to(TEMPLATES) for path in TEMPLATES.rglob(f"*{STAND_IN}*") if path.is_file())
    return [str(path).replace(STAND_IN, name) for path in files]


def stamp(name: str) -> list[str]:
    """Write the files, and return their paths."""
    stamped = targets(name)
    for path, template in zip(stamped, targets(STAND_IN), strict=True):
        (ROOT / path).parent.mkdir(exist_ok=True)
        (ROOT / path).write_text((TEMPLATES / template).read_text().replace(STAND_IN, name))
    return stamped


def tidy(paths: list[str]) -> None:
    """Format the files, since line breaks and the order of includes depend on the name's length and first letter."""
    python = [path for path in paths if path.endswith(".py")]
    others = [path for path in paths if not path.endswith(".py")]
    for command in (["ruff", "format", "--quiet", *python], ["clang-format", "-i", *others]):
        if shutil.which(command[0]):
            subprocess.run(command, cwd=ROOT, check=True)
        else:
            print(f"{command[0]} is not installed: run `make format` before you commit", file=sys.stderr)


# ---- edits of the lists ---------------------------------------------------------------------------------------------


def insert_before(text: str, anchor: str, lines: str) -> str:
    """Insert lines before the line that begins with the anchor.

    Raises: ValueError: there is no such line, or several.
    """
    if len(re.findall(f"^{re.escape(anchor)}", text, re.MULTILINE)) != 1:
        raise ValueError(f"expected one line that begins with {anchor!r}")
    return re.sub(f"^(?={re.escape(anchor)})", lambda _: lines, text, flags=re.MULTILINE)


def insert_sorted(text: str, line: str, alike: str, after: str = "") -> str:
    """Insert a line into the first run of sorted lines that match a pattern, past the line `after`.

    Raises: ValueError: no line matches.
    """
    lines = text.splitlines(keepends=True)
    begin = lines.index(f"{after}\n") if after else 0
    run = [number for number, old in enumerate(lines) if number >= begin and re.fullmatch(alike, old.rstrip("\n"))]
    if not run:
        raise ValueError(f"expected a line like {alike!r}")
    end = next(number for number in range(run[0], len(lines) + 1) if number not in run)
    place = next((number for number in range(run[0], end) if lines[number] > line), end)
    return "".join([*lines[:place], f"{line}\n", *lines[place:]])


def edit_cmake(text: str, name: str) -> str:
    folder = f"csrc/{name}/{name}"
    text = insert_before(text, "  csrc/box_iou/box_iou_cpu.cpp", f"  {folder}_cpu.cpp\n")
    text = insert_before(text, "  csrc/box_iou/box_iou.cu", f"  {folder}.cu\n")
    runner = f"  ssd_add_runner({name} {folder}.cu {folder}_cpu.cpp\n    tests/cpp/run_{name}.cpp)\n"
    return insert_before(text, "  ssd_add_runner(box_iou ", runner)


def edit_bindings(text: str, name: str) -> str:
    text = insert_sorted(text, f'#include "{name}/{name}.h"', r'#include "(?!emu/)\w+/\w+\.h"')
    return insert_before(text, '  m.def("box_iou"', f'  m.def("{name}", &ssd::{name}, "boxes"_a, "out"_a, Guard());\n')


def edit_package(text: str, name: str) -> str:
    """ops/__init__.py and reference/__init__.py."""
    text = insert_sorted(text, f"from .{name} import {name}", r"from \.\w+ import .*")
    return insert_sorted(text, f'    "{name}",', r'    "\w+",', after="__all__ = [")


def edit_root(text: str, name: str) -> str:
    """ssd_fast/__init__.py."""
    text = insert_sorted(text, f"    {name},", r"    \w+,", after="from .ops import (")
    return insert_sorted(text, f'    "{name}",', r'    "[a-z]\w+",', after="__all__ = [")


def edit_floors(text: str, name: str) -> str:
    """The floor of the op's folder: it uses csrc/common alone."""

    def add(found: re.Match[str]) -> str:
        return "{" + ", ".join(sorted([*found[1].split(", "), f'"{name}"'])) + "}"

    found, count = re.subn(r'\{("[^{}]*"box_iou"[^{}]*)\}', add, text, count=1)
    if not count:
        raise ValueError("expected the floor of box_iou among CSRC_FLOORS")
    return found


EDITS = {
    "CMakeLists.txt": edit_cmake,
    "csrc/bindings.cpp": edit_bindings,
    "ssd_fast/__init__.py": edit_root,
    "ssd_fast/ops/__init__.py": edit_package,
    "ssd_fast/reference/__init__.py": edit_package,
    "tests/package/test_floors.py": edit_floors,
}

if __name__ == "__main__":
    sys.exit(main())
