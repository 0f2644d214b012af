"""The floors of the house: which rooms may import which, without circles.

Each room (a package or module of `ssd_fast`, a folder of `csrc`) uses only rooms of lower floors.
"""

from __future__ import annotations

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import ssd_fast
from helpers.paths import ROOT

PACKAGE, CSRC = ROOT / "ssd_fast", ROOT / "csrc"

PYTHON_FLOORS = (
    {"_C", "_backend", "_io", "assets", "detections"},
    {"_checks", "arrays"},
    {"specs"},
    {"ground_truth", "images", "presets", "reference"},
    {"datasets", "ops"},
    {"models"},
    {"criterion", "detector"},
    {"compat"},
    {"drawing", "evaluation", "training"},
    {"cli"},
    {"__main__"},
)
CSRC_FLOORS = (
    {"common"},
    {"box_coder", "box_iou", "default_boxes", "match", "nms"},
    {"multibox_loss", "postprocess"},
    {"bindings.cpp"},
)


def module_of(path: Path) -> tuple[str, ...]:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def imports(path: Path, modules: set[tuple[str, ...]]) -> set[tuple[str, ...]]:
    """Return the modules of the package that a file imports anywhere, also for annotations only."""
    package = path.relative_to(ROOT).parent.parts
    found: set[tuple[str, ...]] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {tuple(alias.name.split(".")) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            base += tuple(node.module.split(".")) if node.module else ()
            for alias in node.names:
                if base == ("ssd_fast",):  # the root gives the names of its packages
                    found.add((*base, ssd_fast._LAZY.get(alias.name) or alias.name))
                else:
                    found.add((*base, alias.name) if (*base, alias.name) in modules else base)
    return found & modules


def upward(arrows: set[tuple[str, str]], floors: tuple[set[str], ...]) -> list[str]:
    floor = {room: number for number, rooms in enumerate(floors) for room in rooms}
    return [f"{room} uses {used}" for room, used in sorted(arrows) if room != used and floor[room] <= floor[used]]


def test_packages_import_only_lower_floors():
    modules = {module_of(path) for path in PACKAGE.rglob("*.py")}
    arrows = {
        (module_of(path)[1], used[1])
        for path in PACKAGE.rglob("*.py")
        if path != PACKAGE / "__init__.py"  # imports most of the rest on demand
        for used in imports(path, modules)
    }
    assert len(arrows) > 80
    assert upward(arrows, PYTHON_FLOORS) == []


def test_no_files_import_each_other():
    modules = {module_of(path) for path in PACKAGE.rglob("*.py")}
    files = [path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py"]
    graph = {module_of(path): imports(path, modules) for path in files}
    assert len(list(TopologicalSorter(graph).static_order())) >= len(files)  # else CycleError names the files


def test_sources_include_only_lower_floors():
    sources = [path for path in CSRC.rglob("*") if path.suffix in {".h", ".cuh", ".cpp", ".cu"}]
    arrows = {
        (path.relative_to(CSRC).parts[0], included)
        for path in sources
        for included in re.findall(r'^\s*#\s*include\s+"(?:\.\./)*(\w+)/', path.read_text(), re.MULTILINE)
        if (CSRC / included).is_dir()
    }
    assert len(arrows) >= 14
    assert upward(arrows, CSRC_FLOORS) == []
