"""lufficc/SSD: its PriorBox, SSDTargetTransform, MultiBoxLoss and PostProcessor, by the kernels of this package.

Change the imports and leave the calls, in ssd/modeling/box_head/box_head.py for one:
`from ssd_fast.compat.lufficc import MultiBoxLoss, PostProcessor, PriorBox`. A cfg is anything with the original's
attributes, such as its yacs configuration.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from .._checks import integer, is_count, is_not_negative, number, positive_numbers, row
from ..specs import LossSpec
from ._inputs import float32, tensor
from ._priors import center_form, square_spec
from ._scored_nms import keep_scored
from ._targets import RowTargets, row_losses

__all__ = ["Container", "MultiBoxLoss", "PostProcessor", "PriorBox", "SSDTargetTransform"]


class PriorBox:
    """The default boxes of a configuration: PriorBox(cfg)(); `.spec` is the same as a DefaultBoxSpec.

    Args:
        cfg: INPUT.IMAGE_SIZE and of MODEL.PRIORS FEATURE_MAPS, MIN_SIZES, MAX_SIZES, STRIDES, ASPECT_RATIOS, CLIP.

    Raises:
        ValueError: lists of different lengths, more than 8 maps.
    """

    def __init__(self, cfg: Any) -> None:
        priors = cfg.MODEL.PRIORS
        self.image_size = cfg.INPUT.IMAGE_SIZE
        self.feature_maps, self.strides = priors.FEATURE_MAPS, priors.STRIDES
        self.min_sizes, self.max_sizes = priors.MIN_SIZES, priors.MAX_SIZES
        self.aspect_ratios, self.clip = priors.ASPECT_RATIOS, priors.CLIP
        self.spec = square_spec(
            "PriorBox",
            self.image_size,
            self.feature_maps,
            min_sizes=self.min_sizes,
            max_sizes=self.max_sizes,
            aspect_ratios=self.aspect_ratios,
            steps=self.strides,
            clip=bool(self.clip),
        )

    def __call__(self) -> Tensor:
        """float32 [P, 4] (cx, cy, w, h) in shares of the image, bit for bit the original's; on the CPU."""
        return center_form(self.spec)


class SSDTargetTransform(RowTargets):
    """transform(gt_boxes, gt_labels) of an image -> (locations [P, 4], labels [P]), for MultiBoxLoss.

    Args:
        center_form_priors: [P, 4] (cx, cy, w, h); center_variance, size_variance; iou_threshold: of a positive.

    Differs:
        The original adds 1e-5 to the union of two boxes (in shares of the image), so its IoUs are smaller, those of
        boxes of 10 pixels in 300 by 1%, and it has a few positives less. Locations of background rows are 0 (the
        original's are those of some ground truth; neither loss reads them). An image without ground truth is
        background (the original crashes). Degenerate boxes raise GroundTruthError (the original: NaN).

    Source:
        ssd/data/transforms/target_transform.py, ssd/utils/box_utils.py.
    """


