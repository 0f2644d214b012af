"""Run the steps of a torchvision SSD after its heads with ssd_fast.postprocess."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..._checks import is_not_negative, number
from ...detections import Detections
from ...ops.box_coder import decode_boxes
from ...ops.postprocess import postprocess
from ...specs import BoxCoderSpec, PostprocessSpec
from .box_coder import coder_spec

__all__ = ["FusedPostprocess", "is_double"]

_OP = "postprocess_detections"


class FusedPostprocess:
    """Replaces the method postprocess_detections of the model that it holds; made by `patch`."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __repr__(self) -> str:
        return f"FusedPostprocess of {type(self.model).__name__}"

    def __call__(
        self, head_outputs: dict[str, Tensor], image_anchors: Sequence[Tensor], image_shapes: Sequence[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        """Take torchvision's arguments; return one dict per image: "boxes" [k, 4], "scores" [k], "labels" [k] int64."""
        cls_logits, bbox_regression = head_outputs["cls_logits"], head_outputs["bbox_regression"]
        model = self.model
        if is_double(head_outputs) or min(model.topk_candidates, model.detections_per_img) < 1:
            return type(model).postprocess_detections(model, head_outputs, image_anchors, image_shapes)
        shapes = [(int(height), int(width)) for height, width in image_shapes]
        if not shapes:
            return []
        spec, coder = self._specs(cls_logits.shape)
        anchors = image_anchors[0].float()
        with torch.no_grad():
            detections = postprocess(
                cls_logits,
                bbox_regression,
                anchors,
                spec,
                coder=coder,
                image_sizes=shapes[0] if len(set(shapes)) == 1 else shapes,
            )
        differentiable = torch.is_grad_enabled() and (cls_logits.requires_grad or bbox_regression.requires_grad)
        if differentiable and len(anchors):
            detections = _with_gradients(detections, cls_logits, bbox_regression, anchors, coder)
        # Images have equal anchors unless the model's generator is unusual. Checking costs no second sync.
        *counts, differ = torch.cat((detections.counts, _differ(image_anchors))).tolist()
        if differ:
            ones = [
                ({"cls_logits": cls_logits[n : n + 1], "bbox_regression": bbox_regression[n : n + 1]}, anchors, shape)
                for n, (anchors, shape) in enumerate(zip(image_anchors, shapes, strict=True))
            ]
            return [self(heads, [anchors], [shape])[0] for heads, anchors, shape in ones]
        return [
            {field: getattr(detections, field)[n, :count] for field in ("boxes", "scores", "labels")}
            for n, count in enumerate(counts)
        ]

    def _specs(self, shape: Sequence[int]) -> tuple[PostprocessSpec, BoxCoderSpec]:
        """Read the model's current settings, for cls_logits of the shape [N, P, C]."""
        model, rows, columns = self.model, shape[-2], shape[-1]
        top_k = min(int(model.topk_candidates), max(rows, 1))
        keep_top_k = min(int(model.detections_per_img), max(top_k * (columns - 1), 1))  # "all" may be any large number
        score_thresh = number(_OP, "model.score_thresh", model.score_thresh, "a finite number")
        nms_thresh = number(_OP, "model.nms_thresh", model.nms_thresh, "a finite number >= 0", is_not_negative)
        spec = _make_spec(score_thresh, nms_thresh, keep_top_k, top_k)
        return spec, coder_spec(model.box_coder, _OP)


def is_double(head_outputs: dict[str, Tensor]) -> bool:
    """Whether any head is float64, which the kernels do not support."""
    return any(head.dtype == torch.float64 for head in head_outputs.values())


@functools.lru_cache(maxsize=64)
def _make_spec(score_threshold: float, iou_threshold: float, keep_top_k: int, top_k: int) -> PostprocessSpec:
    return PostprocessSpec(
        score_threshold=min(max(score_threshold, 0.0), 1.0),  # no score and no IoU exceeds 1
        score_inclusive=score_threshold < 0,  # every score exceeds it
        top_k=top_k,
        iou_threshold=min(iou_threshold, 1.0),
        keep_top_k=keep_top_k,
        clip="before_nms",
    )


def _with_gradients(
    detections: Detections, cls_logits: Tensor, bbox_regression: Tensor, anchors: Tensor, coder: BoxCoderSpec
) -> Detections:
    """Attach gradients to the values by recomputing them, only for the rows from which they come."""
    rows, labels = detections.box_idxs.clamp(min=0), detections.labels.clamp(min=0)  # padding is cut off later
    image = torch.arange(len(rows), device=rows.device)[:, None]
    scores = cls_logits[image, rows].float().softmax(-1).gather(-1, labels[..., None])[..., 0]
    deltas = bbox_regression[image, rows].flatten(0, 1)
    boxes = decode_boxes(deltas, anchors[rows.flatten()], coder).view_as(detections.boxes)
    return detections._replace(
        boxes=torch.where(boxes == detections.boxes, boxes, detections.boxes),  # a clipped corner has no gradient
        scores=detections.scores + (scores - scores.detach()),
    )


def _differ(image_anchors: Sequence[Tensor]) -> Tensor:
    """Whether any image has other anchors than the first, int64 [1]."""
    first, others = image_anchors[0], [anchors for anchors in image_anchors[1:] if anchors is not image_anchors[0]]
    if not others or any(anchors.shape != first.shape for anchors in others):
        return torch.full((1,), len(others), dtype=torch.int64, device=first.device)
    if first.device.type == "cpu":
        return torch.tensor([not all(torch.equal(anchors, first) for anchors in others)], dtype=torch.int64)
    return (torch.stack(others) != first).any().long().view(1)
