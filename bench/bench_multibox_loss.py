"""match, multibox_loss and its backward pass: what a training step adds to SSD300's network, C = 21 and 91.

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
from timing import Implementation
from torch import Tensor
from training_steps import LOSS, MATCHER, Boxes, Step, as_leaves, as_packed_leaves, of_package, training_step

import ssd_fast
import ssd_fast.reference
from ssd_fast import LossSpec

FOCAL = LossSpec(classification="focal", background=None)


def of_torchvision() -> Callable[..., dict[str, Tensor]]:
    """torchvision's matcher and the loss method of its SSD, called without a network."""
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
    """torchvision's matcher, box coder and sigmoid_focal_loss, one image at a time, as in its RetinaNet."""
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


def moved(inputs: Any, device: torch.device) -> Any:
    """Move the tensors in nested lists and tuples to the device."""
    if isinstance(inputs, Tensor):
        return inputs.to(device)
    return type(inputs)(moved(x, device) for x in inputs)


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
    boxes, labels = ([x.to(device) for x in images] for images in workloads.ground_truth(num_images, columns))
    inputs = (logits, deltas, boxes, labels, default_boxes)

    def verify(result: Step) -> None:
        """Compare on the CPU, where torch's max picks the first of equal IoUs, as we do; on a GPU it picks any."""
        expected_losses = of_package(ssd_fast.reference, spec) if rivals.torchvision is None else rival()
        expected = training_step(expected_losses)(*as_leaves(*moved(inputs, torch.device("cpu"))))
        for loss, theirs in zip(result[:2], expected[:2], strict=True):
            torch.testing.assert_close(loss.cpu(), theirs, rtol=1e-5, atol=0)
        for grad, theirs in zip(result[2:], expected[2:], strict=True):
            # Two rows whose losses differ by a rounding may swap places at the mining cutoff.
            assert (grad.cpu() - theirs).abs().sum() <= 1e-3 * theirs.abs().sum()

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
        verify=verify,
        images=num_images,
        columns=columns,
        positives=positives,
    )
