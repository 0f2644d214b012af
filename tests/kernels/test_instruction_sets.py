"""The CPU loops give the same bits on any x86-64 CPU, whichever of their clones it chooses (simd.h)."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from helpers import bits
from helpers.extensions import using_extension
from helpers.paths import ROOT
from ssd_fast import _backend

EXPECTED = bits.read()
LEVELS = {"x86-64": 0, "x86-64-v3": 2, "x86-64-v4": 4}  # and the bit that tells whether a CPU has it
RESOLVER = bytes.fromhex("8b4008 a804")  # mov 8(%rax), %eax; test $4, %al: how GCC's code begins to choose a clone


def build_of_level(level: str, folder: Path) -> Path:
    """Make a copy of the installed build in which every CPU chooses the clones of one level.

    GLIBC_TUNABLES cannot do that: the code that chooses queries the CPU itself.
    """
    sources = (ROOT / "csrc").rglob("*.cpp")
    clones = sum(len(re.findall(r"\bSSD_(?:LANES_)?CLONES\b", file.read_text())) for file in sources)
    build = Path(_backend.C.__file__).read_bytes()
    if build.count(RESOLVER) != clones:
        pytest.skip(f"{build.count(RESOLVER)} of {clones} functions choose their clones by the code known from GCC 12")
    answer = bytes((0xB0, LEVELS[level], *RESOLVER[3:], 0x90))  # mov $bit, %al; test $4, %al; nop
    path = folder / f"{level}.so"
    path.write_bytes(build.replace(RESOLVER, answer))
    return path


def load(path: Path) -> ModuleType:
    name = f"{path.stem}._C"  # pybind11 makes one module per name and process
    loader = importlib.machinery.ExtensionFileLoader(name, str(path))
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.fixture(scope="module", params=LEVELS)
def clones(request, tmp_path_factory) -> ModuleType:
    """The build with the clones of one level."""
    needed = {"x86-64": ("DEFAULT", "AVX2", "AVX512"), "x86-64-v3": ("AVX2", "AVX512"), "x86-64-v4": ("AVX512",)}
    if torch.backends.cpu.get_cpu_capability() not in needed[request.param]:
        pytest.skip(f"this CPU does not run {request.param}")
    return load(build_of_level(request.param, tmp_path_factory.mktemp("clones")))


@pytest.mark.parametrize("name", bits.CASES)
def test_clones_of_each_level_give_the_bits(clones, name):
    with using_extension(clones):
        assert bits.digest(bits.CASES[name](lambda x: x)) == EXPECTED[name]


def test_cpu_without_fma_gives_the_bits(tmp_path):
    """On such a CPU the default clones run, and glibc computes their fmaf in software."""
    script = """
import sys
from pathlib import Path
from helpers import bits
from helpers.extensions import using_extension
from test_instruction_sets import load
names = [name for name in bits.CASES if name.startswith(("postprocess", "decode", "multibox"))]
with using_extension(load(Path(sys.argv[1]))):
    wrong = [name for name in names if bits.digest(bits.CASES[name](lambda x: x)) != bits.read()[name]]
print(len(names), wrong)
"""
    variables = {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-FMA,-FMA4,-AVX2,-AVX2_Usable"}
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | variables
    command = [sys.executable, "-c", script, str(build_of_level("x86-64", tmp_path))]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    count, wrong = done.stdout.split(" ", 1)
    assert int(count) >= 5 and wrong.strip() == "[]"
