"""qfgaohao's priors, MatchPrior and MultiboxLoss, from ground truth to the losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ..._checks import is_count, number
from ...specs import LossSpec
from .._priors import center_form, square_spec
from .._targets import RowTargets, row_losses

__all__ = ["MatchPrior", "MultiboxLoss", "generate_ssd_priors"]


def generate_ssd_priors(specs: Sequence[Any], image_size: int, clamp: bool = True) -> Tensor:
    """Compute float32 [P, 4] (cx, cy, w, h) in shares of the image, bit for bit the original's, on the CPU.

    Args:
        specs: for each map, feature_map_size, shrinkage, box_sizes.min, box_sizes.max and aspect_ratios, like SSDSpec.
        image_size: side of the image.
        clamp: clamp the centers and sizes to the image.

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
    """Makes targets for MultiboxLoss: `match_prior(gt_boxes, gt_labels) -> (locations [P, 4], labels [P])`.

    Args:
        center_form_priors: [P, 4] (cx, cy, w, h) in shares of the image.
        center_variance: variance of the box code's centers.
        size_variance: variance of the box code's sizes.
        iou_threshold: the smallest IoU of a positive.

    Differs:
        The original adds 1e-5 to the union of two boxes (in shares of the image), so its IoUs are smaller (by 1% for
        boxes of 10 pixels in 300) and it has slightly fewer positives. Locations of background rows are 0 (in the
        original, those of some ground truth; neither loss reads them). An image without ground truth is background (the
        original crashes). Degenerate boxes raise GroundTruthError (the original: NaN).

    Source:
        vision/ssd/ssd.py, vision/utils/box_utils.py.
    """


class MultiboxLoss(nn.Module):
    """The loss: `loss(confidence, predicted_locations, labels, gt_locations) -> (regression, classification)`.

    Args:
        priors: ignored, as by the original.
        iou_threshold: ignored, as by the original.
        neg_pos_ratio: hard negatives per positive of an image.
        center_variance: ignored, as by the original.
        size_variance: ignored, as by the original.
        device: ignored, as by the original.

    Differs:
        Without positives both losses are 0 (the original: NaN). Labels that are not a column of confidence are ignored
        (the original crashes).

    Ties:
        Among equally hard negatives, the lower row is taken (the original: any).

    Precision:
        Locations pass through boxes, so losses differ from the original's by about 1e-6 of their value.

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
        """Compute the two losses, float32 scalars with gradients.

        Args:
            confidence: [N, P, C] logits.
            predicted_locations: [N, P, 4].
            labels: [N, P] from MatchPrior.
            gt_locations: [N, P, 4] from MatchPrior.

        Syncs:
            Never.

        Raises:
            TypeError: not a tensor.
            ValueError: a wrong shape.
        """
        loss = LossSpec(negatives_per_positive=self.neg_pos_ratio)
        return row_losses("MultiboxLoss", confidence, predicted_locations, labels, gt_locations, loss)
