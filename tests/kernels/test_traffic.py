"""The kernels' memory traffic, as the counted build of the extension sees it: no more launches, requests, sectors or
bank conflicts than tests/golden/kernel_budgets.json says, and exact counts for kernels countable by hand."""

from __future__ import annotations

import functools
import math
import os
import subprocess
from types import ModuleType

import pytest
import torch
from budgets import calls, occupancy, page, predict, table, traffic
from budgets.cases import CASES, Case

from helpers.paths import ROOT

PATTERNS = ROOT / "build" / "tests" / "runners" / "patterns_count"
BY_NAME = {case.name: case for case in CASES}


@pytest.fixture(scope="module")
def counted() -> ModuleType:
    if traffic.find_counted() is None:
        reason = "the counted extension is not built (make test builds it)"
        pytest.fail(reason) if os.environ.get("SSD_FAST_REQUIRE_EMULATED") == "1" else pytest.skip(reason)
    return traffic.load_counted()


@functools.cache
def golden() -> dict:
    return table.read()["calls"]


# ---- kernels that can be counted by hand -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def patterns(counted: ModuleType) -> dict[str, str]:
    """The runner's verdict on each pattern, by name."""
    if not PATTERNS.exists():
        reason = "the runner of the patterns is not built (make test builds it)"
        pytest.fail(reason) if os.environ.get("SSD_FAST_REQUIRE_EMULATED") == "1" else pytest.skip(reason)
    result = subprocess.run([PATTERNS], capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode in (0, 1), result.stderr
    said = [line.partition(" ")[::2] for line in result.stdout.splitlines() if not line.startswith(" ")]
    return {rest.partition(": {")[0]: verdict for verdict, rest in said}


@pytest.mark.parametrize(
    "name",
    [
        *("load 4 bytes, stride 1", "load 4 bytes, stride 2", "load 4 bytes, stride 32"),
        *("load 4 bytes, misaligned by 4", "load 8 bytes, stride 1", "load 16 bytes, stride 1"),
        *("load 16 bytes, stride 2", "load 16 bytes, misaligned by 16", "load 4 bytes, broadcast"),
        *("load 4 bytes, half a warp", "load 4 bytes, a triangle", "load 4 bytes, in turns"),
        *("load 4 bytes, in turns, by a function", "store 4 bytes, stride 2", "store 4 bytes, stride 32"),
        *("store 4 bytes, misaligned by 4", "shared 4 bytes, stride 1", "shared 4 bytes, stride 2"),
        *("shared 4 bytes, stride 3", "shared 4 bytes, stride 32", "shared 8 bytes, stride 1"),
        *("shared 16 bytes, stride 1", "shared 16 bytes, stride 2", "load 12 bytes, stride 1"),
        *("load 4 bytes, a stencil", "load 4 bytes, half a warp meets", "atomics, contended"),
    ],
)
def test_pattern_is_counted_exactly(patterns: dict[str, str], name: str) -> None:
    assert patterns[name] == "pass"


def test_no_pattern_is_left_out(patterns: dict[str, str]) -> None:
    assert len(patterns) == 27


# ---- the package's kernels -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [case.name for case in CASES if not case.slow])
def test_calls_keep_their_budgets(counted: ModuleType, name: str) -> None:
    rows = {name: traffic.count(BY_NAME[name], counted)}
    found = calls.problems(rows, {name: golden()[name]})
    assert not found, f"({table.ACCEPT}) " + "; ".join(found)


def test_every_case_is_in_table() -> None:
    assert golden().keys() == BY_NAME.keys()


def test_counts_are_reproducible(counted: ModuleType) -> None:
    case = BY_NAME["postprocess sparse N=1 C=21"]
    assert traffic.count(case, counted) == traffic.count(case, counted)


def test_counted_build_gives_results_of_cpu(counted: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """The counted kernels compute the real results."""
    prepared = BY_NAME["postprocess sparse N=1 C=21"].prepare()
    expected = prepared.call(*prepared.inputs)
    monkeypatch.setattr("ssd_fast._backend.C", counted)
    assert all(map(torch.equal, prepared.call(*prepared.inputs), expected))


def test_worse_access_is_found(counted: ModuleType) -> None:
    """Inputs that start 4 bytes past a sector make the same call load the ends of each tile one by one."""
    case = BY_NAME["postprocess sparse N=1 C=21"]

    def misaligned() -> object:
        prepared = case.prepare()
        logits = prepared.inputs[0]
        moved = torch.empty(logits.numel() + 1)[1:].view(logits.shape).copy_(logits)
        return type(prepared)((moved, *prepared.inputs[1:]), prepared.call, prepared.result)

    rows = {case.name: traffic.count(Case(case.name, misaligned), counted)}  # type: ignore[arg-type]
    found = calls.problems(rows, {case.name: golden()[case.name]})
    assert any("score_filter_kernel<float>: least_sectors grew from" in text for text in found), found


def test_problems_reports_each_worse_count() -> None:
    row = {"launches": 1, "blocks": 8, "threads": 64, "loads": 1000, "load_sectors": 4000, "load_width": 16}
    rows = {"default_boxes": {"kernel": row}}
    assert not calls.problems(rows, rows)
    assert not calls.problems({"default_boxes": {"kernel": {**row, "loads": 999, "load_sectors": 4015}}}, rows)
    changes = {"launches": 2, "loads": 1006, "load_sectors": 4021, "load_width": 8, "conflicts": 1, "barriers": 1}
    for key, value in changes.items():
        (found,) = calls.problems({"default_boxes": {"kernel": {**row, key: value}}}, rows)
        assert f"default_boxes: kernel: {key} " in found
    renamed = {"default_boxes": {"another": row}}
    assert len(calls.problems(renamed, rows)) == 2  # one new, one gone
    assert len(calls.problems({}, {"no such case": {}})) == 1


# ---- prediction ------------------------------------------------------------------------------------------------------


LOOP = {"instructions": 40, "moves": 8, "in_flight": 8, "main": 1}
KERNEL = {"resources": {"sm_90": {"registers": 32}}, "loops": {"for": LOOP}}


def copy_row(blocks: int, warps: int, loads: int) -> dict[str, int]:
    """Return the row of a kernel in which each warp makes `loads` copies of 512 bytes that no other warp reads."""
    requests = blocks * warps * loads
    row = {"launches": 1, "blocks": blocks, "threads": 32 * warps, "shared_bytes": 0, "barriers": 0, "shared": 0}
    row |= {"loads": requests, "load_sectors": 16 * requests, "stores": requests, "bytes_read": 512 * requests}
    return row | {"bytes_written": 512 * requests, "longest_loads": loads, "longest_shared": 0}


def test_large_copy_is_predicted_at_memory_speed() -> None:
    row = copy_row(blocks=30_000, warps=8, loads=4)
    expected = 1.5 + 2 * 512 * row["loads"] / 3e6  # microseconds, at 3 TB/s
    assert math.isclose(predict.kernel_us(row, KERNEL), expected, rel_tol=1e-6)
    assert predict.kernel_us(row, KERNEL, predict.H200) < 0.75 * expected


def test_loads_in_flight_are_predicted_to_save_time() -> None:
    row = copy_row(blocks=8, warps=4, loads=64)
    one = {**KERNEL, "loops": {"for": {**LOOP, "in_flight": 1}}}
    saved = (64 - 64 / 8) * 270 / 1.83e3  # microseconds
    assert math.isclose(predict.kernel_us(row, one) - predict.kernel_us(row, KERNEL), saved, rel_tol=1e-6)


def test_h100_times_were_predicted_within_factor_of_two() -> None:
    measured = page.measured_times(page.MEASURED)
    kernels = table.read()["kernels"]
    both = [case for case in golden() if case in measured]
    assert both == ["nms n=1000", "nms n=10000", "default_boxes"]  # the calls whose kernels are still the measured ones
    for case in both:
        assert 0.5 < predict.call_us(golden()[case], kernels) / measured[case] < 2, case


# ---- the page --------------------------------------------------------------------------------------------------------


def test_page_has_table() -> None:
    text = (ROOT / "docs" / "benchmarks.md").read_text()
    lines = page.tables(golden(), table.read()["kernels"])
    assert text == page.put(text, lines), "python scripts/kernel_budgets.py --page docs/benchmarks.md"


def test_load_width_that_machine_code_lacks_is_shown() -> None:
    kernel = {"counts": {"loads_16": 2, "stores_4": 1}}
    assert page.load_width({"load_width": 16}, kernel) == "16"
    assert page.load_width({"load_width": 4}, kernel) == "4 (SASS: 16)"


def test_profile_is_compared_by_kernel() -> None:
    row = {"loads": 10, "load_sectors": 40, "stores": 2, "store_sectors": 8, "conflicts": 0}
    profile = {"load_requests": 10, "load_sectors": 44.0, "store_requests": 2, "store_sectors": 8, "bank_conflicts": 0}
    rows = {"call": {"launches": 1}, "k<float>": row, "other<float>": row}
    assert list(page.profile_cells("case", rows, {"k": profile})) == [
        ("case", "`k<float>`", "10", "40 / 44", "2", "8", "0")
    ]


def test_page_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="has no <!-- counts: begin -->"):
        page.put("# Benchmarks", [])


def test_occupancy_equals_profiler() -> None:
    """Nsight Compute's number for score_filter_kernel on an H100: shared memory allows 4 blocks."""
    fit = occupancy.resident("sm_90", 36, 128, 1024 + 4 * 128 * 91)
    assert (fit.blocks, fit.limit) == (4, "shared memory")
