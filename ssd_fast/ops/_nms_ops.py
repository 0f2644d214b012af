"""The registered ops of nms, batched_nms and nms_padded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from .. import _backend, arrays
from ._fakes import check_count, check_fake
from ._library import register


def _prepare_nms(op: str, boxes: Any, scores: Any) -> tuple[Any, Any, Any, Any, Any]:
    """Return contiguous inputs, and the workspace, indices and count to write to."""
    check_count(op, "boxes", arrays.dimension(boxes, 0), 0)  # before anything is copied or allocated
    boxes = arrays.contiguous(boxes, op, "boxes", arrays.BOX_BYTES)
    scores = arrays.contiguous(scores, op, "scores")
    workspace = arrays.workspace(_backend.C.nms_workspace(boxes), boxes, op)
    kept = arrays.empty((arrays.dimension(boxes, 0),), "int64", boxes, op)
    return boxes, scores, workspace, kept, arrays.empty((1,), "int64", boxes, op)


def _nms(boxes: Any, scores: Any, iou_threshold: float) -> Any:
    boxes, scores, workspace, kept, count = _prepare_nms("nms", boxes, scores)
    _backend.C.nms(boxes, scores, iou_threshold, workspace, kept, count)
    return arrays.trim(kept, count)


def _batched_nms(boxes: Any, scores: Any, idxs: Any, iou_threshold: float) -> Any:
    boxes, scores, workspace, kept, count = _prepare_nms("batched_nms", boxes, scores)
    idxs = arrays.contiguous(idxs, "batched_nms", "idxs")
    _backend.C.batched_nms(boxes, scores, idxs, iou_threshold, workspace, kept, count)
    return arrays.trim(kept, count)


def _nms_padded(boxes: Any, scores: Any, iou_threshold: float, max_output: int) -> tuple[Any, Any]:
    # Before anything is copied or allocated.
    _check_padded_counts(arrays.dimension(boxes, 1), scores.shape[:-1], max_output)
    boxes = arrays.contiguous(boxes, "nms_padded", "boxes", arrays.BOX_BYTES)
    scores = arrays.contiguous(scores, "nms_padded", "scores")
    leading = tuple(scores.shape[:-1])
    workspace_bytes = _backend.C.nms_padded_workspace(boxes, scores, iou_threshold, max_output)
    workspace = arrays.workspace(workspace_bytes, boxes, "nms_padded")
    kept = arrays.empty((*leading, max_output), "int64", boxes, "nms_padded")
    counts = arrays.empty(leading, "int64", boxes, "nms_padded")
    _backend.C.nms_padded(boxes, scores, iou_threshold, max_output, workspace, kept, counts)
    return kept, counts


def _check_padded_counts(num_boxes: Any, leading: Sequence[Any], max_output: Any) -> None:
    check_count("nms_padded", "boxes", num_boxes, 0)
    check_count("nms_padded", "scores", math.prod(leading), 0)
    check_count("nms_padded", "max_output", max_output, 1)


def _fake_nms(boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    return _fake_kept("nms", boxes, scores)


def _fake_batched_nms(
    boxes: torch.Tensor, scores: torch.Tensor, idxs: torch.Tensor, iou_threshold: float
) -> torch.Tensor:
    return _fake_kept("batched_nms", boxes, scores, idxs)


def _fake_kept(op: str, boxes: torch.Tensor, scores: torch.Tensor, idxs: torch.Tensor | None = None) -> torch.Tensor:
    check_fake(op, "boxes", boxes, (None, 4), (torch.float32, torch.float64), boxes)
    check_fake(op, "scores", scores, boxes.shape[:1], (boxes.dtype,), boxes)
    if idxs is not None:
        check_fake(op, "idxs", idxs, boxes.shape[:1], (torch.int64,), boxes)
    check_count(op, "boxes", boxes.shape[0], 0)
    return boxes.new_empty(torch.library.get_ctx().new_dynamic_size(), dtype=torch.int64)


def _fake_nms_padded(
    boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float, max_output: int
) -> tuple[torch.Tensor, torch.Tensor]:
    check_fake("nms_padded", "boxes", boxes, (None, None, 4), (torch.float32,), boxes)
    images, n, _ = boxes.shape
    shape = (images, None, n) if scores.ndim == 3 else (images, n)
    check_fake("nms_padded", "scores", scores, shape, (torch.float32,), boxes)
    leading = scores.shape[:-1]
    _check_padded_counts(n, leading, max_output)
    return boxes.new_empty((*leading, max_output), dtype=torch.int64), boxes.new_empty(leading, dtype=torch.int64)


nms_op = register("nms(Tensor boxes, Tensor scores, float iou_threshold) -> Tensor", _nms, _fake_nms)
batched_nms_op = register(
    "batched_nms(Tensor boxes, Tensor scores, Tensor idxs, float iou_threshold) -> Tensor",
    _batched_nms,
    _fake_batched_nms,
)
nms_padded_op = register(
    "nms_padded(Tensor boxes, Tensor scores, float iou_threshold, int max_output) -> (Tensor, Tensor)",
    _nms_padded,
    _fake_nms_padded,
)
