"""What the kernels cost, as their machine code shows it: no more registers, spills, instructions or divisions, and no
fewer loads in flight, than tests/golden/kernel_budgets.json says (scripts/kernel_budgets.py)."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from budgets import compile as cuda
from budgets import kernels, sass, table, tools
from budgets.counts import flight, loop_counts
from budgets.loops import Flow

SOURCES = cuda.sources()
# sm_90 alone is quick; SSD_FAST_ALL_ARCHS=1 takes all that the table has.
ARCHITECTURES = cuda.ARCHITECTURES if os.environ.get("SSD_FAST_ALL_ARCHS") == "1" else (kernels.COUNTED,)

needs_nvcc = pytest.mark.skipif(cuda.nvcc() is None, reason="no CUDA toolkit (nvcc)")


@pytest.fixture(scope="module")
def disassembler() -> None:
    """For tests that count instructions. Without nvdisasm they are skipped, or fail where it is required."""
    if missing := tools.missing():
        if cuda.nvcc() is not None and os.environ.get("SSD_FAST_REQUIRE_SASS") == "1":
            pytest.fail(f"{missing}; SSD_FAST_REQUIRE_SASS=1 requires it")
        pytest.skip(missing)


@pytest.fixture(scope="module")
def measured() -> kernels.Kernels:
    return kernels.measure(ARCHITECTURES)


@pytest.fixture(scope="module")
def planted(disassembler: None, tmp_path_factory: pytest.TempPathFactory) -> kernels.Kernels:
    compiled = cuda.compile_file("tests/planted_kernels.cu", kernels.COUNTED, tmp_path_factory.mktemp("planted"))
    return {name.rpartition(": ")[2]: kernel for name, kernel in kernels.file_budgets(compiled).items()}


# ---- the package's kernels -------------------------------------------------------------------------------------------


@needs_nvcc
def test_kernels_spill_nothing_and_need_no_more_than_the_table(measured: kernels.Kernels) -> None:
    """Of every architecture; the counts are the next test's."""
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


def test_a_kernel_made_worse_is_found(disassembler: None, tmp_path: Path) -> None:
    """An integer division in a loop of a real kernel."""
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
    assert any("instructions an iteration grew from" in problem for problem in found), found


def test_the_main_loops_that_are_named_exist() -> None:
    golden: kernels.Kernels = table.read()["kernels"]
    for name, start in kernels.MAIN_LOOPS.items():
        of_name = [kernel for full, kernel in golden.items() if kernels.base_name(full) == name]
        assert of_name, f"MAIN_LOOPS: there is no {name}"
        for kernel in of_name:
            assert kernels.main_loop(kernel)[0].startswith(start), f"MAIN_LOOPS: {name} has no such loop"


def test_every_kernel_of_the_table_has_one_main_loop() -> None:
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
        ("long_division", {"integer_divisions": 2, "calls": 1}),  # a short way, and a call for large numbers
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
        ("shared_maximum", {"shared": 0, "moves": 1, "bytes": 4, "atomics": 1}),  # the loop that retries is no loop
    ],
)
def test_planted_loops(planted: kernels.Kernels, kernel: str, expected: dict[str, float]) -> None:
    label, row = kernels.main_loop(planted[kernel])
    assert label.startswith("for (int")
    assert {what: row.get(what, 0) for what in expected} == expected


def test_planted_kernels(planted: kernels.Kernels) -> None:
    label, row = kernels.main_loop(planted["no_loop"])
    assert label.startswith("no loop") and row["instructions"] == planted["no_loop"]["counts"]["instructions"]
    assert planted["ticket"]["counts"]["fences"] >= 2 and planted["ticket"]["counts"]["atomics"] == 1
    assert planted["shared_maximum"]["counts"]["barriers"] == 1
    spilling = planted["spilling"]
    assert spilling["resources"][kernels.COUNTED]["threads"] == 1024 and spilling["counts"]["local"] > 0
    assert kernels.problems({"spilling": spilling}, None) == [
        f"spilling [{kernels.COUNTED}]: spills {spilling['resources'][kernels.COUNTED]['spills']} bytes"
    ]


