"""postprocess on the CPU: its threads, its rising threshold and its paths through memory change no detection."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from typing import Any

import pytest
import torch

import ssd_fast
from helpers import inputs
from helpers.checks import assert_same_bits
from ssd_fast import Detections, PostprocessSpec, reference

CODER = inputs.CODER
COLUMNS = 6


def quarters(seed: int, low: int, high: int, *shape: int) -> torch.Tensor:
    """Draw logits that are multiples of 1/4, exact in 16 bits: their sigmoid scores are equal or far apart."""
    return inputs.integers(seed, 4 * low, 4 * high, *shape).float() / 4


def as_reference(logits, deltas, default, spec) -> Detections:
    """Return the detections after checking them: labels, default boxes and boxes equal the reference's bit for bit."""
    result = ssd_fast.postprocess(logits, deltas, default, spec, coder=CODER)
    expected = reference.postprocess(logits, deltas, default, spec, coder=CODER)
    for field in ("counts", "labels", "box_idxs", "boxes"):
        assert_same_bits(getattr(result, field), getattr(expected, field))
    return result


# ---- threads --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sparse", "crowded", "stacked"])
@pytest.mark.parametrize("mode", ["per_class", "agnostic"])
def test_threads_do_not_change_detections(kind, mode):
    """Threads split images in different places, and each has a threshold that rises with its own candidates."""
    rows = 5000
    logits = inputs.logits(3, 3, rows, COLUMNS, background=9.0 if kind == "sparse" else 0.0)
    default = inputs.grid_boxes(4, rows, cells=3 if kind == "stacked" else 40)
    deltas = torch.zeros(3, rows, 4)
    spec = PostprocessSpec(score_threshold=0.01, top_k=None, keep_top_k=150, iou_threshold=0.4, class_mode=mode)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3, 5):
            torch.set_num_threads(threads)
            results.append(ssd_fast.postprocess(logits, deltas, default, spec, coder=CODER))
    finally:
        torch.set_num_threads(before)
    assert (results[0].counts > 0).all()
    for result in results[1:]:
        assert_same_bits(list(result), list(results[0]))


# ---- more candidates than listed ------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["rising", "falling", "mixed"])
@pytest.mark.parametrize("top_k", [None, 40])
@pytest.mark.parametrize("threshold", [1e-8, 0.3])
def test_more_candidates_than_listed_equal_reference(order, top_k, threshold):
    rows = 8000
    logits = quarters(1, -6, 6, 1, rows, 3)
    if order != "mixed":
        logits = logits.sort(1, descending=order == "falling").values
    default = inputs.boxes(2, rows, extent=2000.0)
    spec = PostprocessSpec("sigmoid", 0, threshold, top_k=top_k, keep_top_k=60, iou_threshold=0.3)
    assert as_reference(logits, torch.zeros(1, rows, 4), default, spec).counts[0] == 60


@pytest.mark.parametrize("mode", ["per_class", "agnostic"])
def test_detections_are_found_beyond_suppressed_best_candidates(mode):
    """Only one of thousands of boxes in one place is kept; the other detections have the lowest scores of all."""
    rows, apart = 9000, 30
    default = torch.tensor([[10.0, 10, 20, 20]]).repeat(rows, 1)
    default[:apart] += 100.0 * torch.arange(1, apart + 1)[:, None]
    logits = quarters(5, 0, 6, 1, rows, 2)
    logits[:, :apart] = -3.0
    spec = PostprocessSpec("sigmoid", None, 1e-8, top_k=None, keep_top_k=20, iou_threshold=0.5, class_mode=mode)
    assert as_reference(logits, torch.zeros(1, rows, 4), default, spec).counts[0] == 20


def test_equal_scores_beyond_the_list_keep_their_order():
    """The rows of a map lie anchor by anchor in memory, so that better ones with an equal score come later."""
    anchors, side = 4, 40
    rows = anchors * side * side
    default = torch.tensor([[20.0 * i, 0, 20.0 * i + 10, 10] for i in range(rows)])
    maps = [torch.zeros(1, anchors * 2, side, side)], [torch.zeros(1, anchors * 4, side, side)]
    spec = PostprocessSpec("sigmoid", 0, 0.1, top_k=None, keep_top_k=100)
    result = ssd_fast.postprocess(*maps, default, spec, coder=CODER)
    assert result.box_idxs.tolist() == [list(range(100))]


def test_scores_of_zero_pass_inclusive_threshold_of_zero():
    logits = torch.full((2, 70, COLUMNS), -300.0)
    logits[0, 5, 2] = 1.0
    logits[1, 6] = torch.nan
    default = torch.tensor([[20.0 * i, 0, 20.0 * i + 10, 10] for i in range(70)])
    spec = PostprocessSpec("sigmoid", None, 0.0, score_inclusive=True, top_k=None, keep_top_k=500)
    result = as_reference(logits, torch.zeros(2, 70, 4), default, spec)
    assert result.counts.tolist() == [70 * COLUMNS, 69 * COLUMNS]


