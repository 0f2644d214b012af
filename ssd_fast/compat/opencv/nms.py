"""OpenCV's NMSBoxes and NMSBoxesBatched for NumPy arrays."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..._checks import integer, is_not_negative, number, require
from ..._io.text import brief
from ...arrays import allocation_error, value_fault
from ...ops import batched_nms, nms

__all__ = ["nms_boxes", "nms_boxes_batched"]


def nms_boxes(
    bboxes: Any, scores: Any, score_threshold: float, nms_threshold: float, eta: float = 1.0, top_k: int = 0
) -> np.ndarray:
    """Return the indices of the boxes that non-maximum suppression keeps, best first, like cv2.dnn.NMSBoxes.

    Args:
        bboxes: [n, 4] numbers (x, y, width, height), an array or a list.
        scores: [n], compared in float32.
        score_threshold: candidates have a higher score.
        nms_threshold: a better box with a larger IoU suppresses a box; compared in float32 after OpenCV's rounding.
        eta: 1.
        top_k: the number of best candidates that enter NMS; 0 or less for all.

    Returns:
        int32 [k].

    Same:
        Equal scores: the lower index comes first; IoUs are computed in double and rounded as in OpenCV.

    Differs:
        If nothing is found, an array [0] is returned (OpenCV: an empty tuple). Boxes without area have IoU 0 with all
        boxes (OpenCV: 1 with each other, wherever they are).

    Raises:
        ValueError: values that are not numbers, a masked array, a wrong shape, a negative threshold, or eta other than
            1.

    Source:
        opencv/modules/dnn/src/nms.cpp.

    Examples:
        >>> from ssd_fast.compat.opencv import nms_boxes
        >>> nms_boxes([[0, 0, 10, 10], [1, 1, 10, 10], [20, 20, 10, 10]], [0.8, 0.9, 0.7], 0.5, 0.4).tolist()
        [1, 2]
    """
    return _kept("nms_boxes", bboxes, scores, None, score_threshold, nms_threshold, eta, top_k)


def nms_boxes_batched(
    bboxes: Any,
    scores: Any,
    class_ids: Any,
    score_threshold: float,
    nms_threshold: float,
    eta: float = 1.0,
    top_k: int = 0,
) -> np.ndarray:
    """Return the indices of the boxes that non-maximum suppression keeps of each class, like cv2.dnn.NMSBoxesBatched.

    Args:
        bboxes: as for nms_boxes.
        scores: as for nms_boxes.
        class_ids: [n] integers; a box suppresses only boxes of its class.
        score_threshold: as for nms_boxes.
        nms_threshold: as for nms_boxes.
        eta: 1.
        top_k: as for nms_boxes, the best of all classes.

    Returns:
        int32 [k], the indices of all classes, best first.

    Same:
        As nms_boxes.

    Differs:
        As nms_boxes. OpenCV moves the boxes of each class by a multiple of the largest coordinate plus 1, so that two
        classes may suppress each other where coordinates are negative; here boxes are not moved.

    Raises:
        ValueError: as nms_boxes; class_ids that are not integers.

    Source:
        opencv/modules/dnn/src/nms.cpp.

    Examples:
        >>> from ssd_fast.compat.opencv import nms_boxes_batched
        >>> boxes = [[0, 0, 10, 10], [1, 1, 10, 10], [1, 1, 10, 10]]
        >>> nms_boxes_batched(boxes, [0.8, 0.9, 0.7], [3, 3, 5], 0.5, 0.4).tolist()
        [1, 2]
    """
    op = "nms_boxes_batched"
    classes = _as_array(class_ids, None, op, "class_ids")
    require(classes.dtype.kind in "iu" or classes.size == 0, op, "class_ids", "integers", class_ids)
    return _kept(op, bboxes, scores, classes.astype(np.int64), score_threshold, nms_threshold, eta, top_k)


def _kept(
    op: str,
    bboxes: Any,
    scores: Any,
    classes: np.ndarray | None,
    score_threshold: float,
    nms_threshold: float,
    eta: float,
    top_k: int,
) -> np.ndarray:
    """Check the arguments, and return the indices of the kept boxes of each class; None: all have the same."""
    number(op, "eta", eta, "1", lambda x: x == 1)
    score_threshold = number(op, "score_threshold", score_threshold, "a number >= 0", is_not_negative)
    nms_threshold = number(op, "nms_threshold", nms_threshold, "a number >= 0", is_not_negative)
    top_k = integer(op, "top_k", top_k, "an int in [-2**31, 2**31)", -(2**31))
    xywh, values = _as_array(bboxes, np.float64, op, "bboxes"), _as_array(scores, np.float32, op, "scores")
    xywh = xywh.reshape(0, 4) if xywh.shape == (0,) else xywh
    require(xywh.ndim == 2 and xywh.shape[1] == 4, op, "bboxes", "[n, 4] numbers", list(xywh.shape))
    require(values.shape == xywh.shape[:1], op, "scores", f"shape {list(xywh.shape[:1])}", list(values.shape))
    if classes is not None:
        require(classes.shape == values.shape, op, "class_ids", f"shape {list(values.shape)}", list(classes.shape))
    candidates = np.flatnonzero(values > np.float32(score_threshold))
    if 0 < top_k < len(candidates):  # otherwise the op sorts, likewise by descending score and ascending index
        candidates = candidates[np.argsort(-values[candidates], kind="stable")[:top_k]]
    boxes = xywh[candidates]
    boxes[:, 2:] += boxes[:, :2]
    found = values[candidates].astype(np.float64)
    threshold = _double_threshold(nms_threshold)
    if classes is None:
        return candidates[nms(boxes, found, threshold)].astype(np.int32)
    return candidates[batched_nms(boxes, found, classes[candidates], threshold)].astype(np.int32)


def _as_array(values: Any, dtype: type[np.generic] | None, op: str, name: str) -> np.ndarray:
    if (fault := value_fault(values)) is not None:
        raise ValueError(f"{op}: {name}: {fault}")
    if isinstance(values, Sequence) and len(values) >= 2**31:  # such as a range
        raise ValueError(f"{op}: {name}: expected at most {2**31 - 1} elements, got {len(values)}")
    try:
        return np.asarray(values, dtype)
    except MemoryError as error:
        raise allocation_error(op, error) from error
    except (OverflowError, RuntimeError, TypeError, ValueError) as error:  # also of a tensor with gradient
        raise ValueError(f"{op}: {name}: expected numbers in rows of one length, got {brief(values)}") from error


@functools.lru_cache(maxsize=64)
def _double_threshold(threshold: float) -> float:
    """The largest IoU that OpenCV lets pass: it compares 1 - float32(1 - IoU) with float32(threshold).

    This is monotone in the IoU, so it is found by bisection; doubles from 0 up are in the order of their bits.
    """
    limit = np.float32(threshold)
    low, high = np.float64(0).view(np.int64), np.float64(1).view(np.int64)
    while low < high:
        middle = low + (high - low + 1) // 2
        overlap = np.float32(1) - np.float32(1 - middle.view(np.float64))
        low, high = (middle, high) if overlap <= limit else (low, middle - 1)
    return float(low.view(np.float64))
