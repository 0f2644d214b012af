"""The kernels' costs, read from their machine code: no more registers, spills, instructions or divisions, and no
fewer loads in flight, than tests/golden/kernel_budgets.json says (scripts/kernel_budgets.py)."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from budgets import compile as cuda
from budgets import kernels, table, tools

SOURCES = cuda.sources()
# sm_90 alone is quick; SSD_FAST_ALL_ARCHS=1 takes every architecture of the table.
ARCHITECTURES = cuda.ARCHITECTURES if os.environ.get("SSD_FAST_ALL_ARCHS") == "1" else (kernels.COUNTED,)

needs_nvcc = pytest.mark.skipif(cuda.nvcc() is None, reason="no CUDA toolkit (nvcc)")


@pytest.fixture(scope="module")
def disassembler() -> None:
    """For tests that count instructions: without nvdisasm they are skipped, or fail where it is required."""
    if missing := tools.missing():
        if cuda.nvcc() is not None and os.environ.get("SSD_FAST_REQUIRE_SASS") == "1":
            pytest.fail(f"{missing}; SSD_FAST_REQUIRE_SASS=1 requires it")
        pytest.skip(missing)


@pytest.fixture(scope="module")
def measured() -> kernels.Kernels:
    return kernels.measure(ARCHITECTURES)


@pytest.fixture(scope="module")
def planted(disassembler: None, tmp_path_factory: pytest.TempPathFactory) -> kernels.Kernels:
    compiled = cuda.compile_file(
        "tests/kernels/planted_kernels.cu", kernels.COUNTED, tmp_path_factory.mktemp("planted")
    )
    return {name.rpartition(": ")[2]: kernel for name, kernel in kernels.file_budgets(compiled).items()}


# ---- the package's kernels -------------------------------------------------------------------------------------------


@needs_nvcc
def test_kernels_spill_nothing_and_need_no_more_than_table(measured: kernels.Kernels) -> None:
    """This test covers resources on every architecture; the next one covers counts."""
    uncounted: kernels.Kernels = {name: {"resources": kernel["resources"]} for name, kernel in measured.items()}
    found, unchecked = table.check(table.SECTIONS[0], uncounted)
    assert not found, _worse(found)
    if unchecked:
        pytest.skip(f"no kernel spills; growth was not checked: {unchecked}")


@pytest.mark.parametrize("source", SOURCES)
def test_kernels_keep_their_budgets(disassembler: None, request: pytest.FixtureRequest, source: str) -> None:
    golden = table.read()
    if unchecked := table.unchecked(golden):
        pytest.skip(unchecked)
    found = kernels.problems(_of_file(request.getfixturevalue("measured"), source), _of_file(golden["kernels"], source))
    assert not found, _worse(found)


def test_worse_kernel_is_found(disassembler: None, tmp_path: Path) -> None:
    """Plant an integer division in a loop of a real kernel."""
    golden = table.read()
    if unchecked := table.unchecked(golden):
        pytest.skip(unchecked)
    source, before, after = "csrc/multibox_loss/mining.cu", "= selected[row] ==", "= selected[row % task.num_rows] =="
    shutil.copytree(cuda.ROOT / "csrc", tmp_path / "csrc")
    changed = tmp_path / source
    text = changed.read_text()
    assert text.count(before) == 1, "the kernel has changed: make another loop worse here"
    changed.write_text(text.replace(before, after))
    compiled = cuda.compile_file(changed, kernels.COUNTED, tmp_path, f"-I{tmp_path / 'csrc'}")
    found = kernels.problems(
        kernels.file_budgets(replace(compiled, source=source)), _of_file(golden["kernels"], source)
    )
    assert any("mining_kernel: integer_divisions grew from" in problem for problem in found), found
    assert any("instructions per iteration grew from" in problem for problem in found), found


def test_named_main_loops_exist() -> None:
    golden: kernels.Kernels = table.read()["kernels"]
    for name, start in kernels.MAIN_LOOPS.items():
        of_name = [kernel for full, kernel in golden.items() if kernels.base_name(full) == name]
        assert of_name, f"MAIN_LOOPS: there is no {name}"
        for kernel in of_name:
            assert kernels.main_loop(kernel)[0].startswith(start), f"MAIN_LOOPS: {name} has no such loop"


def test_every_kernel_of_table_has_one_main_loop() -> None:
    golden: kernels.Kernels = table.read()["kernels"]
    assert len(golden) > 50
    for kernel in golden.values():
        assert sum(row.get("main", 0) for row in kernel["loops"].values()) == 1


def _of_file(all_kernels: kernels.Kernels, source: str) -> kernels.Kernels:
    return {name: kernel for name, kernel in all_kernels.items() if name.startswith(f"{source}: ")}


def _worse(found: list[str]) -> str:
    return "; ".join(found) + f" ({table.ACCEPT})"


# ---- planted kernels -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        ("integer_division", {"integer_divisions": 1, "divisions": 0, "calls": 0}),
        ("constant_division", {"integer_divisions": 0, "divisions": 0, "calls": 0}),
        ("long_division", {"integer_divisions": 2, "calls": 1}),  # a short path, and a call for large numbers
        ("division", {"integer_divisions": 0, "divisions": 1, "calls": 1}),  # a call for the odd values
        ("double_division", {"integer_divisions": 0, "divisions": 1, "calls": 1}),
        ("no_division", {"integer_divisions": 0, "divisions": 0, "calls": 0, "width": 4}),
        ("wide_loads", {"moves": 1, "bytes": 16, "width": 16}),
        ("one_load", {"moves": 1, "bytes": 4, "in_flight": 1, "round_trips": 1}),
        ("eight_loads", {"moves": 8, "bytes": 32, "in_flight": 8, "round_trips": 1}),
        ("dependent_loads", {"moves": 2, "bytes": 8, "in_flight": 1, "round_trips": 2}),
        ("three_stages", {"moves": 1, "bytes": 16, "width": 16, "in_flight": 3, "round_trips": 0.33}),
        ("copies_waited_for_later", {"moves": 1, "bytes": 16, "in_flight": 1, "round_trips": 0}),
        ("bulk_copies", {"moves": 1, "bytes": 0, "in_flight": 1, "round_trips": 1, "barriers": 1}),  # size unknown
        ("shared_loads", {"shared": 1, "moves": 1, "bytes": 4, "in_flight": 1}),
        ("shared_maximum", {"shared": 0, "moves": 1, "bytes": 4, "atomics": 1}),  # the loop that retries does not count
    ],
)
def test_planted_loop_has_expected_counts(planted: kernels.Kernels, kernel: str, expected: dict[str, float]) -> None:
    label, row = kernels.main_loop(planted[kernel])
    assert label.startswith("for (int")
    assert {what: row.get(what, 0) for what in expected} == expected


def test_planted_kernels_have_expected_counts(planted: kernels.Kernels) -> None:
    label, row = kernels.main_loop(planted["no_loop"])
    assert label.startswith("no loop") and row["instructions"] == planted["no_loop"]["counts"]["instructions"]
    assert planted["ticket"]["counts"]["fences"] >= 2 and planted["ticket"]["counts"]["atomics"] == 1
    assert planted["shared_maximum"]["counts"]["barriers"] == 1
    spilling = planted["spilling"]
    assert spilling["resources"][kernels.COUNTED]["threads"] == 1024 and spilling["counts"]["local"] > 0
    assert kernels.problems({"spilling": spilling}, None) == [
        f"spilling [{kernels.COUNTED}]: spills {spilling['resources'][kernels.COUNTED]['spills']} bytes"
    ]


def test_loop_problems_reports_worse_loops_only(planted: kernels.Kernels) -> None:
    def problems(worse: str, better: str) -> str:
        loops = kernels.main_loop(planted[worse])[1], kernels.main_loop(planted[better])[1]
        return " ".join(kernels.loop_problems("loop", *loops))

    assert re.search(r"in_flight fell from 8 to 1", problems("one_load", "eight_loads"))
    assert not problems("eight_loads", "one_load")  # more instructions, and more bytes
    assert re.search(r"width fell from 16 to 4", problems("no_division", "wide_loads"))
    assert not problems("wide_loads", "no_division")
    assert re.search(r"integer_divisions per iteration grew from 0 to 1", problems("integer_division", "no_division"))
    assert re.search(r" divisions per iteration grew from 0 to 1.* calls ", problems("division", "no_division"))
    assert re.search(r"another memory", problems("shared_loads", "one_load"))
