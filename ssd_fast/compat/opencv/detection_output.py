"""OpenCV's DetectionOutput layer for NumPy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..._checks import integer, is_positive, number, require
from ...ops import decode_boxes
from ...specs import BoxCoderSpec
from .._scored_nms import keep_scored

__all__ = ["detection_out"]


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
    """Compute the blob "detection_out" of a Caffe SSD from the blobs that its DetectionOutput layer reads.

    Args:
        mbox_loc: offsets, N * P * 4 float32 numbers in any shape that begins with N.
        mbox_conf: scores after softmax or sigmoid, N * P * num_classes.
        mbox_priorbox: [1, 2, P * 4], default boxes as xyxy in shares of the image and one variance per number;
            [1, 1, P * 4] is enough with variance_encoded_in_target.
        num_classes: as in the prototxt, like all that follow, with the same defaults.
        nms_threshold: a better box with a larger IoU suppresses a box.
        keep_top_k: detections kept per image; -1 for all that NMS keeps.
        confidence_threshold: candidates have a higher score.
        top_k: candidates per class that enter NMS; 0 or less for all.
        background_label_id: the column of the background; -1 if every column is a class.
        share_location: True.
        code_type: has no default in the prototxt; here, the type that SSD uses.
        variance_encoded_in_target: the offsets already contain the variances.
        clip: clip the boxes to the image.
        eta: 1.

    Returns:
        float32 [1, 1, K, 7], rows of (image, label, score, x1, y1, x2, y2) by image and then best first, then rows of 0
            up to K = N * keep_top_k. With keep_top_k = -1 there is no padding.

    Same:
        Scores are bit for bit those given.

    Differs:
        keep_top_k = -1 works as in Caffe (OpenCV 4.14 corrupts its memory), and so does background_label_id = -1
        (OpenCV raises).

    Ties:
        Equal scores: the lower class comes first, then the lower default box.

    Grad:
        None.

    Raises:
        ValueError: a wrong shape, or an option that no kernel here computes: share_location=False, eta other than 1, or
            another code type.
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
        offsets = offsets * mbox_priorbox[0, 1].reshape(rows, 4)  # one variance per number, so not the coder's
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


def _check_blob(blob: Any, op: str, name: str) -> None:
    if not isinstance(blob, np.ndarray) or blob.dtype != np.float32 or not blob.ndim:
        given = f"{blob.dtype} array" if isinstance(blob, np.ndarray) else type(blob).__name__
        raise TypeError(f"{op}: {name}: expected a float32 NumPy array, got {given}")
