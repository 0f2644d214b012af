"""nms, batched_nms, nms_padded: greedy non-maximum suppression, exact at any size."""

from __future__ import annotations

from typing import Any

import torch

from .. import _backend, arrays
from ._arguments import call, integer, real
from ._fakes import check_fake, check_fake_count
from ._library import register


def nms(boxes: Any, scores: Any, iou_threshold: float) -> Any:
    """Greedy non-maximum suppression, as torchvision.ops.nms.

    Args:
        boxes: [n, 4] xyxy, float32 or float64: a torch tensor, or a NumPy, CuPy or Numba device array.
        scores: [n] of the same dtype. NaN scores are no candidates.
        iou_threshold: a kept box suppresses later ones whose IoU with it exceeds this, compared in the boxes' dtype.

    Returns:
        int64 [k], the kept indices, score-descending.

    Ties:
        Of equal scores the lower index comes first.

    Grad:
        None.

    Syncs:
        Once on a GPU, to trim the result (nms_padded does not).

    Memory:
        O(n).

    Raises:
        ValueError: wrong shape, device or threshold.
        TypeError: wrong dtype, or not an array.

    Source:
        Liu et al. 2016, section 2.2.

    Specification:
        ssd_fast.reference.nms
    """
    iou_threshold = real("nms", "iou_threshold", iou_threshold)
    return call(_nms_op, {"boxes": boxes, "scores": scores}, iou_threshold)


def batched_nms(boxes: Any, scores: Any, idxs: Any, iou_threshold: float) -> Any:
    """NMS within each class, as torchvision.ops.batched_nms, but never by offsetting boxes: their IoUs stay exact.

    Args:
        boxes: as for nms.
        scores: as for nms.
        iou_threshold: as for nms.
        idxs: [n] int64, the class of each box; a box suppresses only boxes of its class.

    Returns:
        int64 [k], the kept indices of all classes, score-descending.

    Ties:
        Of equal scores the lower index comes first.

    Grad:
        None.

    Syncs:
        Once on a GPU, to trim the result (nms_padded does not).

    Memory:
        O(n).

    Raises:
        ValueError: wrong shape, device or threshold.
        TypeError: wrong dtype, or not an array.

    Source:
        Liu et al. 2016, section 2.2.

    Specification:
        ssd_fast.reference.batched_nms
    """
    iou_threshold = real("batched_nms", "iou_threshold", iou_threshold)
    named = {"boxes": boxes, "scores": scores, "idxs": idxs}
    return call(_batched_nms_op, named, iou_threshold)


def nms_padded(boxes: Any, scores: Any, iou_threshold: float, max_output: int) -> tuple[Any, Any]:
    """NMS of many problems at once with results of a fixed shape, so that nothing waits for the GPU.

    Args:
        boxes: [N, n, 4] float32 xyxy.
        scores: [N, n], or [N, C, n] for C problems over the same boxes; float32. NaN scores are no candidates.
        iou_threshold: as for nms.
        max_output: most indices kept of a problem, at least 1.

    Returns:
        `(idxs, counts)`: int64 [N, max_output] or [N, C, max_output], score-descending and padded with -1; int64 [N] or
            [N, C], how many were kept.

    Ties:
        Of equal scores the lower index comes first.

    Grad:
        None.

    Syncs:
        Never; can be captured in a CUDA graph.

    Raises:
        ValueError: wrong shape, device, threshold or max_output.
        TypeError: wrong dtype, or not an array.

    Source:
        Liu et al. 2016, section 2.2.

    Specification:
        ssd_fast.reference.nms_padded
    """
    iou_threshold = real("nms_padded", "iou_threshold", iou_threshold)
    max_output = integer("nms_padded", "max_output", max_output)
    named = {"boxes": boxes, "scores": scores}
    return call(_nms_padded_op, named, iou_threshold, max_output)


def _prepare_nms(op: str, boxes: Any, scores: Any) -> tuple[Any, Any, Any, Any, Any]:
    """Contiguous inputs, and workspace, indices and count to write to."""
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
    boxes = arrays.contiguous(boxes, "nms_padded", "boxes", arrays.BOX_BYTES)
    scores = arrays.contiguous(scores, "nms_padded", "scores")
    leading = tuple(scores.shape[:-1])
    workspace_bytes = _backend.C.nms_padded_workspace(boxes, scores, iou_threshold, max_output)
    workspace = arrays.workspace(workspace_bytes, boxes, "nms_padded")
    kept = arrays.empty((*leading, max_output), "int64", boxes, "nms_padded")
    counts = arrays.empty(leading, "int64", boxes, "nms_padded")
    _backend.C.nms_padded(boxes, scores, iou_threshold, max_output, workspace, kept, counts)
    return kept, counts


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
    return boxes.new_empty(torch.library.get_ctx().new_dynamic_size(), dtype=torch.int64)


def _fake_nms_padded(
    boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float, max_output: int
) -> tuple[torch.Tensor, torch.Tensor]:
    check_fake("nms_padded", "boxes", boxes, (None, None, 4), (torch.float32,), boxes)
    images, n, _ = boxes.shape
    shape = (images, None, n) if scores.ndim == 3 else (images, n)
    check_fake("nms_padded", "scores", scores, shape, (torch.float32,), boxes)
    check_fake_count("nms_padded", "max_output", max_output, 1)
    leading = scores.shape[:-1]
    return boxes.new_empty((*leading, max_output), dtype=torch.int64), boxes.new_empty(leading, dtype=torch.int64)


_nms_op = register("nms(Tensor boxes, Tensor scores, float iou_threshold) -> Tensor", _nms, _fake_nms)
_batched_nms_op = register(
    "batched_nms(Tensor boxes, Tensor scores, Tensor idxs, float iou_threshold) -> Tensor",
    _batched_nms,
    _fake_batched_nms,
)
_nms_padded_op = register(
    "nms_padded(Tensor boxes, Tensor scores, float iou_threshold, int max_output) -> (Tensor, Tensor)",
    _nms_padded,
    _fake_nms_padded,
)
