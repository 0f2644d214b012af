"""scripts/new_op.py: the op that it stamps compiles, and its test collects."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from helpers.paths import ROOT

NAME = "zeta_2"  # sorts last in every list
FOLDERS = ("csrc", "ssd_fast", "scripts", "tests/helpers", "tests/ops", "tests/cpp", "tests/emu", "tests/package")
FILES = ("CMakeLists.txt", "pyproject.toml", "tests/conftest.py", "bench/timing.py", "bench/workloads.py")
CUDA = [
    folder
    for nvcc in [shutil.which("nvcc")]
    for folder in (os.environ.get("CUDA_HOME", ""), "/usr/local/cuda", str(Path(nvcc or "").resolve().parents[1]))
    if Path(folder, "include", "cuda_runtime_api.h").exists()
]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the parts of the repository that an op touches, with an op stamped into it."""
    tree = tmp_path_factory.mktemp("tree")
    skipped = shutil.ignore_patterns("__pycache__", "assets", "_C*.so")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, tree / folder, ignore=skipped)
    for file in FILES:
        (tree / file).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / file, tree / file)
    for extension in (ROOT / "ssd_fast").glob("_C*.so"):
        (tree / "ssd_fast" / extension.name).symlink_to(extension)
    stamped = run(tree, [sys.executable, "scripts/new_op.py", NAME])
    assert stamped.returncode == 0, stamped.stderr
    return tree


def run(tree: Path, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(tree), str(tree / "tests")])
    return subprocess.run(
        command, cwd=tree, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, check=False
    )


def compiled(tree: Path, file: str, *options: str) -> str:
    """Return the compiler's messages on a file, for the emulator."""
    flags = ["-fsyntax-only", "-std=c++17", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-Icsrc", "-Itests"]
    compiler = os.environ.get("CXX", "c++")
    return run(tree, [compiler, *flags, *options, "-x", "c++", file]).stderr


def test_stamped_sources_compile(tree: Path) -> None:
    assert compiled(tree, f"csrc/{NAME}/{NAME}_cpu.cpp") == ""
    contract = tree / "contract.cpp"
    contract.write_text(f'#include "{NAME}/{NAME}.h"\nauto* op = &ssd::{NAME};\n')
    assert compiled(tree, str(contract)) == ""


@pytest.mark.skipif(not CUDA, reason="no CUDA toolkit's headers")
def test_stamped_kernel_and_runner_compile(tree: Path) -> None:
    emulated = ("-DSSD_EMULATED", "-isystem", f"{CUDA[0]}/include")
    assert compiled(tree, f"csrc/{NAME}/{NAME}.cu", *emulated) == ""
    assert compiled(tree, f"tests/cpp/run_{NAME}.cpp", *emulated) == ""


def test_stamped_test_collects(tree: Path) -> None:
    ended = run(tree, [sys.executable, "-m", "pytest", "--collect-only", "-q", f"tests/ops/test_{NAME}.py"])
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.count(f"tests/ops/test_{NAME}.py::test_by_hand[") == 3  # cpu, emulated, cuda


def test_op_is_in_every_list(tree: Path) -> None:
    cmake = (tree / "CMakeLists.txt").read_text()
    for file in (f"csrc/{NAME}/{NAME}_cpu.cpp", f"csrc/{NAME}/{NAME}.cu", f"tests/cpp/run_{NAME}.cpp"):
        assert file in cmake
    assert f'  m.def("{NAME}", &ssd::{NAME}, ' in (tree / "csrc/bindings.cpp").read_text()
    for package in ("", "ops/", "reference/"):  # test_stamped_test_collects imports them
        assert f'    "{NAME}",\n' in (tree / f"ssd_fast/{package}__init__.py").read_text()
    assert f'"nms", "{NAME}"}}' in (tree / "tests/package/test_floors.py").read_text()


@pytest.mark.skipif(shutil.which("ruff") is None, reason="ruff is not installed")
def test_stamped_files_are_clean(tree: Path) -> None:
    files = [f"ssd_fast/{folder}/{name}.py" for folder in ("ops", "reference") for name in (NAME, "__init__")]
    files += ["ssd_fast/__init__.py", f"tests/ops/test_{NAME}.py", f"bench/bench_{NAME}.py"]
    for command in (["check"], ["format", "--check"]):
        ended = run(tree, ["ruff", *command, "--no-cache", *files])
        assert ended.returncode == 0, ended.stdout


@pytest.mark.parametrize(
    "name", ["box_iou", "Box", "a-b", "_a", "a__b", "../a", "class", "list", "double", "nms_padded", "patch", "common"]
)
def test_bad_names_change_nothing(tree: Path, name: str) -> None:
    def files() -> dict[Path, bytes]:
        return {
            path: path.read_bytes() for path in tree.rglob("*") if path.is_file() and "__pycache__" not in path.parts
        }

    before = files()
    ended = run(tree, [sys.executable, "scripts/new_op.py", name])
    assert ended.returncode == 2 and "NAME: expected " in ended.stderr
    assert files() == before
