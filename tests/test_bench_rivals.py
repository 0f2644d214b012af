"""Which rivals the benchmarks time, and how they verify what is too large for one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

import ssd_fast

sys.path.append(str(Path(__file__).resolve().parents[1] / "bench"))

import bench_nms
import rivals
import rivals_nms
import workloads
from timing import Implementation

CUDA, CPU = torch.device("cuda"), torch.device("cpu")
LARGEST = 370_703  # n * ceil(n / 64) is below 2**31 up to here


def unused(*_: Tensor) -> None:
    raise AssertionError("nobody calls it")


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
def test_torchvisions_nms_is_not_timed_where_its_index_overflows(n: int, device: torch.device, is_timed: bool) -> None:
    rival = rivals_nms.torchvision_nms("torchvision", unused, n, device)
    assert (rival.absent is None) == is_timed
    if not is_timed:
        assert rival.absent is not None and f"{n:,} boxes" in rival.absent
    for found in (rivals_nms.nms(0.5, n, device), rivals_nms.batched_nms(0.5, n, device)):
        ran = [rival for rival in found if rival.name.startswith("torchvision") and rival.absent is None]
        assert bool(ran) == (is_timed and rivals.torchvision is not None)


def test_largest_is_the_last_size_before_the_overflow() -> None:
    assert LARGEST * -(-LARGEST // 64) < 2**31 <= (LARGEST + 1) * -(-(LARGEST + 1) // 64)


def test_a_rival_that_takes_too_much_memory_says_so() -> None:
    large, small = Implementation("large", unused, memory=3 << 30), Implementation("small", unused, memory=1 << 30)
    gone = rivals.absent("gone")
    found = rivals.choose([large, small, gone], free_memory=2 << 30)
    assert [rival.absent for rival in found] == ["takes about 3.0 GiB, of 2.0 GiB that are free", None, "not installed"]
    assert found[1] is small


def test_compile_only_leaves_out_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rivals, "COMPILE", "only")
    monkeypatch.setattr(torch, "compile", lambda function, dynamic: function)
    monkeypatch.setattr(torch.compiler, "reset", lambda: None)
    found = rivals.choose([Implementation("plain", unused), rivals.compiled("torch.compile", unused, CPU)], 1 << 30)
    assert found[0].absent is not None and found[1].absent is None and found[1].compiled


@pytest.mark.parametrize("kind", bench_nms.BOXES)
def test_greedy_nms_is_verified_by_what_defines_it(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_nms, "PAIRS_AT_ONCE", 1 << 16)  # several rounds
    boxes, scores = bench_nms.BOXES[kind](600), workloads.distinct_scores(600)
    kept = ssd_fast.reference.nms(boxes, scores, 0.5)
    bench_nms.assert_greedy(kept, boxes, scores, 0.5)
    others = torch.tensor(sorted(set(range(600)) - set(kept.tolist())))
    one_more = torch.cat((kept, others[:1]))
    one_more = one_more[scores[one_more].argsort(descending=True)]
    for wrong in (kept[1:], kept[:-1], one_more, kept[[0, *range(len(kept))]]):
        with pytest.raises(AssertionError):
            bench_nms.assert_greedy(wrong, boxes, scores, 0.5)
