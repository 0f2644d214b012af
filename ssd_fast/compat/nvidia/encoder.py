"""NVIDIA's Encoder: ground truth to targets, head outputs to detections."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..._checks import integer
from ...ops import decode_boxes, match, postprocess
from ...specs import MatcherSpec, PostprocessSpec
from .._inputs import float32, share, tensor
from .._scored_nms import keep_scored
from .._targets import check_ground_truth
from .default_boxes import box_coder

__all__ = ["Encoder"]

_SCORE_THRESHOLD = 0.05  # a constant of the original's decode_single


class Encoder:
    """Between an image's ground truth and what the network learns; from its outputs to detections.

    Args:
        dboxes: DefaultBoxes, the original's too: called with order="ltrb" and "xywh"; its scale_xy and scale_wh.

    Source:
        ssd/utils.py.
    """

    def __init__(self, dboxes: Callable[..., Tensor]) -> None:
        self.dboxes, self.dboxes_xywh = dboxes(order="ltrb"), dboxes(order="xywh").unsqueeze(0)
        self.nboxes = len(self.dboxes)
        self._coder = box_coder(dboxes)
        self.scale_xy, _, self.scale_wh, _ = self._coder.variances

    def encode(self, bboxes_in: Tensor, labels_in: Tensor, criteria: float = 0.5) -> tuple[Tensor, Tensor]:
        """The box and label of the ground truth that each default box stands for: more IoU than criteria, or its best.

        Args:
            bboxes_in: [G, 4] xyxy in shares of the image.
            labels_in: [G], from 1.

        Returns:
            float32 [P, 4] (cx, cy, w, h), the default box itself if it stands for none; int64 [P], 0 there.

        Differs:
            Without ground truths all is background (the original crashes); on the boxes' device. Degenerate boxes raise
            GroundTruthError.

        Ties:
            See ssd_fast.match.
        """
        boxes = float32(tensor(bboxes_in, "Encoder.encode", "bboxes_in", ("G", 4)))
        share("Encoder.encode", "criteria", criteria)
        labels = tensor(labels_in, "Encoder.encode", "labels_in", (len(boxes),)).long().to(boxes.device)
        check_ground_truth([boxes], [labels], ["Encoder.encode: bboxes_in"], None)
        defaults = self.dboxes.to(boxes.device)
        matched = match([boxes], defaults, MatcherSpec(positive_threshold=criteria, positive_inclusive=False))[0]
        rows = (matched >= 0).nonzero()[:, 0]
        corners, row_labels = defaults.clone(), torch.zeros(len(defaults), dtype=torch.int64, device=boxes.device)
        corners[rows], row_labels[rows] = boxes[matched[rows]], labels[matched[rows]]
        left_top, right_bottom = corners[:, :2], corners[:, 2:]
        return torch.cat((0.5 * (left_top + right_bottom), right_bottom - left_top), 1), row_labels

    def scale_back_batch(self, bboxes_in: Tensor, scores_in: Tensor) -> tuple[Tensor, Tensor]:
        """[N, P, 4] xyxy boxes in shares of the image and [N, P, C] softmax scores, of [N, 4, P] and [N, C, P].

        Differs:
            Leaves bboxes_in as it was (the original overwrites it).
        """
        self._check("Encoder.scale_back_batch", bboxes_in, scores_in)
        deltas = bboxes_in.detach().transpose(1, 2)
        boxes = decode_boxes(deltas, self.dboxes.to(deltas.device), self._coder)
        return boxes, float32(scores_in).transpose(1, 2).softmax(-1)

    def decode_batch(
        self, bboxes_in: Tensor, scores_in: Tensor, criteria: float = 0.45, max_output: int = 200
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """An image's (boxes [k, 4] xyxy in shares of the image, labels int64 [k], scores [k]), the best LAST.

        Args:
            bboxes_in, scores_in: [N, 4, P] offsets and [N, C, P] logits in the order A, H, W; column 0: background.
            criteria: in (0, 1]; a better box with this IoU or a larger one suppresses.
            max_output: detections kept an image.

        Same:
            Ascending scores; those above 0.05, the best 200 of a class, enter NMS.

        Syncs:
            Once.

        Differs:
            Leaves bboxes_in as it was (the original overwrites it); all results are on the device of the inputs (the
            original's labels on the CPU); an image without detections gives [0, 4], [0], [0] (the original: three
            tensors [0]). Degenerate boxes have IoU 0. Equal scores: lower class, then lower default box is better.

        Raises:
            TypeError: a wrong shape, criteria or max_output.
            ValueError: a wrong shape, criteria or max_output.
        """
        num_columns = self._check("Encoder.decode_batch", bboxes_in, scores_in, criteria, max_output)
        spec = PostprocessSpec(
            score_threshold=_SCORE_THRESHOLD,
            top_k=200,
            iou_threshold=criteria,
            iou_inclusive=True,
            keep_top_k=min(max_output, 200 * max(num_columns - 1, 1)),
        )
        # One raw map of P cells with a box each: what the network's heads are, so that nothing is transposed.
        logits, deltas = [scores_in.detach().unsqueeze(-1)], [bboxes_in.detach().unsqueeze(-1)]
        found = postprocess(logits, deltas, self.dboxes.to(bboxes_in.device), spec, coder=self._coder)
        return [(x["boxes"].flip(0), x["labels"].flip(0), x["scores"].flip(0)) for x in found.to_list()]

    def decode_single(
        self, bboxes_in: Tensor, scores_in: Tensor, criteria: float, max_output: int, max_num: int = 200
    ) -> tuple[Tensor, Tensor, Tensor]:
        """decode_batch of one image's [P, 4] boxes and [P, C] scores, which come out bit for bit as they went in.

        Args:
            max_num: candidates of a class that enter NMS, the best.
        """
        op = "Encoder.decode_single"
        rows, _ = tensor(scores_in, op, "scores_in", ("P", "C")).shape
        boxes = float32(tensor(bboxes_in, op, "bboxes_in", (rows, 4)))
        share(op, "criteria", criteria)
        max_output = integer(op, "max_output", max_output, "an int >= 1", 1)
        max_num = integer(op, "max_num", max_num, "an int >= 1", 1)
        kept = keep_scored(
            boxes[None],
            float32(scores_in)[None],
            score_threshold=_SCORE_THRESHOLD,
            iou_threshold=criteria,
            iou_inclusive=True,
            top_k=max_num,
        ).first(max_output, 1)
        return boxes[kept.box_idxs].flip(0), kept.labels.flip(0), kept.scores.flip(0)

    def _check(
        self, op: str, bboxes_in: Tensor, scores_in: Tensor, criteria: float = 0.5, max_output: int = 200
    ) -> int:
        """The number of columns."""
        images = len(tensor(bboxes_in, op, "bboxes_in", ("N", 4, self.nboxes)))
        columns = tensor(scores_in, op, "scores_in", (images, "C", self.nboxes)).shape[1]
        share(op, "criteria", criteria)
        integer(op, "max_output", max_output, "an int >= 1", 1)
        return columns