# ---- memory ---------------------------------------------------------------------------------------------------------


def layouts(rows: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the same [N, P, columns] with different layouts in memory."""
    column_by_column = rows.transpose(1, 2).contiguous().transpose(1, 2)
    padded = torch.nn.functional.pad(rows, (0, 0, 3, 2))[:, 3 : 3 + rows.shape[1]]
    return {
        "rows": rows.clone(),
        "column by column": column_by_column,
        "gaps": inputs.noncontiguous(rows),
        "rows among others": padded,
        "images fastest": rows.permute(1, 2, 0).contiguous().permute(2, 0, 1),
        "one row for all": rows[:, :1].expand_as(rows),
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("rows", [7, 8, 63, 130, 1600])
@pytest.mark.parametrize("columns", [2, 5, 18, 40])
def test_layouts_equal_contiguous_rows(dtype, rows, columns):
    logits = quarters(7, -6, 6, 2, rows, columns)
    logits[..., 1] += 5
    default = inputs.boxes(8, rows, extent=900.0)
    for activation, background in (("softmax", 1), ("softmax", 0), ("sigmoid", columns - 1)):
        spec = PostprocessSpec(activation, background, 0.2, keep_top_k=80, top_k=50)
        deltas = torch.zeros(2, rows, 4)
        known: dict[bytes, tuple[Any, Any]] = {}  # by the values, which most layouts share
        for layout, moved in layouts(logits.to(dtype)).items():
            plain = moved.float().contiguous()
            values = plain.numpy().tobytes()
            if values not in known:
                arguments = plain, deltas, default, spec
                known[values] = (
                    reference.postprocess(*arguments, coder=CODER),
                    ssd_fast.postprocess(*arguments, coder=CODER),
                )
            expected, of_plain_rows = known[values]
            result = ssd_fast.postprocess(moved, deltas, default, spec, coder=CODER)
            assert torch.equal(result.counts, expected.counts), layout
            assert_same_bits(list(result), list(of_plain_rows))
        assert len(known) == 2  # one row for all has its own


@pytest.mark.parametrize("columns", [1, 2, 4, 5, 6, 9, 10, 17, 18, 21, 33, 34, 50])
@pytest.mark.parametrize("by_column", [False, True])
def test_one_column_makes_row_a_candidate(columns, by_column):
    """This holds for any background column, and in the last row of a block as in the first."""
    for background in {0, columns // 2, columns - 1} if columns > 1 else {None}:
        classes = [c for c in range(columns) if c != background]
        rows = 3 * len(classes) + 64
        logits = torch.full((1, rows, columns), -9.0)
        labels = torch.tensor(classes)[torch.arange(rows) % len(classes)]
        logits[0, ::2].scatter_(1, labels[::2, None], 1.0)
        moved = logits.transpose(1, 2).contiguous().transpose(1, 2) if by_column else logits
        default = torch.tensor([[20.0 * i, 0, 20.0 * i + 10, 10] for i in range(rows)])
        for activation in ("sigmoid", "softmax") if columns > 1 else ("sigmoid",):
            if activation == "softmax":
                logits[..., background] = moved[..., background] = 0.0
            spec = PostprocessSpec(activation, background, 0.5, keep_top_k=rows)
            result = ssd_fast.postprocess(moved, torch.zeros(1, rows, 4), default, spec, coder=CODER)
            found = dict(zip(result.box_idxs[0].tolist(), result.labels[0].tolist(), strict=True))
            found.pop(-1, None)
            assert found == {row: int(labels[row]) for row in range(0, rows, 2)}


def test_exhausted_memory_is_a_memory_error():
    """A top_k per image lists all candidates of an image; after the error the op works as before."""
    script = """
        import resource, torch, ssd_fast
        from ssd_fast import BoxCoderSpec, PostprocessSpec
        torch.set_num_threads(2)
        rows = 100_000
        logits, deltas = torch.zeros(1, rows, 91), torch.zeros(1, rows, 4)
        boxes = torch.tensor([[0.0, 0, 10, 10]]).repeat(rows, 1)
        spec = PostprocessSpec("sigmoid", None, 0.1, top_k=100, top_k_scope="image", keep_top_k=50)
        def run(rows):
            arguments = logits[:, :rows], deltas[:, :rows], boxes[:rows]
            return ssd_fast.postprocess(*arguments, spec, coder=BoxCoderSpec())
        before = run(1000)
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (16 << 20), resource.RLIM_INFINITY))
        try:
            run(rows)
            print("no error")
        except MemoryError:
            print("MemoryError")
        print(all(map(torch.equal, run(1000), before)))
    """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["MemoryError", "True"]
