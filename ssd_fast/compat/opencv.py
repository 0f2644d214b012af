"""OpenCV's DNN module: its DetectionOutput layer and NMSBoxes on NumPy arrays, by the kernels of this package."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from .._checks import integer, is_not_negative, is_positive, number, require
from .._io.text import brief
from ..ops import decode_boxes, nms
from ..specs import BoxCoderSpec
from ._scored_nms import keep_scored

__all__ = ["detection_out", "nms_boxes"]


def detection_out(
    mbox_loc: np.ndarray,
    mbox_conf: np.ndarray,
    mbox_priorbox: np.ndarray,
    *,
    num_classes: int,
    nms_threshold: float,
    keep_top_k: int,
    confidence_threshold: float = 0.0,
    top_k: int = -1,
    background_label_id: int = 0,
    share_location: bool = True,
    code_type: str = "CENTER_SIZE",
    variance_encoded_in_target: bool = False,
    clip: bool = False,
    eta: float = 1.0,
) -> np.ndarray:
    """The blob "detection_out" of a Caffe SSD, from the blobs that its DetectionOutput layer reads.

    Args:
        mbox_loc: offsets, N * P * 4 float32 numbers in any shape that begins with N.
        mbox_conf: scores after softmax or sigmoid, N * P * num_classes.
        mbox_priorbox: [1, 2, P * 4]: default boxes as xyxy in shares of the image, and a variance for each number;
            with variance_encoded_in_target [1, 1, P * 4] will do.
            others: as in the prototxt, whose defaults they have; code_type, which has none: what SSD uses. top_k 0 or
            less: all candidates enter NMS; keep_top_k -1: all that NMS keeps come out.

    Returns:
        float32 [1, 1, K, 7], rows of (image, label, score, x1, y1, x2, y2), by image and then best first, then rows of
            0 up to K = N * keep_top_k. With keep_top_k = -1 there is no padding.

    Same:
        A candidate's score exceeds confidence_threshold; a larger IoU than nms_threshold suppresses; scores bit for bit
        those given.

    Differs:
        keep_top_k = -1 works as in Caffe (OpenCV 4.14 corrupts its memory), and so does background_label_id = -1: every
        column is a class (OpenCV raises).

    Ties:
        Equal scores: lower class, then lower default box.

    Grad:
        None.

    Raises:
        ValueError: a wrong shape; what no kernel here computes: share_location=False, eta other than 1, another code
            type.
        TypeError: not a NumPy array, or not float32.

    Source:
        opencv/modules/dnn/src/layers/detection_output_layer.cpp; weiliu89/caffe, detection_output_layer.
    """
    op = "detection_out"
    require(share_location is True, op, "share_location", "True", share_location)
    is_known = isinstance(code_type, str) and code_type in ("CENTER_SIZE", "caffe.PriorBoxParameter.CENTER_SIZE")
    require(is_known, op, "code_type", "'CENTER_SIZE'", code_type)
    number(op, "eta", eta, "1", lambda x: x == 1)
    nms_threshold = number(op, "nms_threshold", nms_threshold, "a positive number", is_positive)
    confidence_threshold = number(op, "confidence_threshold", confidence_threshold, "a finite number")
    keep_top_k = integer(op, "keep_top_k", keep_top_k, "an int >= 1, or -1", -1)
    require(keep_top_k != 0, op, "keep_top_k", "an int >= 1, or -1", keep_top_k)
    top_k = integer(op, "top_k", top_k, "an int", -(2**31))
    num_classes = integer(op, "num_classes", num_classes, "an int >= 1", 1)
    background_label_id = integer(op, "background_label_id", background_label_id, "a column", -1)
    require(background_label_id < num_classes, op, "background_label_id", "a column", background_label_id)
    for name, blob in {"mbox_loc": mbox_loc, "mbox_conf": mbox_conf, "mbox_priorbox": mbox_priorbox}.items():
        _check_blob(blob, op, name)
    planes = mbox_priorbox.shape[1] if mbox_priorbox.ndim == 3 else 0
    ok = planes > 0 and mbox_priorbox.shape[0] == 1 and mbox_priorbox.shape[2] % 4 == 0
    ok &= planes == 2 or (planes == 1 and variance_encoded_in_target)
    expected = "[1, 1 or 2, P * 4]" if variance_encoded_in_target else "[1, 2, P * 4]"
    require(ok, op, "mbox_priorbox", expected, list(mbox_priorbox.shape))
    images, rows = mbox_loc.shape[0], mbox_priorbox.shape[2] // 4
    for name, blob, values in (("mbox_loc", mbox_loc, 4), ("mbox_conf", mbox_conf, num_classes)):
        ok = blob.shape[0] == images and blob.size == images * rows * values
        require(ok, op, name, f"{images} x {rows} x {values} numbers", list(blob.shape))

    offsets, scores = mbox_loc.reshape(images, rows, 4), mbox_conf.reshape(images, rows, num_classes)
    if not variance_encoded_in_target:
        offsets = offsets * mbox_priorbox[0, 1].reshape(rows, 4)  # a variance for each number, hence not the coder's
    priors = torch.tensor(mbox_priorbox[0, 0].reshape(rows, 4))
    boxes = decode_boxes(torch.tensor(offsets), priors, BoxCoderSpec((1.0, 1.0, 1.0, 1.0)))
    if clip:
        boxes = boxes.clamp(0, 1)
    background = None if background_label_id == -1 else background_label_id
    kept = keep_scored(
        boxes,
        torch.tensor(scores),
        score_threshold=confidence_threshold,
        iou_threshold=nms_threshold,
        top_k=top_k if top_k > 0 else None,
        background=background,
    )
    if keep_top_k != -1:
        kept = kept.first(keep_top_k, images)
    found = torch.cat(
        (torch.stack((kept.images, kept.labels, kept.scores), 1), boxes[kept.images, kept.box_idxs]), 1
    ).numpy()
    output = np.zeros((1, 1, len(found) if keep_top_k == -1 else images * keep_top_k, 7), np.float32)
    output[0, 0, : len(found)] = found
    return output


def nms_boxes(
    bboxes: Any, scores: Any, score_threshold: float, nms_threshold: float, eta: float = 1.0, top_k: int = 0
) -> np.ndarray:
    """The indices of the boxes that non-maximum suppression keeps, best first: cv2.dnn.NMSBoxes.

    Args:
        bboxes: [n, 4] numbers (x, y, width, height), an array or a list.
        scores: [n], compared in float32.
        score_threshold: a candidate's score exceeds it.
        nms_threshold: a better box with a larger IoU suppresses; compared in float32, after a rounding of OpenCV's.
        top_k: candidates that NMS is given, the best; 0 or less: all.

    Returns:
        int32 [k].

    Same:
        Equal scores: the lower index comes first; IoUs in double, and OpenCV's rounding of them.

    Differs:
        Nothing found gives an array [0] (OpenCV: an empty tuple). Boxes without area have IoU 0 with all (OpenCV: 1
        with each other, wherever they are).

    Raises:
        ValueError: what are not numbers, a wrong shape, a negative threshold, eta other than 1.

    Source:
        opencv/modules/dnn/src/nms.cpp.
    """
    op = "nms_boxes"
    number(op, "eta", eta, "1", lambda x: x == 1)
    score_threshold = number(op, "score_threshold", score_threshold, "a number >= 0", is_not_negative)
    nms_threshold = number(op, "nms_threshold", nms_threshold, "a number >= 0", is_not_negative)
    top_k = integer(op, "top_k", top_k, "an int", -(2**31))
    xywh, values = _as_array(bboxes, np.float64, op, "bboxes"), _as_array(scores, np.float32, op, "scores")
    xywh = xywh.reshape(0, 4) if xywh.shape == (0,) else xywh
    require(xywh.ndim == 2 and xywh.shape[1] == 4, op, "bboxes", "[n, 4] numbers", list(xywh.shape))
    require(values.shape == xywh.shape[:1], op, "scores", f"shape {list(xywh.shape[:1])}", list(values.shape))
    candidates = np.flatnonzero(values > np.float32(score_threshold))
    candidates = candidates[np.argsort(-values[candidates], kind="stable")]
    if top_k > 0:
        candidates = candidates[:top_k]
    boxes = xywh[candidates]
    boxes[:, 2:] += boxes[:, :2]
    kept = nms(boxes, values[candidates].astype(np.float64), _double_threshold(nms_threshold))
    return candidates[kept].astype(np.int32)


def _as_array(values: Any, dtype: type[np.generic], op: str, name: str) -> np.ndarray:
    try:
        return np.asarray(values, dtype)
    except (MemoryError, OverflowError, RuntimeError, TypeError, ValueError) as error:  # of a tensor with gradient, too
        raise ValueError(f"{op}: {name}: expected numbers in rows of one length, got {brief(values)}") from error


def _double_threshold(threshold: float) -> float:
    """The largest IoU that OpenCV lets pass: it compares 1 - float32(1 - IoU) with float32(threshold).

    That is monotone in the IoU, so it is found by bisection; doubles from 0 up are in the order of their bits.
    """
    limit = np.float32(threshold)
    low, high = np.float64(0).view(np.int64), np.float64(1).view(np.int64)
    while low < high:
        middle = low + (high - low + 1) // 2
        overlap = np.float32(1) - np.float32(1 - middle.view(np.float64))
        low, high = (middle, high) if overlap <= limit else (low, middle - 1)
    return float(low.view(np.float64))


def _check_blob(blob: Any, op: str, name: str) -> None:
    if not isinstance(blob, np.ndarray) or blob.dtype != np.float32 or not blob.ndim:
        given = f"{blob.dtype} array" if isinstance(blob, np.ndarray) else type(blob).__name__
        raise TypeError(f"{op}: {name}: expected a float32 NumPy array, got {given}")
