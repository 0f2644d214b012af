"""amdegroot's Detect, from offsets and scores to detections."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..._checks import integer, is_positive, number, require
from ...ops import decode_boxes
from .._inputs import check_background_label, float32, tensor
from .._priors import corner_form
from .._scored_nms import keep_scored
from .default_boxes import CODER

__all__ = ["Detect"]


class Detect:
    """Detects a batch: `detect(loc, conf, priors) -> [N, C, top_k, 5]`, rows of (score, x1, y1, x2, y2).

    Call it like the original, with `.forward`, or like the ports to later versions of torch, in one call:
    `Detect.apply(num_classes, bkg_label, top_k, conf_thresh, nms_thresh, loc, conf, priors)`.

    Args:
        num_classes: columns of conf, background included.
        bkg_label: 0.
        top_k: candidates per class that enter NMS, and rows of the output per class.
        conf_thresh: candidates have a higher score.
        nms_thresh: positive; a better box with a larger IoU suppresses a box.

    Raises:
        ValueError: another bkg_label than 0, or a threshold or top_k that is not positive.

    Same:
        Each class is sorted by score and padded with rows of 0; class 0 is all 0; there are up to top_k detections per
        class, whatever their total (the original's cut over all classes has no effect); boxes are unclipped, in shares
        of the image; scores are bit for bit those given.

    Differs:
        The output is on the predictions' device (the original's is on torch's default device), without gradient.
        Degenerate boxes have IoU 0 (the original's 0 / 0 removes them). Equal scores: the lower default box comes first
        (the original: either). It is not an autograd Function, which later versions of torch refuse to call.

    Source:
        layers/functions/detection.py, layers/box_utils.py.
    """

    def __init__(self, num_classes: int, bkg_label: int, top_k: int, conf_thresh: float, nms_thresh: float) -> None:
        check_background_label("Detect", bkg_label)
        self.num_classes = integer("Detect", "num_classes", num_classes, "an int >= 1", 1)
        self.background_label = bkg_label
        self.top_k = integer("Detect", "top_k", top_k, "an int >= 1", 1)
        self.nms_thresh = number("Detect", "nms_thresh", nms_thresh, "a positive number", is_positive)
        self.conf_thresh = number("Detect", "conf_thresh", conf_thresh, "a finite number")

    @classmethod
    def apply(cls, *args: Any) -> Tensor:
        """Take the constructor's five arguments and then the call's three."""
        require(len(args) == 8, "Detect.apply", "args", "5 arguments of Detect and 3 of its call", len(args))
        return cls(*args[:5])(*args[5:])

    def forward(self, loc_data: Tensor, conf_data: Tensor, prior_data: Tensor) -> Tensor:
        """Compute float32 [N, num_classes, top_k, 5].

        Args:
            loc_data: [N, P, 4] offsets.
            conf_data: N * P * C softmax scores in any shape, such as [N, P, C].
            prior_data: [P, 4] (cx, cy, w, h).

        Syncs:
            Three times on a GPU, for the whole batch.

        Raises:
            TypeError: not a tensor.
            ValueError: a wrong shape.
        """
        rows = len(tensor(prior_data, "Detect", "prior_data", ("P", 4)))
        images, columns = len(tensor(loc_data, "Detect", "loc_data", ("N", rows, 4))), self.num_classes
        shape, given = [images, rows, columns], tensor(conf_data, "Detect", "conf_data").shape
        require(
            given.numel() == images * rows * columns, "Detect", "conf_data", f"as many scores as {shape}", list(given)
        )
        boxes = decode_boxes(loc_data.detach(), corner_form(float32(prior_data)), CODER)
        kept, rank = keep_scored(
            boxes,
            float32(conf_data).reshape(shape),
            score_threshold=self.conf_thresh,
            iou_threshold=self.nms_thresh,
            top_k=self.top_k,
        ).by_class(images, columns)
        output = boxes.new_zeros((images, columns, self.top_k, 5))
        output[kept.images, kept.labels, rank, 0] = kept.scores
        output[kept.images, kept.labels, rank, 1:] = boxes[kept.images, kept.box_idxs]
        return output

    __call__ = forward