class MultiBoxLoss(nn.Module):
    """loss(confidence, predicted_locations, labels, gt_locations) -> (regression, classification).

    Args:
        neg_pos_ratio: hard negatives for each positive of an image.

    Differs:
        Without positives both are 0 (the original: NaN). Labels that are no column of confidence are ignored (the
        original crashes).

    Ties:
        Of equally hard negatives the lower row (the original: any).

    Precision:
        Locations pass through boxes: losses differ from the original's by some 1e-6 of their value.

    Source:
        ssd/modeling/box_head/loss.py.
    """

    def __init__(self, neg_pos_ratio: float) -> None:
        super().__init__()
        self.neg_pos_ratio = number("MultiBoxLoss", "neg_pos_ratio", neg_pos_ratio, "a number in [0, 2**31)", is_count)

    def forward(
        self, confidence: Tensor, predicted_locations: Tensor, labels: Tensor, gt_locations: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Float32 scalars with gradients.

        Args:
            [N, P, C] logits, [N, P, 4], [N, P] from SSDTargetTransform, [N, P, 4].

        Syncs:
            Never.

        Raises:
            TypeError: a wrong shape.
            ValueError: a wrong shape.
        """
        loss = LossSpec(negatives_per_positive=self.neg_pos_ratio)
        return row_losses("MultiBoxLoss", confidence, predicted_locations, labels, gt_locations, loss)


class Container:
    """An image's boxes, labels and scores by name, with img_width and img_height: what the original's evaluation reads.

    Differs:
        Resize makes new boxes and remembers the new size (the original writes into the tensor that it was given, and a
        second resize starts from the first size again).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._data_dict: dict[str, Any] = dict(*args, **kwargs)
        self.img_width = self.img_height = -1

    def __getitem__(self, key: str) -> Any:
        return self._data_dict[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._data_dict[key] = value

    def __iter__(self) -> Iterator[str]:
        return iter(self._data_dict)

    def __repr__(self) -> str:
        return repr(self._data_dict)

    def to(self, *args: Any, **kwargs: Any) -> Container:
        """Moves what can be moved; returns itself."""
        return self._call("to", *args, **kwargs)

    def numpy(self) -> Container:
        """Makes tensors NumPy arrays; returns itself."""
        return self._call("numpy")

    def resize(self, size: tuple[float, float]) -> Container:
        """Scales the boxes to an image of the size (width, height); returns itself."""
        positive_numbers("Container.resize", "img_width, img_height", (self.img_width, self.img_height))
        width, height = positive_numbers(
            "Container.resize", "size", row("Container.resize", "size", size, "(width, height)", 2, 2)
        )
        boxes = self._data_dict["boxes"]
        boxes = boxes.clone() if isinstance(boxes, Tensor) else boxes.copy()
        boxes[:, 0::2] *= width / self.img_width
        boxes[:, 1::2] *= height / self.img_height
        self._data_dict["boxes"] = boxes
        self.img_width, self.img_height = size  # type: ignore[assignment]
        return self

    def _call(self, name: str, *args: Any, **kwargs: Any) -> Container:
        for key, value in self._data_dict.items():
            if hasattr(value, name):
                self._data_dict[key] = getattr(value, name)(*args, **kwargs)
        return self


class PostProcessor:
    """post_processor((scores, boxes)) -> a Container an image with "boxes" in pixels of the input, "labels", "scores".

    Args:
        cfg: INPUT.IMAGE_SIZE when made; TEST.CONFIDENCE_THRESHOLD, NMS_THRESHOLD and MAX_PER_IMAGE when called.

    Same:
        All candidates enter NMS; best first; boxes unclipped; scores and boxes bit for bit those given.

    Differs:
        Classes are kept apart exactly (the original shifts each by an offset, which moves an IoU by rounding: 4 of
        23,462 boxes in a measured set). Degenerate boxes have IoU 0. Equal scores: lower class, then lower default box.
        MAX_PER_IMAGE below 1 raises ValueError (the original would drop the last detections).

    Source:
        ssd/modeling/box_head/inference.py, ssd/utils/nms.py.
    """

    def __init__(self, cfg: Any) -> None:
        self.cfg = cfg
        self.width = self.height = cfg.INPUT.IMAGE_SIZE

    def __call__(self, detections: tuple[Tensor, Tensor]) -> list[Container]:
        """Of scores [N, P, C] after softmax, column 0 the background, and boxes [N, P, 4] xyxy in shares of the image.

        Syncs:
            Three times on a GPU, for the whole batch.

        Raises:
            TypeError: a wrong shape.
            ValueError: a wrong shape.
        """
        scores, boxes = row("PostProcessor", "detections", detections, "(scores, boxes)", 2, 2)
        images, rows, _ = tensor(scores, "PostProcessor", "scores", ("N", "P", "C")).shape
        tensor(boxes, "PostProcessor", "boxes", (images, rows, 4))
        test = self.cfg.TEST
        most = integer("PostProcessor", "cfg.TEST.MAX_PER_IMAGE", test.MAX_PER_IMAGE, "an int >= 1", 1)
        score, iou = test.CONFIDENCE_THRESHOLD, test.NMS_THRESHOLD
        pixels = float32(boxes) * boxes.new_tensor([self.width, self.height] * 2, dtype=torch.float32)
        kept = keep_scored(
            pixels,
            float32(scores),
            score_threshold=number("PostProcessor", "cfg.TEST.CONFIDENCE_THRESHOLD", score, "a finite number"),
            iou_threshold=number("PostProcessor", "cfg.TEST.NMS_THRESHOLD", iou, "a number >= 0", is_not_negative),
            top_k=None,
        ).first(most, images)
        counts = torch.bincount(kept.images, minlength=images).tolist()
        containers = []
        for found_boxes, labels, found_scores in zip(
            pixels[kept.images, kept.box_idxs].split(counts),
            kept.labels.split(counts),
            kept.scores.split(counts),
            strict=True,
        ):
            container = Container(boxes=found_boxes, labels=labels, scores=found_scores)
            container.img_width, container.img_height = self.width, self.height
            containers.append(container)
        return containers
