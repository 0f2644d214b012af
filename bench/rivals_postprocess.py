"""Rivals of postprocess."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from rivals import absent, from_torchvision
from rivals_boxes import decode, torchvision_coder
from rivals_nms import BYTES_PER_PAIR, suppress
from timing import Implementation
from torch import Tensor

from ssd_fast.specs import BoxCoderSpec, PostprocessSpec


def postprocess(
    spec: PostprocessSpec, coder: BoxCoderSpec, image_size: tuple[int, int], device: torch.device, pairs: int
) -> list[Implementation]:
    """pairs: the N * classes * top_k * top_k pairs of boxes whose overlaps the vectorized torch version computes."""
    rivals = [from_torchvision(lambda: Implementation("torchvision", torchvision_postprocess(spec, coder, image_size)))]
    function = functools.partial(_vectorized_postprocess, spec=spec, coder=coder, image_size=image_size)
    cuda = device.type == "cuda"
    if pairs <= (6e8 if cuda else 2e7):
        memory = pairs * BYTES_PER_PAIR
        rivals.append(Implementation("vectorized torch", function, capturable=cuda, memory=memory))
    else:
        rivals.append(absent("vectorized torch", "its overlaps of all classes take too much memory or time here"))
    return rivals + steps_alone(device)


def steps_alone(device: torch.device) -> list[Implementation]:
    """Not rivals, but the least that any postprocess has to do: how far ours is from it."""
    cuda = device.type == "cuda"
    return [
        Implementation("softmax alone (torch)", lambda logits, *_: logits.softmax(-1), capturable=cuda),
        Implementation("largest logit alone (torch)", lambda logits, *_: logits.amax(), capturable=cuda),
    ]


def torchvision_postprocess(
    spec: PostprocessSpec, coder: BoxCoderSpec, image_size: tuple[int, int]
) -> Callable[..., Any]:
    """torchvision's own method, called without a network."""
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


def _vectorized_postprocess(
    logits: Tensor,
    deltas: Tensor,
    default_boxes: Tensor,
    *,
    spec: PostprocessSpec,
    coder: BoxCoderSpec,
    image_size: tuple[int, int],
) -> tuple[Tensor, ...]:
    """Expert-level torch: no loop over images or classes, fixed shapes, no sync."""
    assert spec.top_k is not None
    boxes = _clipped(decode(deltas, default_boxes, coder), image_size)
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


def in_other_modes(spec: PostprocessSpec, coder: BoxCoderSpec, image_size: tuple[int, int]) -> list[Implementation]:
    """Rivals with one class per box, or with the best pairs per level: torch and torchvision.ops, image by image."""
    run = one_class_a_box if spec.class_mode == "agnostic" else best_of_levels
    function = functools.partial(run, spec=spec, coder=coder, image_size=image_size)
    return [from_torchvision(lambda: Implementation("torch and torchvision.ops", function))]


def one_class_a_box(
    logits: Sequence[Tensor],
    deltas: Sequence[Tensor],
    default_boxes: Tensor,
    *,
    spec: PostprocessSpec,
    coder: BoxCoderSpec,
    image_size: tuple[int, int],
) -> list[dict[str, Tensor]]:
    """As in TFLite and TF.js: the best class of each box, one NMS over all."""
    from torchvision.ops import nms

    scores, labels = torch.cat(tuple(logits), 1).softmax(-1)[..., 1:].max(-1)
    boxes = _clipped(decode(torch.cat(tuple(deltas), 1), default_boxes, coder), image_size)
    detections = []
    for image_scores, image_labels, image_boxes in zip(scores, labels, boxes, strict=True):
        rows = (image_scores > spec.score_threshold).nonzero()[:, 0]
        rows = rows[image_scores[rows].topk(min(len(rows), spec.top_k or len(rows))).indices]
        rows = rows[nms(image_boxes[rows], image_scores[rows], spec.iou_threshold)[: spec.keep_top_k]]
        detections.append({"boxes": image_boxes[rows], "scores": image_scores[rows], "labels": image_labels[rows] + 1})
    return detections


def best_of_levels(
    logits: Sequence[Tensor],
    deltas: Sequence[Tensor],
    default_boxes: Tensor,
    *,
    spec: PostprocessSpec,
    coder: BoxCoderSpec,
    image_size: tuple[int, int],
) -> list[dict[str, Tensor]]:
    """As in mmdetection and torchvision's RetinaNet: the best pairs of a box and a class per level."""
    from torchvision.ops import batched_nms

    level_scores = [level.softmax(-1)[..., 1:].flatten(1) for level in logits]
    columns = logits[0].shape[-1] - 1
    boxes = _clipped(decode(torch.cat(tuple(deltas), 1), default_boxes, coder), image_size)
    detections = []
    for n, image_boxes in enumerate(boxes):
        first, found = 0, []
        for level, scores in zip(logits, level_scores, strict=True):
            pairs = (scores[n] > spec.score_threshold).nonzero()[:, 0]
            best = scores[n, pairs].topk(min(len(pairs), spec.top_k or len(pairs)))
            pairs = pairs[best.indices]
            found.append((first + pairs // columns, pairs % columns, best.values))
            first += level.shape[1]
        rows, labels, values = (torch.cat(parts) for parts in zip(*found, strict=True))
        kept = batched_nms(image_boxes[rows], values, labels, spec.iou_threshold)[: spec.keep_top_k]
        detections.append({"boxes": image_boxes[rows[kept]], "scores": values[kept], "labels": labels[kept] + 1})
    return detections


def _clipped(boxes: Tensor, image_size: tuple[int, int]) -> Tensor:
    height, width = image_size
    return torch.stack((boxes[..., 0::2].clamp(0, width), boxes[..., 1::2].clamp(0, height)), -1).flatten(-2)
