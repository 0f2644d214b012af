"""Parts of the kernels' budgets: reading a listing, comparing tables, and reporting a missing tool."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from budgets import compile as cuda
from budgets import kernels, sass, table, tools
from budgets.counts import flight, loop_counts
from budgets.loops import Flow

needs_nvcc = pytest.mark.skipif(cuda.nvcc() is None, reason="no CUDA toolkit (nvcc)")

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


def test_sass_listing_is_parsed() -> None:
    code = sass.parse(LISTING)["kernel"]
    assert len(code.instructions) == 16 and not any(x.barrier for x in code.instructions)  # not the routine's
    flow = Flow(code)
    assert flow.whole().body()[-1].opcode == "BRA" and len(flow.whole().body()) == 14  # not the divergent warp's
    (loop,) = flow.moving()
    assert loop.place == ("/somewhere/kernel.cu", 5)
    assert [f"{x.address:x}" for x in loop.longest()] == ["10", "20", "30", "90", "a0", "b0", "c0", "d0", "60", "70"]
    assert [f"{x.address:x}" for x in loop.shortest()] == ["10", "20", "30", "40", "50", "60", "70"]
    counts = loop_counts(loop)
    assert (counts["instructions"], counts["shortest"], counts["bytes"], counts["width"]) == (10, 7, 24, 16)
    assert (counts["integer_divisions"], counts["divisions"], counts["calls"], counts["barriers"]) == (1, 1, 1, 0)
    # R3, then R7: the second wait is for a load that was in flight during the first.
    assert flight(loop.shortest(), "global") == (2, 1)


@pytest.mark.parametrize(
    ("opcode", "width"), [("LDG.E.U8", 1), ("LDG.E.S16", 2), ("LDG.E", 4), ("STG.E.64", 8), ("LDGSTS.E.BYPASS.128", 16)]
)
def test_instruction_width(opcode: str, width: int) -> None:
    assert sass.Instruction(0, "", opcode, "R0, desc[UR4][R2.64]", (), "", 0).width == width


def test_problems_reports_each_worse_number() -> None:
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
def test_sections_are_written_separately_and_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "table.json"
    row = {"k": {"resources": {"sm_90": {"registers": 1}}}}
    table.write({"kernels": row}, path)
    with monkeypatch.context() as context:  # another compiler: the first one's section stays
        context.setattr(cuda, "nvcc_version", lambda: "99.0.0")
        table.write({"calls": {"nms": {"launches": 3}}}, path)
    assert table.read(path) == {"nvcc": cuda.nvcc_version(), "kernels": row, "calls": {"nms": {"launches": 3}}}
    assert '    "sm_90": {"registers": 1}' in path.read_text().splitlines()
    assert table.unchecked(table.read(path)) is None
    assert table.unchecked({"nvcc": "1.0.0"}) == f"the table is of nvcc 1.0.0, this is {cuda.nvcc_version()}"


@needs_nvcc
def test_missing_tool_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "NAME", "no_such_tool")
    assert re.fullmatch(r"nvcc has no no_such_tool beside it; searched the PATH, /.*triton.*", tools.missing() or "")
    monkeypatch.setattr(cuda, "nvcc", lambda: None)
    assert tools.missing() == "no CUDA toolkit (nvcc)"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--page", "no such page"], "No such file"),
        (["--page", "Makefile"], "the page has no <!-- counts: begin -->"),
        (["--arch", "sm_75"], "invalid choice: 'sm_75'"),
    ],
)
def test_wrong_use_is_one_line(options: list[str], said: str) -> None:
    command = [sys.executable, "scripts/kernel_budgets.py", *options]
    ended = subprocess.run(command, cwd=cuda.ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 2 and said in ended.stderr and "Traceback" not in ended.stderr
