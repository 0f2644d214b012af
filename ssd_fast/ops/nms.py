"""nms, batched_nms, nms_padded: greedy non-maximum suppression, exact at any size."""

from __future__ import annotations

from typing import Any

import torch

from .. import _backend, arrays
from ._library import register


def nms(boxes: Any, scores: Any, iou_threshold: float) -> Any:
    """Greedy non-maximum suppression, as torchvision.ops.nms.

    Args:
        boxes: [n, 4] xyxy, float32 or float64: a torch tensor, or a NumPy, CuPy or Numba device array.
        scores: [n] of the same dtype. NaN scores are no candidates.
        iou_threshold: a kept box suppresses later ones whose IoU with it exceeds this, compared in the boxes' dtype.
    Returns: int64 [k], the kept indices, score-descending.
    Ties: of equal scores the lower index comes first.   Grad: none.
    Syncs: once on a GPU, to trim the result (nms_padded does not).   Memory: O(n).
    Raises: ValueError: wrong shape, device or threshold; TypeError: wrong dtype or no array.
    Source: Liu et al. 2016, section 2.2. Specification: ssd_fast.reference.nms
    """
    if arrays.library_of(boxes, "nms", "boxes") == "torch":
        return _nms_op(boxes, scores, iou_threshold)
    return _nms(boxes, scores, iou_threshold)


def batched_nms(boxes: Any, scores: Any, idxs: Any, iou_threshold: float) -> Any:
    """NMS within each class, as torchvision.ops.batched_nms, but never by offsetting boxes: their IoUs stay exact.

    Args:
        boxes, scores, iou_threshold: as for nms.
        idxs: [n] int64, the class of each box; a box suppresses only boxes of its class.
    Returns: int64 [k], the kept indices of all classes, score-descending.
    Ties: of equal scores the lower index comes first.   Grad: none.
    Syncs: once on a GPU, to trim the result (nms_padded does not).   Memory: O(n).
    Raises: ValueError: wrong shape, device or threshold; TypeError: wrong dtype or no array.
    Source: Liu et al. 2016, section 2.2. Specification: ssd_fast.reference.batched_nms
    """
    if arrays.library_of(boxes, "batched_nms", "boxes") == "torch":
        return _batched_nms_op(boxes, scores, idxs, iou_threshold)
    return _batched_nms(boxes, scores, idxs, iou_threshold)


def nms_padded(boxes: Any, scores: Any, iou_threshold: float, max_output: int) -> tuple[Any, Any]:
    """NMS of many problems at once with results of a fixed shape, so that nothing waits for the GPU.

    Args:
        boxes: [N, n, 4] float32 xyxy.
        scores: [N, n], or [N, C, n] for C problems over the same boxes; float32. NaN scores are no candidates.
        iou_threshold: as for nms.
        max_output: most indices kept of a problem, at least 1.
    Returns: (idxs, counts): int64 [N, max_output] or [N, C, max_output], score-descending and padded with -1; int64 [N]
        or [N, C], how many were kept.
    Ties: of equal scores the lower index comes first.   Grad: none.   Syncs: never; can be captured in a CUDA graph.
    Raises: ValueError: wrong shape, device, threshold or max_output; TypeError: wrong dtype or no array.
    Source: Liu et al. 2016, section 2.2. Specification: ssd_fast.reference.nms_padded
    """
    if arrays.library_of(boxes, "nms_padded", "boxes") == "torch":
        return _nms_padded_op(boxes, scores, iou_threshold, max_output)
    return _nms_padded(boxes, scores, iou_threshold, max_output)


def _prepare_nms(op: str, boxes: Any, scores: Any) -> tuple[Any, Any, Any, Any, Any]:
    """Contiguous inputs, and workspace, indices and count to write to."""
    boxes = arrays.contiguous(boxes, op, "boxes")
    scores = arrays.contiguous(scores, op, "scores")
    workspace = arrays.empty((_backend.C.nms_workspace(boxes),), "uint8", like=boxes)
    kept = arrays.empty((arrays.dimension(boxes, 0),), "int64", like=boxes)
    return boxes, scores, workspace, kept, arrays.empty((1,), "int64", like=boxes)


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
    boxes = arrays.contiguous(boxes, "nms_padded", "boxes")
    scores = arrays.contiguous(scores, "nms_padded", "scores")
    leading = tuple(scores.shape[:-1])
    workspace = arrays.empty((_backend.C.nms_padded_workspace(scores, max_output),), "uint8", like=boxes)
    kept = arrays.empty((*leading, max(max_output, 0)), "int64", like=boxes)
    counts = arrays.empty(leading, "int64", like=boxes)
    _backend.C.nms_padded(boxes, scores, iou_threshold, max_output, workspace, kept, counts)
    return kept, counts


def _fake_nms(boxes: torch.Tensor, *_: Any) -> torch.Tensor:
    return boxes.new_empty(torch.library.get_ctx().new_dynamic_size(), dtype=torch.int64)


def _fake_nms_padded(
    boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float, max_output: int
) -> tuple[torch.Tensor, torch.Tensor]:
    leading = scores.shape[:-1]
    return boxes.new_empty((*leading, max_output), dtype=torch.int64), boxes.new_empty(leading, dtype=torch.int64)


_nms_op = register("nms(Tensor boxes, Tensor scores, float iou_threshold) -> Tensor", _nms, _fake_nms)
_batched_nms_op = register(
    "batched_nms(Tensor boxes, Tensor scores, Tensor idxs, float iou_threshold) -> Tensor", _batched_nms, _fake_nms
)
_nms_padded_op = register(
    "nms_padded(Tensor boxes, Tensor scores, float iou_threshold, int max_output) -> (Tensor, Tensor)",
    _nms_padded,
    _fake_nms_padded,
)