def test_a_worse_loop_is_worse_and_a_better_one_is_not(planted: kernels.Kernels) -> None:
    def problems(worse: str, better: str) -> str:
        loops = kernels.main_loop(planted[worse])[1], kernels.main_loop(planted[better])[1]
        return " ".join(kernels.loop_problems("loop", *loops))

    assert re.search(r"in_flight fell from 8 to 1", problems("one_load", "eight_loads"))
    assert not problems("eight_loads", "one_load")  # more instructions, and more bytes
    assert re.search(r"width fell from 16 to 4", problems("no_division", "wide_loads"))
    assert not problems("wide_loads", "no_division")
    assert re.search(r"integer_divisions an iteration grew from 0 to 1", problems("integer_division", "no_division"))
    assert re.search(r" divisions an iteration grew from 0 to 1.* calls ", problems("division", "no_division"))
    assert re.search(r"another memory", problems("shared_loads", "one_load"))


# ---- parts -----------------------------------------------------------------------------------------------------------

LISTING = """
.text.kernel:
	//## File "/somewhere/kernel.cu", line 3
        /*0000*/                   S2R R0, SR_TID.X ;
.L_x_1:
        /*0010*/                   LDG.E.64 R2, desc[UR4][R8.64] ;
        /*0020*/                   LDG.E.128.CONSTANT R4, desc[UR4][R8.64+0x10] ;
        /*0030*/               @P1 BRA `(.L_x_3) ;
        /*0040*/                   BRA.DIV UR4, `(.L_x_4) ;
        /*0050*/                   IADD3 R10, R3, R2, RZ ;
.L_x_2:
        /*0060*/                   FADD R7, R7, R10 ;
	//## File "/somewhere/kernel.cu", line 5
        /*0070*/               @P0 BRA `(.L_x_1) ;
        /*0080*/                   EXIT ;
.L_x_3:
        /*0090*/                   I2F.U32.RP R11, R12 ;
        /*00a0*/                   MUFU.RCP R11, R11 ;
        /*00b0*/                   MUFU.RCP R12, R12 ;
        /*00c0*/                   CALL.REL.NOINC `($__internal_0_$__cuda_sm3x_div_rn_noftz_f32_slowpath) ;
        /*00d0*/                   BRA `(.L_x_2) ;
.L_x_4:
        /*00e0*/                   WARPSYNC.COLLECTIVE R3, `(.L_x_5) ;
.L_x_5:
        /*00f0*/                   BRA `(.L_x_2) ;
        .weak           $__internal_0_$__cuda_sm3x_div_rn_noftz_f32_slowpath
$__internal_0_$__cuda_sm3x_div_rn_noftz_f32_slowpath:
        /*0100*/                   BAR.SYNC.DEFER_BLOCKING 0x0 ;
        /*0110*/                   NOP ;
"""


def test_a_listing_is_read() -> None:
    code = sass.parse(LISTING)["kernel"]
    assert len(code.instructions) == 16 and not any(x.barrier for x in code.instructions)  # not the routine's
    flow = Flow(code)
    assert flow.whole().body()[-1].opcode == "BRA" and len(flow.whole().body()) == 14  # not the parted warp's way
    (loop,) = flow.moving()
    assert loop.place == ("/somewhere/kernel.cu", 5)
    assert [f"{x.address:x}" for x in loop.longest()] == ["10", "20", "30", "90", "a0", "b0", "c0", "d0", "60", "70"]
    assert [f"{x.address:x}" for x in loop.shortest()] == ["10", "20", "30", "40", "50", "60", "70"]
    counts = loop_counts(loop)
    assert (counts["instructions"], counts["shortest"], counts["bytes"], counts["width"]) == (10, 7, 24, 16)
    assert (counts["integer_divisions"], counts["divisions"], counts["calls"], counts["barriers"]) == (1, 1, 1, 0)
    # R3, then R7: the second wait is for a load that was on its way during the first.
    assert flight(loop.shortest(), "global") == (2, 1)


