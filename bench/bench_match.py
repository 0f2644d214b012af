"""match: a batch of ground truths against SSD300's 8732 default boxes, by torchvision's rule."""

from __future__ import annotations

from typing import Any

import pytest
import rivals
import torch
import workloads
from timing import Implementation
from torch import Tensor

import ssd_fast
import ssd_fast.reference
from ssd_fast import MatcherSpec

MATCHER = MatcherSpec()  # torchvision's
# Images and ground truths per image: an ordinary batch, a large one, and crowded photos.
CASES = [(8, 8), (32, 8), (1, 61), (8, 61), (1, 574)]


def torchvision_match() -> Implementation:
    """What torchvision's SSD does in a training step: the IoU matrix and the matcher, one image at a time."""
    from torchvision.models.detection._utils import SSDMatcher

    matcher = SSDMatcher(MATCHER.positive_threshold)
    box_iou = rivals.torchvision.ops.box_iou  # type: ignore[union-attr]

    def run(gt_boxes: list[Tensor], default_boxes: Tensor) -> list[Tensor]:
        return [matcher(box_iou(boxes, default_boxes)) for boxes in gt_boxes]

    return Implementation("torchvision", run, _as_list)


def _as_list(boxes: Tensor, offsets: Tensor, default_boxes: Tensor) -> tuple[list[Tensor], Tensor]:
    return list(boxes.split(offsets.diff().tolist())), default_boxes


def vectorized_match(boxes: Tensor, default_boxes: Tensor) -> Tensor:
    """Expert-level torch for [N, G, 4], where every image has G ground truths: no loop, no sync."""
    sides = torch.minimum(boxes[:, :, None, 2:], default_boxes[:, 2:]) - torch.maximum(
        boxes[:, :, None, :2], default_boxes[:, :2]
    )
    intersection = sides.clamp(min=0).prod(-1)
    areas, default_areas = ((x[..., 2:] - x[..., :2]).prod(-1) for x in (boxes, default_boxes))
    iou = intersection / (areas[..., None] + default_areas - intersection)  # [N, G, P]
    best_iou, best_gt = iou.max(1)
    matched = torch.where(best_iou >= MATCHER.positive_threshold, best_gt, -1)
    forced = torch.full_like(matched, -1)
    gts = torch.arange(boxes.shape[1], device=boxes.device).expand(len(boxes), -1)
    forced.scatter_reduce_(1, iou.argmax(2), gts, "amax")
    return torch.where(forced >= 0, forced, matched)


@pytest.mark.parametrize(("num_images", "num_gt"), CASES)
def bench_match(race: Any, device: torch.device, num_images: int, num_gt: int) -> None:
    default_boxes = ssd_fast.default_boxes(workloads.preset().default_boxes, device=device)
    boxes, offsets = (x.to(device) for x in workloads.crowds(num_images, num_gt))

    def verify(result: Tensor) -> None:
        packed = boxes.cpu(), offsets.cpu()
        assert torch.equal(result.cpu(), ssd_fast.reference.match(packed, default_boxes.cpu(), MATCHER))

    cuda = device.type == "cuda"
    race(
        "match",
        (boxes, offsets, default_boxes),
        Implementation(
            "ssd_fast",
            lambda boxes, offsets, default_boxes: ssd_fast.match((boxes, offsets), default_boxes, MATCHER),
            capturable=cuda,
        ),
        [
            rivals.from_torchvision(torchvision_match),
            Implementation(
                "vectorized torch",
                vectorized_match,
                lambda boxes, _, default_boxes: (boxes.reshape(num_images, num_gt, 4), default_boxes),
                capturable=cuda,
            ),
        ],
        verify=verify,
        images=num_images,
        gts=num_gt,
    )
