"""nms, batched_nms, nms_padded: greedy non-maximum suppression, exact at any size."""

from __future__ import annotations

from ..arrays import Array
from ._arguments import call, integer, real
from ._nms_ops import batched_nms_op, nms_op, nms_padded_op


def nms(boxes: Array, scores: Array, iou_threshold: float) -> Array:
    """Suppress boxes that overlap a better one, greedily, like torchvision.ops.nms.

    Args:
        boxes: [n, 4] xyxy, float32 or float64: a torch tensor, or a NumPy, CuPy or Numba device array.
        scores: [n] of the same dtype. NaN scores are not candidates.
        iou_threshold: a kept box suppresses later ones whose IoU with it exceeds this, compared in the boxes' dtype.

    Returns:
        int64 [k], the kept indices, by descending score.

    Ties:
        Of equal scores, the lower index comes first.

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

    Examples:
        The second box overlaps the first by an IoU of 0.68; the third is apart:

        >>> import ssd_fast, torch
        >>> boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [1.0, 1.0, 11.0, 11.0], [20.0, 20.0, 30.0, 30.0]])
        >>> scores = torch.tensor([0.9, 0.8, 0.7])
        >>> ssd_fast.nms(boxes, scores, iou_threshold=0.5)
        tensor([0, 2])

        Arrays of other libraries stay in their library:

        >>> ssd_fast.nms(boxes.numpy(), scores.numpy(), iou_threshold=0.7)
        array([0, 1, 2])
    """
    iou_threshold = real("nms", "iou_threshold", iou_threshold)
    return call(nms_op, {"boxes": boxes, "scores": scores}, iou_threshold)


def batched_nms(boxes: Array, scores: Array, idxs: Array, iou_threshold: float) -> Array:
    """Run NMS within each class, like torchvision.ops.batched_nms, but without offsetting boxes: their IoUs stay exact.

    Args:
        boxes: as for nms.
        scores: as for nms.
        idxs: [n] int64, the class of each box; a box suppresses only boxes of its class.
        iou_threshold: as for nms.

    Returns:
        int64 [k], the kept indices of all classes, by descending score.

    Ties:
        Of equal scores, the lower index comes first.

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

    Examples:
        >>> import ssd_fast, torch
        >>> boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [1.0, 1.0, 11.0, 11.0], [0.0, 0.0, 10.0, 10.0]])
        >>> scores, classes = torch.tensor([0.9, 0.8, 0.7]), torch.tensor([0, 0, 1])
        >>> ssd_fast.batched_nms(boxes, scores, classes, iou_threshold=0.5)
        tensor([0, 2])
    """
    iou_threshold = real("batched_nms", "iou_threshold", iou_threshold)
    named = {"boxes": boxes, "scores": scores, "idxs": idxs}
    return call(batched_nms_op, named, iou_threshold)


def nms_padded(boxes: Array, scores: Array, iou_threshold: float, max_output: int) -> tuple[Array, Array]:
    """Run NMS on many problems at once, with results of a fixed shape, so that nothing waits for the GPU.

    Args:
        boxes: [N, n, 4] float32 xyxy.
        scores: [N, n], or [N, C, n] for C problems over the same boxes; float32. NaN scores are not candidates.
        iou_threshold: as for nms.
        max_output: the most indices kept per problem, at least 1.

    Returns:
        `(idxs, counts)`: int64 [N, max_output] or [N, C, max_output], by descending score and padded with -1; int64 [N]
            or [N, C], how many were kept.

    Ties:
        Of equal scores, the lower index comes first.

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

    Examples:
        >>> import ssd_fast, torch
        >>> boxes = torch.tensor([[[0.0, 0.0, 10.0, 10.0], [1.0, 1.0, 11.0, 11.0], [20.0, 20.0, 30.0, 30.0]]])
        >>> idxs, counts = ssd_fast.nms_padded(boxes, torch.tensor([[0.9, 0.8, 0.7]]), 0.5, max_output=4)
        >>> idxs, counts
        (tensor([[ 0,  2, -1, -1]]), tensor([2]))
    """
    iou_threshold = real("nms_padded", "iou_threshold", iou_threshold)
    max_output = integer("nms_padded", "max_output", max_output)
    named = {"boxes": boxes, "scores": scores}
    return call(nms_padded_op, named, iou_threshold, max_output)
