"""amdegroot's MultiBoxLoss, which includes matching."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ..._checks import integer, is_count, number, require, row
from ...ops import match, multibox_loss
from ...specs import LossSpec, MatcherSpec
from .._inputs import check_background_label, float32, share, tensor
from .._priors import corner_form
from .._targets import check_ground_truth
from .default_boxes import CODER

__all__ = ["MultiBoxLoss"]


class MultiBoxLoss(nn.Module):
    """The loss of a batch, including matching: `criterion((loc, conf, priors), targets) -> (loss_l, loss_c)`.

    Args:
        num_classes: columns of conf, background included.
        overlap_thresh: the smallest IoU of a positive.
        prior_for_matching: ignored, as by the original.
        bkg_label: 0.
        neg_mining: ignored, as by the original.
        neg_pos: hard negatives per positive of an image.
        neg_overlap: ignored, as by the original.
        encode_target: ignored, as by the original.
        use_gpu: ignored, since everything is computed on the device of the predictions.

    Raises:
        ValueError: another bkg_label than 0, or a threshold outside (0, 1].

    Differs:
        Without positives the losses are 0 (the original divides by 0: NaN). An image without ground truth, [0, 5], is
        background (the original crashes). A degenerate box or an unknown label raises GroundTruthError (the original
        returns infinity or NaN). Hardness is each row's own cross-entropy (the original subtracts the batch's maximum
        before exp, so that rows far below it are never mined).

    Ties:
        See ssd_fast.match and ssd_fast.multibox_loss.

    Source:
        layers/modules/multibox_loss.py, layers/box_utils.py.
    """

    def __init__(
        self,
        num_classes: int,
        overlap_thresh: float,
        prior_for_matching: bool,
        bkg_label: int,
        neg_mining: bool,
        neg_pos: float,
        neg_overlap: float,
        encode_target: bool,
        use_gpu: bool = True,
    ) -> None:
        super().__init__()
        check_background_label("MultiBoxLoss", bkg_label)
        num_classes = integer("MultiBoxLoss", "num_classes", num_classes, "an int >= 2", 2)
        share("MultiBoxLoss", "overlap_thresh", overlap_thresh)
        number("MultiBoxLoss", "neg_pos", neg_pos, "a number in [0, 2**31)", is_count)
        self.num_classes, self.threshold, self.background_label = num_classes, overlap_thresh, bkg_label
        self.use_prior_for_matching, self.do_neg_mining, self.negpos_ratio = prior_for_matching, neg_mining, neg_pos
        self.neg_overlap, self.encode_target, self.use_gpu = neg_overlap, encode_target, use_gpu
        self._matcher = MatcherSpec(positive_threshold=overlap_thresh)
        self._loss = LossSpec(negatives_per_positive=neg_pos)

    def forward(self, predictions: Sequence[Tensor], targets: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Compute the localization and classification losses, float32 scalars with gradients.

        Args:
            predictions: loc [N, P, 4] offsets, conf [N, P, C] logits, priors [at least P, 4] (cx, cy, w, h).
            targets: one [G, 5] per image: xyxy in shares of the image, and the class from 0 without background.

        Syncs:
            Once on a GPU, to check the ground truth.

        Raises:
            GroundTruthError: a faulty ground truth; the message names image, index and values (a ValueError).
            TypeError: not a tensor.
            ValueError: a wrong shape.
        """
        op = "MultiBoxLoss"
        loc, conf, priors = row(op, "predictions", predictions, "(loc, conf, priors)", 3, 3)
        images, rows, _ = tensor(loc, op, "loc", ("N", "P", 4)).shape
        tensor(conf, op, "conf", (images, rows, self.num_classes))
        targets = row(op, "targets", targets, "a list of tensors [G, 5]")
        require(len(targets) == images, op, "targets", f"{images} images, as in loc", len(targets))
        names = [f"{op}: targets[{index}]" for index in range(images)]
        truths = [float32(tensor(t, op, f"targets[{i}]", ("G", 5))).to(loc.device) for i, t in enumerate(targets)]
        boxes, labels = [t[:, :4] for t in truths], [t[:, 4].long() + 1 for t in truths]
        check_ground_truth(boxes, labels, names, self.num_classes)
        corners = corner_form(float32(tensor(priors, op, "priors", ("P", 4))[:rows]).to(loc.device))
        matched = match(boxes, corners, self._matcher)
        losses = multibox_loss(conf, loc, boxes, labels, matched, corners, coder=CODER, loss=self._loss)
        return losses["bbox_regression"], losses["classification"]
