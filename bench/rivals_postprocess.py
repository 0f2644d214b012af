"""Rivals of postprocess."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from rivals import absent, from_torchvision
from rivals_boxes import decode, torchvision_coder
from rivals_nms import suppress
from timing import Implementation
from torch import Tensor

from ssd_fast.specs import BoxCoderSpec, PostprocessSpec


def postprocess(
    spec: PostprocessSpec, coder: BoxCoderSpec, image_size: tuple[int, int], device: torch.device, vectorised: bool
) -> list[Implementation]:
    """vectorised: whether the [N * classes, top_k, top_k] overlaps of the vectorised torch version fit."""
    rivals = [from_torchvision(lambda: Implementation("torchvision", torchvision_postprocess(spec, coder, image_size)))]
    function = functools.partial(_vectorised_postprocess, spec=spec, coder=coder, image_size=image_size)
    if vectorised:
        cuda = device.type == "cuda"
        rivals.append(Implementation("vectorised torch", function, capturable=cuda))
    else:
        rivals.append(absent("vectorised torch", "its overlaps of all classes take too much memory or time here"))
    softmax = functools.partial(lambda logits, *_: logits.softmax(-1))
    rivals.append(Implementation("softmax alone (torch)", softmax, capturable=device.type == "cuda"))
    return rivals


def torchvision_postprocess(
    spec: PostprocessSpec, coder: BoxCoderSpec, image_size: tuple[int, int]
) -> Callable[..., Any]:
    """torchvision's own method, on an SSD without a network."""
    from torchvision.models.detection.ssd import SSD

    model = SimpleNamespace(
        box_coder=torchvision_coder(coder),
        score_thresh=spec.score_threshold,
        topk_candidates=spec.top_k,
        nms_thresh=spec.iou_threshold,
        detections_per_img=spec.keep_top_k,
    )

    def run(logits: Tensor, deltas: Tensor, default_boxes: Tensor) -> Any:
        n = len(logits)
        outputs = {"cls_logits": logits, "bbox_regression": deltas}
        return SSD.postprocess_detections(model, outputs, [default_boxes] * n, [image_size] * n)  # type: ignore[arg-type]

    return run


def _vectorised_postprocess(
    logits: Tensor,
    deltas: Tensor,
    default_boxes: Tensor,
    *,
    spec: PostprocessSpec,
    coder: BoxCoderSpec,
    image_size: tuple[int, int],
) -> tuple[Tensor, ...]:
    """What an expert writes in torch: no loop over images or classes, fixed shapes, no sync."""
    assert spec.top_k is not None
    height, width = image_size
    corners = decode(deltas, default_boxes, coder)
    x, y = corners[..., 0::2].clamp(0, width), corners[..., 1::2].clamp(0, height)
    boxes = torch.stack((x, y), -1).flatten(-2)
    scores, idxs = logits.softmax(-1)[..., 1:].transpose(1, 2).topk(spec.top_k, -1)  # [N, classes, k]
    images = torch.arange(len(boxes), device=boxes.device)[:, None, None]
    kept = suppress(boxes[images, idxs], scores > spec.score_threshold, spec.iou_threshold)
    flat = torch.where(kept, scores, -1.0).flatten(1)
    best, place = flat.topk(spec.keep_top_k, -1)
    chosen = idxs.flatten(1).gather(1, place)
    return (
        boxes.gather(1, chosen[..., None].expand(-1, -1, 4)),
        best,
        place // spec.top_k + 1,
        chosen,
        (best > 0).sum(-1),
    )
