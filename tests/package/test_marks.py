"""`pytest -m gpu` selects every test that uses a CUDA device, and no other."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from helpers.paths import TESTS
from helpers.slow_tests import SECONDS

FILES = (
    "every_op/test_arrays.py",
    "every_op/test_alignment.py",
    "every_op/test_bits.py",
    "detector/test_detector.py",
    "every_op/test_launches.py",
    "compat/test_patch.py",
)

MARKS = ("gpu", "not gpu")


@pytest.fixture(scope="module")
def collected() -> dict[str, set[str]]:
    """The tests of some files, with the mark and without it."""
    script = "import sys, pytest\nfor marks in sys.argv[1:3]:\n    print('marks', marks)\n"
    script += "    if pytest.main(['--collect-only', '-q', '-m', marks, *sys.argv[3:]]): sys.exit('not collected')\n"
    done = subprocess.run([sys.executable, "-c", script, *MARKS, *FILES], cwd=TESTS, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, set[str]] = {}
    for line in done.stdout.splitlines():
        if line.startswith("marks "):
            tests = found[line.removeprefix("marks ")] = set()
        elif "::" in line:
            tests.add(line.partition("::")[2])
    assert tuple(found) == MARKS
    return found


def test_gpu_tests_are_marked(collected):
    for name in (
        "test_ops_use_current_stream",
        "test_captured_detector_equals_detector",
        "test_ops_take_arrays_of_other_libraries_on_gpu[cupy]",
        "test_ops_take_arrays_of_other_libraries_on_gpu[numba]",
        "test_every_op_takes_arrays_at_any_address[cuda]",
        "test_backend_gives_the_bits[cuda-nms_padded]",
    ):
        assert name in collected["gpu"]


def test_other_tests_are_not_marked(collected):
    assert len(collected["not gpu"]) > 50
    assert not [name for name in collected["gpu"] if re.search(r"\b(cpu|emulated)\b", name)]
    assert not [name for name in collected["not gpu"] if re.search(r"\bcuda\b", name)]
    assert {
        "test_every_op_takes_arrays_at_any_address[emulated]",
        "test_ops_may_run_in_many_threads_at_once",
    } <= collected["not gpu"]


@pytest.mark.parametrize("entry", SECONDS)
def test_each_slow_test_exists(entry):
    file, _, function = entry.partition("::")
    assert re.search(rf"^def {function or 'test_'}", (TESTS / file).read_text(), re.MULTILINE)
