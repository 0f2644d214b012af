"""Match, loss and backward pass as one call, for the benchmarks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import workloads
from timing import clone
from torch import Tensor

from ssd_fast import LossSpec, MatcherSpec

MATCHER, LOSS = MatcherSpec(), LossSpec()  # torchvision's
Boxes = list[Tensor]
Step = tuple[Tensor, Tensor, Tensor, Tensor]  # losses of offsets and classes, gradients of logits and offsets


def as_leaves(logits: Tensor, deltas: Tensor, *others: Any) -> tuple[Any, ...]:
    """Copies that can have gradients: the race itself runs in inference mode."""
    with torch.inference_mode(False):
        heads = (x.clone().requires_grad_() for x in (logits, deltas))
        return (*heads, *map(clone, others))


def as_packed_leaves(logits: Tensor, deltas: Tensor, boxes: Boxes, labels: list[Tensor], default_boxes: Tensor) -> Any:
    with torch.inference_mode(False):
        offsets = torch.tensor([0, *map(len, boxes)], device=logits.device).cumsum(0)
        packed = (torch.cat(boxes), offsets)
        return (*as_leaves(logits, deltas), packed, torch.cat(labels), default_boxes.clone())


def training_step(losses: Callable[..., dict[str, Tensor]]) -> Callable[..., Step]:
    def run(logits: Tensor, deltas: Tensor, *others: Any) -> Step:
        with torch.inference_mode(False):
            result = losses(logits, deltas, *others)
            regression, classification = result["bbox_regression"], result["classification"]
            grad_logits, grad_deltas = torch.autograd.grad(regression + classification, (logits, deltas))
        return regression.detach(), classification.detach(), grad_logits, grad_deltas

    return run


def of_package(package: Any, loss: LossSpec = LOSS) -> Callable[..., dict[str, Tensor]]:
    coder = workloads.preset().coder

    def losses(logits: Tensor, deltas: Tensor, boxes: Any, labels: Any, default_boxes: Tensor) -> dict[str, Tensor]:
        matched = package.match(boxes, default_boxes, MATCHER)
        return package.multibox_loss(logits, deltas, boxes, labels, matched, default_boxes, coder=coder, loss=loss)

    return losses
