"""Boxes and scores on which two NMSs may disagree, and a count of the calls that a patched torchvision makes here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from ssd_fast.compat.torchvision import nms as patched_nms

THRESHOLDS = (0, 0.1, 0.2, 0.3, 1 / 3, 0.45, 0.5, 0.6, 2 / 3, 0.7, 0.9, 1.0, 1e-300)

BOXES = torch.tensor([[0.0, 0.0, 10.0, 10.0], [1.0, 1.0, 11.0, 11.0], [20.0, 20.0, 30.0, 30.0]])
SCORES = torch.tensor([0.8, 0.9, 0.7])
KEPT = [1, 2]  # at an IoU of 0.5


def boxes_of(kind: str, n: int, dtype: torch.dtype) -> Tensor:
    """[n, 4] boxes.

    kind: "apart" and "crowded": random; "grid": small whole numbers, so that many IoUs are equal, some without area or
    inverted; "identical"; "negative": of negative coordinates; "strange": a tenth of the coordinates is NaN, infinite
    or huge.
    """
    if kind == "grid":
        return torch.randint(0, 6, (n, 4)).to(dtype)
    if kind == "identical":
        return torch.tensor([[1.0, 2.0, 3.0, 4.0]], dtype=dtype).repeat(n, 1)
    corner = torch.rand(n, 2, dtype=dtype) * (1000 if kind == "apart" else 60)
    boxes = torch.cat((corner, corner + 1 + torch.rand(n, 2, dtype=dtype) * 60), -1)
    if kind == "strange":
        values = torch.tensor([torch.nan, torch.inf, -torch.inf, 3e38, -0.0], dtype=dtype)
        return torch.where(torch.rand(n, 4) < 0.1, values[torch.randint(5, (n, 4))], boxes)
    return boxes - 500 if kind == "negative" else boxes


def scores_of(kind: str, n: int, dtype: torch.dtype) -> Tensor:
    """[n] scores. kind: "distinct"; "tied": of three values; "equal"; "infinite": a third is infinite, or zero."""
    if kind == "tied":
        return torch.randint(3, (n,)).to(dtype)
    if kind == "equal":
        return torch.full((n,), 0.5, dtype=dtype)
    scores = (torch.randperm(n).to(dtype) + 1) / (n + 1)
    if kind == "infinite":
        values = torch.tensor([torch.inf, -torch.inf, -0.0, 0.0], dtype=dtype)
        return torch.where(torch.rand(n) < 1 / 3, values[torch.randint(4, (n,))], scores)
    return scores


@contextmanager
def calls_here() -> Iterator[list[str]]:
    """Give a list that fills with the names of the ops that a patched torchvision calls in this package."""
    calls: list[str] = []

    def counting(name: str) -> Callable[..., Tensor]:
        op = getattr(patched_nms, name)

        def call(*arguments: object) -> Tensor:
            calls.append(name)
            return op(*arguments)

        return call

    with pytest.MonkeyPatch.context() as context:
        for name in ("nms", "batched_nms"):
            context.setattr(patched_nms, name, counting(name))
        yield calls
