"""Checks for ssd_fast.compat's adapters: the originals' results, and the tolerances of the comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

import ssd_fast
from helpers import adapter_inputs, goldens
from helpers.match_comparator import matching_differences


class Original:
    """The results of a project's original for `adapter_inputs`: tests/golden/adapters/PROJECT.npz."""

    def __init__(self, project: str) -> None:
        self._arrays = goldens.load("adapters", project)
        assert int(self._arrays["inputs"]) == adapter_inputs.digest()

    def __getitem__(self, name: str) -> Any:
        """Return an array as a tensor, or a number or a list of names as itself."""
        value = self._arrays[name]
        if isinstance(value, np.ndarray):
            return value.item() if value.ndim == 0 else torch.from_numpy(value)
        return value


def assert_boxes(actual: Tensor, expected: Tensor) -> None:
    """Compare boxes decoded from the same offsets; only exp and the order of sums differ."""
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-6)


def assert_losses(
    original: Original, heads: Sequence[Tensor], run: Callable[..., Sequence[Tensor]], names: Any
) -> None:
    """Check that run(deltas, logits) gives the original's losses and gradients."""
    heads = [head.clone().requires_grad_() for head in heads]
    values = run(*heads)
    assert all(value.shape == () and value.dtype == torch.float32 for value in values)
    expected = original["losses"]
    assert expected.min() > 1
    torch.testing.assert_close(torch.stack(list(values)).detach().double(), expected, rtol=2e-6, atol=0)
    sum(values).backward()
    for name, head in zip(names, heads, strict=True):
        gradient = original[f"losses_grad_{name}"]
        assert ((gradient != 0).any(-1) == (head.grad != 0).any(-1)).all()  # the same rows are mined
        torch.testing.assert_close(head.grad, gradient, rtol=1e-5, atol=1e-7)


def excused_matches(
    actual: Tensor, expected: Tensor, image: int, default_boxes: Tensor, matcher: Any, union_epsilon: float = 0.0
) -> int:
    """Return how many rows of an image match differently, each because an IoU is at a threshold or a tie."""
    boxes = adapter_inputs.ground_truth()[image][0]
    found, excused = matching_differences(actual, expected, boxes, default_boxes, matcher, union_epsilon=union_epsilon)
    assert not found, "\n".join(found[:10])
    assert (expected >= 0).sum() >= 8
    return excused


def matcher(threshold: float = 0.5, inclusive: bool = True) -> Any:
    return ssd_fast.MatcherSpec(positive_threshold=threshold, positive_inclusive=inclusive)
