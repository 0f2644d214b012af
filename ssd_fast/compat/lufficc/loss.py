"""lufficc's SSDTargetTransform and MultiBoxLoss, from ground truth to the losses."""

from __future__ import annotations

from torch import Tensor, nn

from ..._checks import is_count, number
from ...specs import LossSpec
from .._targets import RowTargets, row_losses

__all__ = ["MultiBoxLoss", "SSDTargetTransform"]


class SSDTargetTransform(RowTargets):
    """Makes targets for MultiBoxLoss: `transform(gt_boxes, gt_labels) -> (locations [P, 4], labels [P])`.

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
        ssd/data/transforms/target_transform.py, ssd/utils/box_utils.py.
    """


class MultiBoxLoss(nn.Module):
    """The loss: `loss(confidence, predicted_locations, labels, gt_locations) -> (regression, classification)`.

    Args:
        neg_pos_ratio: hard negatives per positive of an image.

    Differs:
        Without positives both losses are 0 (the original: NaN). Labels that are not a column of confidence are ignored
        (the original crashes).

    Ties:
        Among equally hard negatives, the lower row is taken (the original: any).

    Precision:
        Locations pass through boxes, so losses differ from the original's by about 1e-6 of their value.

    Source:
        ssd/modeling/box_head/loss.py.
    """

    def __init__(self, neg_pos_ratio: float) -> None:
        super().__init__()
        self.neg_pos_ratio = number("MultiBoxLoss", "neg_pos_ratio", neg_pos_ratio, "a number in [0, 2**31)", is_count)

    def forward(
        self, confidence: Tensor, predicted_locations: Tensor, labels: Tensor, gt_locations: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Compute the two losses, float32 scalars with gradients.

        Args:
            confidence: [N, P, C] logits.
            predicted_locations: [N, P, 4].
            labels: [N, P] from SSDTargetTransform.
            gt_locations: [N, P, 4] from SSDTargetTransform.

        Syncs:
            Never.

        Raises:
            TypeError: not a tensor.
            ValueError: a wrong shape.
        """
        loss = LossSpec(negatives_per_positive=self.neg_pos_ratio)
        return row_losses("MultiBoxLoss", confidence, predicted_locations, labels, gt_locations, loss)
