"""How the benchmarks order cases, copy inputs and compare times."""

from __future__ import annotations

import sys

import torch

from helpers.paths import ROOT

sys.path.append(str(ROOT / "bench"))

from timing import Times, clone, in_turns


def test_in_turns_gives_each_benchmark_one_case_before_a_second() -> None:
    cases = ["nms[1]", "nms[2]", "nms[3]", "iou[1]", "match[1]", "match[2]"]
    found = in_turns(cases, lambda case: case.partition("[")[0])
    assert found == ["nms[1]", "iou[1]", "match[1]", "nms[2]", "match[2]", "nms[3]"]


def test_clone_copies_are_leaves_of_same_layout() -> None:
    """Gradients of a copy end at the copy: on a GPU, the ops before it ran on another stream than a graph captures."""
    logits = torch.rand(2, 5, requires_grad=True)
    maps = torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last).requires_grad_()
    labels, computed = torch.tensor([1, 2]), logits * 2
    copies = clone(([logits, maps], (labels, None), computed))
    (copied_logits, copied_maps), (copied_labels, nothing), copied = copies
    assert nothing is None and not copied_labels.requires_grad
    pairs = ((logits, copied_logits), (maps, copied_maps), (labels, copied_labels), (computed, copied))
    for original, copy in pairs:
        assert copy.is_leaf and copy.requires_grad == original.requires_grad
        assert torch.equal(copy, original) and copy.stride() == original.stride()
        assert copy.data_ptr() != original.data_ptr()
    (copied_logits.sum() + copied_maps.sum()).backward()
    assert copied_logits.grad is not None and logits.grad is None


def test_rival_is_compared_within_rounds() -> None:
    """A machine that slows down for some rounds changes no ratio; the rival's warm-up calls have no counterpart."""
    ours, rival = Times(), Times()
    for n, slowness in enumerate((1.0, 1.0, 5.0, 9.0), start=2):
        ours.add(1e-3 * slowness, n)
    for n, slowness in ((0, 100.0), (2, 1.0), (4, 5.0), (5, 9.0)):
        rival.add(3e-3 * slowness, n)
    found = rival.compared_with(ours)
    assert found["rounds"] == 4
    assert all(abs(value - 3) < 1e-9 for value in found["ratio"].values())
