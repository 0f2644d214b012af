"""qfgaohao's Predictor, from an image to detections."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..._checks import integer, is_not_negative, number, positive_numbers, require
from .._inputs import float32, tensor
from .._scored_nms import keep_scored

__all__ = ["Predictor"]

Detected = tuple[Tensor, Tensor, Tensor]


class Predictor:
    """Detects objects in one image: `predictor.predict(image, top_k, prob_threshold)`.

    Args:
        net: a network in its test mode, which turns images [1, 3, size, size] into scores [1, P, C] after softmax and
            boxes [1, P, 4] xyxy in shares of the image. It is moved to the device and put in eval mode.
        size: the image is resized to size x size.
        mean: subtracted from the pixels.
        std: divides the result.
        nms_method: None or "hard".
        iou_threshold: threshold of NMS.
        filter_threshold: threshold of scores.
        candidate_size: the number of best candidates per class that enter NMS.
        sigma: for soft NMS; ignored.
        device: None for the GPU if there is one.

    Same:
        Results are on the CPU, by class and then best first; boxes are unclipped; probs are bit for bit the network's.

    Differs:
        The original adds 1e-5 to the union of two boxes (in shares of the image), so its NMS keeps a few more small
        boxes (4 of 6086 detections differed). Nothing is printed. NMS runs on the network's device. If nothing is
        found, the result is [0, 4], [0], [0] (the original: three tensors [0]). Equal scores: the lower default box
        comes first.

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
        """Convert an RGB image [H, W, 3] to float32 [3, size, size], resized by OpenCV as in the original.

        Raises:
            ImportError: OpenCV is not installed.
        """
        try:
            import cv2
        except ImportError as error:
            raise ImportError(
                f"Predictor.transform: needs OpenCV, as the original does ({error}): pip install "
                "opencv-python-headless, or set .transform to your own function"
            ) from error
        pixels = cv2.resize(image, (self.size, self.size)).astype(np.float32) - np.array(self.mean, np.float32)
        return torch.from_numpy((pixels / self.std).astype(np.float32)).permute(2, 0, 1)

    @torch.no_grad()
    def predict(self, image: np.ndarray, top_k: int = -1, prob_threshold: float | None = None) -> Detected:
        """Detect the objects of an RGB image [H, W, 3].

        Args:
            image: the image.
            top_k: as for postprocess.
            prob_threshold: as for postprocess.

        Returns:
            As postprocess, with boxes in pixels of the image.
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
        """Turn an image's scores and boxes into detections, as predict does.

        Args:
            scores: [P, C].
            boxes: [P, 4], which are scaled by width and height.
            width: width of the image.
            height: height of the image.
            top_k: detections per class; 0 or less for all.
            prob_threshold: candidates have a higher score; None or 0 for filter_threshold.

        Returns:
            `(boxes [k, 4], labels int64 [k], probs [k])` on the CPU, by class and then best first.

        Raises:
            TypeError: not a tensor.
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
