"""Which rivals the benchmarks time, and how they verify results too large for a rival."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import ssd_fast
from helpers.paths import ROOT

sys.path.append(str(ROOT / "bench"))

import bench_nms
import pages
import report
import rivals
import rivals_nms
import workloads
from timing import Implementation

CUDA, CPU = torch.device("cuda"), torch.device("cpu")
LARGEST = 370_703  # n * ceil(n / 64) is below 2**31 up to here


def unused(*_: Tensor) -> None:
    raise AssertionError("called, though it must not be")


@pytest.mark.parametrize(
    ("n", "device", "is_timed"),
    [
        (100_000, CUDA, True),
        (LARGEST, CUDA, True),
        (LARGEST + 1, CUDA, False),
        (1_000_000, CUDA, False),
        (1_000_000, CPU, True),
    ],
)
def test_torchvision_nms_is_not_timed_where_its_index_overflows(n: int, device: torch.device, is_timed: bool) -> None:
    rival = rivals_nms.torchvision_nms("torchvision", unused, n, device)
    assert (rival.absent is None) == is_timed
    if not is_timed:
        assert rival.absent is not None and f"{n:,} boxes" in rival.absent
    for found in (rivals_nms.nms(0.5, n, device), rivals_nms.batched_nms(0.5, n, device)):
        ran = [rival for rival in found if rival.name.startswith("torchvision") and rival.absent is None]
        assert bool(ran) == (is_timed and rivals.torchvision is not None)


def test_largest_is_last_size_before_overflow() -> None:
    assert LARGEST * -(-LARGEST // 64) < 2**31 <= (LARGEST + 1) * -(-(LARGEST + 1) // 64)


def test_choose_says_that_rival_takes_too_much_memory() -> None:
    large, small = Implementation("large", unused, memory=3 << 30), Implementation("small", unused, memory=1 << 30)
    gone = rivals.absent("gone")
    found = rivals.choose([large, small, gone], free_memory=2 << 30)
    assert [rival.absent for rival in found] == ["takes about 3.0 GiB, of 2.0 GiB that are free", None, "not installed"]
    assert found[1] is small


def test_compile_only_leaves_out_other_rivals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rivals, "COMPILE", "only")
    monkeypatch.setattr(torch, "compile", lambda function, dynamic: function)
    monkeypatch.setattr(torch.compiler, "reset", lambda: None)
    found = rivals.choose([Implementation("plain", unused), rivals.compiled("torch.compile", unused, CPU)], 1 << 30)
    assert found[0].absent is not None and found[1].absent is None and found[1].compiled


def test_onnx_runtime_keeps_same_boxes() -> None:
    for package in ("onnx", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    boxes, scores = workloads.problems_of_images(2, 3, 500)
    padded = next(rival for rival in rivals_nms.nms_padded(0.5, 40, 0, CPU) if rival.name == "ONNX Runtime")
    rows = torch.from_numpy(padded.run(*padded.prepare(boxes, scores)))  # type: ignore[misc]
    idxs, counts = ssd_fast.nms_padded(boxes, scores, 0.5, 40)
    assert counts.unique().tolist() != [40], "max_output hides what is kept"
    for image in range(2):
        for label in range(3):
            kept = rows[(rows[:, 0] == image) & (rows[:, 1] == label), 2]
            assert kept.tolist() == idxs[image, label, : counts[image, label]].tolist()
    single = next(rival for rival in rivals_nms.nms(0.5, 500, CPU) if rival.name == "ONNX Runtime")
    rows = torch.from_numpy(single.run(*single.prepare(boxes[0], scores[0, 0])))  # type: ignore[misc]
    assert torch.equal(rows[:, 2], ssd_fast.nms(boxes[0], scores[0, 0], 0.5))


def test_onnx_runtime_that_is_not_installed_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rivals_nms, "onnxruntime", None)
    found = {rival.name: rival.absent for rival in rivals_nms.nms(0.5, 10, CPU)}
    assert found["ONNX Runtime"] == "not installed"


@pytest.mark.parametrize("kind", bench_nms.BOXES)
def test_assert_greedy_refuses_wrong_kept_boxes(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_nms, "PAIRS_AT_ONCE", 1 << 16)  # several rounds
    boxes, scores = bench_nms.BOXES[kind](600), workloads.distinct_scores(600)
    kept = ssd_fast.reference.nms(boxes, scores, 0.5)
    bench_nms.assert_greedy(kept, boxes, scores, 0.5)
    wrong_ones = [kept[1:], kept[:-1], kept[[0, *range(len(kept))]]]
    for other in sorted(set(range(600)) - set(kept.tolist()))[:1]:  # there is none where all are kept
        one_more = torch.cat((kept, torch.tensor([other])))
        wrong_ones.append(one_more[scores[one_more].argsort(descending=True)])
    for wrong in wrong_ones:
        with pytest.raises(AssertionError):
            bench_nms.assert_greedy(wrong, boxes, scores, 0.5)


def _finding(case: str, run: str, rival: str, seconds: float, **more: Any) -> dict[str, Any]:
    """Finding of a benchmark in which ssd_fast took 1 ms, as stage `rivals` of the GPU report writes it."""

    def times(median: float) -> dict[str, Any]:
        spread = {"median": median, "q1": median, "q3": median, "min": median}
        return {"rounds": 3, "call": spread, "graph": None}

    measured = {
        **{"op": "nms", "device": "cuda", "memory": "warm", "parameters": {"n": 1000}, "past_cache": False},
        **{"bytes": 4_000_000, "bandwidth": 4e12, "ours": times(1e-3), "rivals": {rival: times(seconds)}},
        "absent": {"OpenCV": "runs on the CPU only", **more},
    }
    return {"stage": "rivals", "step": run, "case": case, "status": "passed", "measured": measured}


def test_benchmarks_page_shows_committed_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    made = []
    for findings in (ROOT / "bench" / "results").glob("*/findings.jsonl"):
        copy = tmp_path / "benchmarks.md"
        copy.write_text(page.replace("| ", "| stale "))
        monkeypatch.setattr(sys, "argv", ["report.py", str(tmp_path), "--findings", str(findings), "--docs", str(copy)])
        report.main()
        made.append(results_of(copy.read_text()))
    assert results_of(page) in made


def results_of(page: str) -> str:
    return page.partition(pages.BEGIN)[2].partition(pages.END)[0]


def test_rows_of_findings_merge_runs_of_one_case(tmp_path: Path) -> None:
    """The rivals that compile run last, in a separate run, and their ratios join the same row."""
    case = "bench/bench_nms.py::bench_nms[1000]"
    found = [
        {"stage": "rivals", "step": "machine", "case": "environment", "status": "passed", "environment": {"cpu": "x"}},
        {"stage": "rivals", "step": "rivals", "case": case, "status": "failed", "text": "before it was run again"},
        _finding(case, "rivals", "torchvision", 8e-3),
        _finding(case, "rivals", "torchvision", 9e-3, **{"torch.compile": "left out"}),
        {"stage": "rivals", "step": "rivals", "case": f"{case}[2]", "status": "crashed", "text": "SIGSEGV"},
        {"stage": "rivals", "step": "rivals", "case": f"{case}[3]", "status": "skipped"},
        {"stage": "rivals", "step": "rivals", "case": "step", "status": "failed"},
        {"stage": "tests", "case": "tests/ops/test_nms.py::test_x", "status": "failed"},
        _finding(case, "rivals that compile", "torch.compile", 2e-3, torchvision="left out"),
    ]
    path = tmp_path / "findings.jsonl"
    path.write_text("".join(f"{json.dumps(finding)}\n" for finding in found))
    machine, rows, failed, skipped = report.rows_of_findings(path)
    assert machine == {"cpu": "x"} and failed == [f"{case}[2]"] and skipped == 1
    (row,) = rows
    assert {name: ratios["call"] for name, ratios in row["ratios"].items()} == {
        "torchvision": 9.0,
        "torch.compile": 2.0,
    }
    assert row["absent"] == {"OpenCV": "runs on the CPU only"}
    assert row["limit_seconds"] == 1e-6 and row["share_of_limit"] == pytest.approx(1e-3)
    path.write_text(json.dumps(found[0]))
    with pytest.raises(ValueError, match="expected findings of the stage rivals"):
        report.rows_of_findings(path)