@pytest.mark.parametrize(
    ("opcode", "width"), [("LDG.E.U8", 1), ("LDG.E.S16", 2), ("LDG.E", 4), ("STG.E.64", 8), ("LDGSTS.E.BYPASS.128", 16)]
)
def test_widths(opcode: str, width: int) -> None:
    assert sass.Instruction(0, "", opcode, "R0, desc[UR4][R2.64]", (), "", 0).width == width


def test_the_table_notices() -> None:
    lean = {"registers": 32, "shared": 1024, "spills": 0}
    loop: kernels.Row = {"instructions": 40, "bytes": 16, "in_flight": 4, "width": 16, "calls": 1, "main": 1}

    def one(
        resources: dict[str, int] | None = None, counts: kernels.Row | None = None, changed: kernels.Row | None = None
    ) -> kernels.Kernels:
        return {
            "a.cu: k": {
                "resources": {"sm_90": {**lean, **(resources or {})}},
                "counts": {"instructions": 90, "loads_16": 1, "fences": 2, **(counts or {})},
                "loops": {"for": {**loop, **(changed or {})}},
            }
        }

    assert not kernels.problems(one(), one())
    assert not kernels.problems(one({"registers": 30}, {"instructions": 80}, {"in_flight": 8, "calls": 0}), one())
    assert not kernels.problems(one(changed={"instructions": 160, "bytes": 64, "calls": 4}), one())  # unrolled
    for worse in (
        one({"registers": 33}),
        one({"shared": 1040}),
        one({"spills": 4}),
        one(counts={"instructions": 91}),
        one(counts={"loads_16": 0, "loads_4": 4}),
        one(counts={"barriers": 1}),
        one(counts={"fences": 1}),
        one(changed={"instructions": 41}),
        one(changed={"instructions": 165, "bytes": 64, "calls": 4}),
        one(changed={"calls": 2}),
        one(changed={"in_flight": 3}),
        one(changed={"width": 8}),
        one(changed={"shared": 1}),
    ):
        assert len(kernels.problems(worse, one())) == 1, worse
    assert len(kernels.problems({"a.cu: new": one()["a.cu: k"]}, one())) == 2  # one new, one gone
    assert len(kernels.problems(one(), {"a.cu: k": {**one()["a.cu: k"], "loops": {"while": loop}}})) == 2
    assert kernels.problems(one({"registers": 40, "spills": 4}), None) == ["a.cu: k [sm_90]: spills 4 bytes"]
    assert kernels.problems(one({"registers": 33}), one()) == ["a.cu: k [sm_90]: registers grew from 32 to 33"]


@needs_nvcc
def test_sections_are_written_apart_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    row = {"k": {"resources": {"sm_90": {"registers": 1}}}}
    table.write({"kernels": row}, path)
    table.write({"calls": {"nms": {"launches": 3}}}, path)
    assert table.read(path) == {"nvcc": cuda.nvcc_version(), "kernels": row, "calls": {"nms": {"launches": 3}}}
    assert '    "sm_90": {"registers": 1}' in path.read_text().splitlines()
    assert table.unchecked(table.read(path)) is None
    assert table.unchecked({"nvcc": "1.0.0"}) == f"the table is of nvcc 1.0.0, this is {cuda.nvcc_version()}"


@needs_nvcc
def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "NAME", "no_such_tool")
    assert re.fullmatch(r"nvcc has no no_such_tool beside it; searched the PATH, /.*triton.*", tools.missing() or "")
    monkeypatch.setattr(cuda, "nvcc", lambda: None)
    assert tools.missing() == "no CUDA toolkit (nvcc)"
