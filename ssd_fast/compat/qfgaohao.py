"""qfgaohao/pytorch-ssd: its priors, MatchPrior, MultiboxLoss and Predictor, by the kernels of this package.

Change the imports and leave the calls: `from ssd_fast.compat.qfgaohao import MatchPrior, MultiboxLoss, Predictor`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .._checks import integer, is_count, is_not_negative, number, positive_numbers, require
from ..specs import LossSpec
from ._inputs import float32, tensor
from ._priors import center_form, square_spec
from ._scored_nms import keep_scored
from ._targets import RowTargets, row_losses

__all__ = ["MatchPrior", "MultiboxLoss", "Predictor", "generate_ssd_priors"]

Detected = tuple[Tensor, Tensor, Tensor]


def generate_ssd_priors(specs: Sequence[Any], image_size: int, clamp: bool = True) -> Tensor:
    """float32 [P, 4] (cx, cy, w, h) in shares of the image, bit for bit the original's; on the CPU.

    Args:
        specs: of each map feature_map_size, shrinkage, box_sizes.min, box_sizes.max and aspect_ratios, as SSDSpec.

    Raises:
        ValueError: more than 8 maps.
    """
    return center_form(
        square_spec(
            "generate_ssd_priors",
            image_size,
            [spec.feature_map_size for spec in specs],
            min_sizes=[spec.box_sizes.min for spec in specs],
            max_sizes=[spec.box_sizes.max for spec in specs],
            aspect_ratios=[spec.aspect_ratios for spec in specs],
            steps=[spec.shrinkage for spec in specs],
            clip=clamp,
        )
    )


class MatchPrior(RowTargets):
    """match_prior(gt_boxes, gt_labels) of an image -> (locations [P, 4], labels [P]), for MultiboxLoss.

    Args:
        center_form_priors: [P, 4] (cx, cy, w, h); center_variance, size_variance; iou_threshold: of a positive.

    Differs:
        The original adds 1e-5 to the union of two boxes (in shares of the image), so its IoUs are smaller, those of
        boxes of 10 pixels in 300 by 1%, and it has a few positives less. Locations of background rows are 0 (the
        original's are those of some ground truth; neither loss reads them). An image without ground truth is
        background (the original crashes). Degenerate boxes raise GroundTruthError (the original: NaN).

    Source:
        vision/ssd/ssd.py, vision/utils/box_utils.py.
    """


class MultiboxLoss(nn.Module):
    """loss(confidence, predicted_locations, labels, gt_locations) -> (regression, classification).

    Args:
        neg_pos_ratio: hard negatives for each positive of an image. priors, iou_threshold, center_variance,
        size_variance, device: ignored, as by the original.

    Differs:
        Without positives both are 0 (the original: NaN). Labels that are no column of confidence are ignored (the
        original crashes).

    Ties:
        Of equally hard negatives the lower row (the original: any).

    Precision:
        Locations pass through boxes: losses differ from the original's by some 1e-6 of their value.

    Source:
        vision/nn/multibox_loss.py.
    """

    def __init__(
        self,
        priors: Tensor,
        iou_threshold: float,
        neg_pos_ratio: float,
        center_variance: float,
        size_variance: float,
        device: Any,
    ) -> None:
        super().__init__()
        self.priors, self.iou_threshold = priors, iou_threshold
        self.neg_pos_ratio = number("MultiboxLoss", "neg_pos_ratio", neg_pos_ratio, "a number in [0, 2**31)", is_count)
        self.center_variance, self.size_variance = center_variance, size_variance

    def forward(
        self, confidence: Tensor, predicted_locations: Tensor, labels: Tensor, gt_locations: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Float32 scalars with gradients.

        Args:
            [N, P, C] logits, [N, P, 4], [N, P] from MatchPrior, [N, P, 4].

        Syncs:
            Never.

        Raises:
            TypeError: a wrong shape.
            ValueError: a wrong shape.
        """
        loss = LossSpec(negatives_per_positive=self.neg_pos_ratio)
        return row_losses("MultiboxLoss", confidence, predicted_locations, labels, gt_locations, loss)


class Predictor:
    """predictor.predict(image, top_k, prob_threshold) -> (boxes [k, 4] in pixels of the image, labels [k], probs [k]).

    Args:
        net: in its test mode: images [1, 3, size, size] -> scores [1, P, C] after softmax, boxes [1, P, 4] xyxy in
            shares of the image. It is moved to the device and put in eval mode.
        size, mean, std: the image is resized to size x size, then (pixels - mean) / std.
        nms_method: None or "hard".
        iou_threshold, filter_threshold: of NMS and of scores.
        candidate_size: candidates of a class that enter NMS, the best.
        sigma: of soft NMS; ignored.
        device: None is the GPU if there is one.

    Same:
        Results are on the CPU, by class and then best first; boxes unclipped; probs bit for bit the network's.

    Differs:
        The original adds 1e-5 to the union of two boxes (in shares of the image), so its NMS keeps a few small boxes
        more (4 of 6086 detections differed). Nothing is printed. NMS runs on the network's device. Where
        nothing is found: [0, 4], [0], [0] (the original: three tensors [0]). Equal scores: the lower default box first.

    Raises:
        ValueError: nms_method="soft", which no kernel here computes.

    Source:
        vision/ssd/predictor.py, vision/utils/box_utils.py.
    """

    def __init__(
        self,
        net: Any,
        size: int,
        mean: Any = 0.0,
        std: float = 1.0,
        nms_method: str | None = None,
        iou_threshold: float = 0.45,
        filter_threshold: float = 0.01,
        candidate_size: int = 200,
        sigma: float = 0.5,
        device: Any = None,
    ) -> None:
        op = "Predictor"
        is_hard = nms_method is None or (isinstance(nms_method, str) and nms_method == "hard")
        require(is_hard, op, "nms_method", "None or 'hard'", nms_method)
        self.size = integer(op, "size", size, "an int >= 1", 1)
        self.mean, self.std, self.nms_method, self.sigma = mean, std, nms_method, sigma
        self.iou_threshold = number(op, "iou_threshold", iou_threshold, "a number >= 0", is_not_negative)
        self.filter_threshold = number(op, "filter_threshold", filter_threshold, "a finite number")
        self.candidate_size = integer(op, "candidate_size", candidate_size, "an int >= 1", 1)
        self.device = device or torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
        self.net = net
        net.to(self.device)
        net.eval()

    def transform(self, image: np.ndarray) -> Tensor:
        """float32 [3, size, size] of an RGB image [H, W, 3], resized by OpenCV as in the original.

        Raises:
            ImportError: OpenCV is not installed.
        """
        try:
            import cv2
        except ImportError as error:
            raise ImportError(
                f"Predictor.transform: needs OpenCV, as the original does ({error}): pip install "
                "opencv-python-headless, or set .transform to a function of your own"
            ) from error
        pixels = cv2.resize(image, (self.size, self.size)).astype(np.float32) - np.array(self.mean, np.float32)
        return torch.from_numpy((pixels / self.std).astype(np.float32)).permute(2, 0, 1)

    @torch.no_grad()
    def predict(self, image: np.ndarray, top_k: int = -1, prob_threshold: float | None = None) -> Detected:
        """Detections of an RGB image [H, W, 3].

        Args:
            as for postprocess.
        """
        scores, boxes = self.net.forward(self.transform(image).unsqueeze(0).to(self.device))
        return self.postprocess(scores[0], boxes[0], image.shape[1], image.shape[0], top_k, prob_threshold)

    def postprocess(
        self,
        scores: Tensor,
        boxes: Tensor,
        width: float = 1,
        height: float = 1,
        top_k: int = -1,
        prob_threshold: float | None = None,
    ) -> Detected:
        """What predict makes of an image's scores [P, C] and boxes [P, 4], which it scales by width and height.

        Args:
            top_k: detections of each class; 0 or less: all.
            prob_threshold: a candidate's score exceeds it; None or 0: filter_threshold.

        Returns:
            (boxes [k, 4], labels int64 [k], probs [k]) on the CPU, by class and then best first.

        Raises:
            TypeError: a wrong shape.
            ValueError: a wrong shape.
        """
        rows, columns = tensor(scores, "Predictor", "scores", ("P", "C")).shape
        top_k = integer("Predictor", "top_k", top_k, "an int", -(2**31))
        if prob_threshold is not None:
            prob_threshold = number("Predictor", "prob_threshold", prob_threshold, "a finite number or None")
        width, height = positive_numbers("Predictor", "width, height", (width, height))
        boxes = float32(tensor(boxes, "Predictor", "boxes", (rows, 4)))
        kept, rank = keep_scored(
            boxes[None],
            float32(scores)[None],
            score_threshold=prob_threshold or self.filter_threshold,
            iou_threshold=self.iou_threshold,
            top_k=self.candidate_size,
        ).by_class(1, columns)
        if top_k > 0:
            kept = kept[rank < top_k]
        pixels = boxes[kept.box_idxs] * torch.tensor([width, height] * 2, dtype=torch.float32, device=boxes.device)
        return pixels.cpu(), kept.labels.cpu(), kept.scores.cpu()
