"""match and multibox_loss with its backward pass: what a training step adds to the network, SSD300, C = 21 and 91.

bench_multibox_loss: hard negative mining, as torchvision's SSD. bench_focal_loss: the focal loss, as its RetinaNet.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import rivals
import torch
import workloads
from timing import Implementation, clone
from torch import Tensor

import ssd_fast
import ssd_fast.reference
from ssd_fast import LossSpec, MatcherSpec

MATCHER, LOSS = MatcherSpec(), LossSpec()  # torchvision's
FOCAL = LossSpec(classification="focal", background=None)
Boxes = list[Tensor]
Step = tuple[Tensor, Tensor, Tensor, Tensor]  # the losses of offsets and classes, the gradients of logits and offsets


def ground_truth(num_images: int, num_columns: int, device: torch.device) -> tuple[Boxes, list[Tensor]]:
    """Boxes and labels of 1 to 15 objects an image."""
    g = workloads.generator(7)
    sizes = [1 + 7 * n % 15 for n in range(num_images)]
    boxes = [workloads.uniform_boxes(size, seed, extent=300.0).to(device) for seed, size in enumerate(sizes)]
    return boxes, [torch.randint(1, num_columns, (size,), generator=g).to(device) for size in sizes]


def as_leaves(logits: Tensor, deltas: Tensor, *others: Any) -> tuple[Any, ...]:
    """Copies that gradients can be taken of: the race itself runs in inference mode."""
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


def of_torchvision() -> Callable[..., dict[str, Tensor]]:
    """torchvision's matcher and its SSD's method, on an SSD without a network."""
    from torchvision.models.detection._utils import BoxCoder, SSDMatcher
    from torchvision.models.detection.ssd import SSD

    weights = tuple(1 / variance for variance in workloads.preset().coder.variances)
    model: Any = SimpleNamespace(box_coder=BoxCoder(weights), neg_to_pos_ratio=3)  # type: ignore[arg-type]
    matcher = SSDMatcher(MATCHER.positive_threshold)

    def losses(
        logits: Tensor, deltas: Tensor, boxes: Boxes, labels: list[Tensor], default_boxes: Tensor
    ) -> dict[str, Tensor]:
        matched = [matcher(rivals.torchvision.ops.box_iou(image, default_boxes)) for image in boxes]
        targets = [{"boxes": b, "labels": x} for b, x in zip(boxes, labels, strict=True)]
        heads = {"cls_logits": logits, "bbox_regression": deltas}
        return SSD.compute_loss(model, targets, heads, [default_boxes] * len(boxes), matched)

    return losses


def of_torchvisions_focal_loss() -> Callable[..., dict[str, Tensor]]:
    """torchvision's matcher, box coder and sigmoid_focal_loss, an image at a time, as its RetinaNet has them."""
    from torchvision.models.detection._utils import BoxCoder, SSDMatcher

    coder = BoxCoder(tuple(1 / variance for variance in workloads.preset().coder.variances))  # type: ignore[arg-type]
    matcher, ops = SSDMatcher(MATCHER.positive_threshold), rivals.torchvision.ops

    def losses(
        logits: Tensor, deltas: Tensor, boxes: Boxes, labels: list[Tensor], default_boxes: Tensor
    ) -> dict[str, Tensor]:
        positives, classification, regression = 0, torch.zeros_like(logits[0, 0, 0]), torch.zeros_like(logits[0, 0, 0])
        for row_logits, row_deltas, gts, classes in zip(logits, deltas, boxes, labels, strict=True):
            matched = matcher(ops.box_iou(gts, default_boxes))
            rows = (matched >= 0).nonzero()[:, 0]
            targets = torch.zeros_like(row_logits)
            targets[rows, classes[matched[rows]]] = 1.0
            classification = classification + ops.sigmoid_focal_loss(row_logits, targets, reduction="sum")
            wanted = coder.encode_single(gts[matched[rows]], default_boxes[rows])
            regression = regression + torch.nn.functional.smooth_l1_loss(row_deltas[rows], wanted, reduction="sum")
            positives += len(rows)
        return {"bbox_regression": regression / max(positives, 1), "classification": classification / max(positives, 1)}

    return losses


@pytest.mark.parametrize(("num_images", "columns"), [(8, 21), (8, 91), (32, 21), (32, 91)])
def bench_multibox_loss(race: Any, device: torch.device, num_images: int, columns: int) -> None:
    race_losses("multibox_loss", LOSS, of_torchvision, race, device, num_images, columns)


@pytest.mark.parametrize(("num_images", "columns"), [(8, 21), (8, 91), (32, 21), (32, 91)])
def bench_focal_loss(race: Any, device: torch.device, num_images: int, columns: int) -> None:
    race_losses("multibox_loss focal", FOCAL, of_torchvisions_focal_loss, race, device, num_images, columns)


def race_losses(
    op: str,
    spec: LossSpec,
    rival: Callable[[], Callable[..., dict[str, Tensor]]],
    race: Any,
    device: torch.device,
    num_images: int,
    columns: int,
) -> None:
    if device.type == "cpu" and num_images > 8:
        pytest.skip("large batches are for GPUs")
    logits, deltas, default_boxes = workloads.head_outputs("dense", num_images, columns, device)
    boxes, labels = ground_truth(num_images, columns, device)
    inputs = (logits, deltas, boxes, labels, default_boxes)

    def verify(result: Step) -> None:
        expected_losses = of_package(ssd_fast.reference, spec) if rivals.torchvision is None else rival()
        expected = training_step(expected_losses)(*as_leaves(*inputs))
        for loss, theirs in zip(result[:2], expected[:2], strict=True):
            torch.testing.assert_close(loss, theirs, rtol=1e-5, atol=0)
        for grad, theirs in zip(result[2:], expected[2:], strict=True):
            # Two rows whose losses differ by a rounding may change places at the border of mining.
            assert (grad - theirs).abs().sum() <= 1e-3 * theirs.abs().sum()

    positives = int((ssd_fast.match(boxes, default_boxes, MATCHER) >= 0).sum())
    race(
        op,
        inputs,
        Implementation(
            "ssd_fast", training_step(of_package(ssd_fast, spec)), as_packed_leaves, capturable=device.type == "cuda"
        ),
        [
            rivals.from_torchvision(lambda: Implementation("torchvision", training_step(rival()), as_leaves)),
            Implementation("eager torch", training_step(of_package(ssd_fast.reference, spec)), as_leaves),
        ],
        bytes_moved=8 * (logits.numel() + deltas.numel()) + 16 * len(default_boxes) + 24 * sum(map(len, boxes)),
        verify=verify,
        images=num_images,
        columns=columns,
        positives=positives,
    )
