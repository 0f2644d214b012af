"""amdegroot/ssd.pytorch: its PriorBox, MultiBoxLoss and Detect, by the kernels of this package.

Change the imports and leave the calls: `from ssd_fast.compat.amdegroot import Detect, MultiBoxLoss, PriorBox`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from .._checks import as_row, instance, integer, is_count, is_positive, number, positive_numbers, require, row
from ..ops import decode_boxes, match, multibox_loss
from ..specs import BoxCoderSpec, LossSpec, MatcherSpec
from ._inputs import check_background_label, float32, share, tensor
from ._priors import center_form, corner_form, square_spec
from ._scored_nms import keep_scored
from ._targets import check_ground_truth

__all__ = ["Detect", "MultiBoxLoss", "PriorBox"]

_CODER = BoxCoderSpec((0.1, 0.1, 0.2, 0.2))  # cfg["variance"] of both of its configurations


class PriorBox:
    """The default boxes of a configuration of data/config.py; `.spec` is the same as a DefaultBoxSpec.

    Args:
        cfg: a dict with min_dim, feature_maps, steps, min_sizes, max_sizes, aspect_ratios, variance, clip and name.

    Raises:
        ValueError: a variance that is not positive, lists of different lengths, more than 8 maps.
        KeyError: an entry is missing.
        TypeError: not a dict.
    """

    def __init__(self, cfg: Mapping[str, Any]) -> None:
        instance("PriorBox", "cfg", cfg, Mapping, "a dict such as those of data/config.py")
        self.image_size = cfg["min_dim"]
        self.variance = [0.1] if cfg["variance"] is None or as_row(cfg["variance"]) == () else cfg["variance"]
        self.feature_maps, self.steps = cfg["feature_maps"], cfg["steps"]
        self.min_sizes, self.max_sizes = cfg["min_sizes"], cfg["max_sizes"]
        self.aspect_ratios = cfg["aspect_ratios"]
        self.clip = cfg["clip"]
        self.version = cfg["name"]
        positive_numbers("PriorBox", "variance", self.variance)
        self.spec = square_spec(
            "PriorBox",
            self.image_size,
            self.feature_maps,
            min_sizes=self.min_sizes,
            max_sizes=self.max_sizes,
            aspect_ratios=self.aspect_ratios,
            steps=self.steps,
            clip=bool(self.clip),
        )
        self.num_priors = len(self.aspect_ratios)

    def forward(self) -> Tensor:
        """float32 [P, 4] (cx, cy, w, h) in shares of the image, bit for bit the original's; on the CPU."""
        return center_form(self.spec)


class MultiBoxLoss(nn.Module):
    """The loss of a batch, matching included: criterion((loc, conf, priors), targets) -> (loss_l, loss_c).

    Args:
        num_classes: columns of conf, background included.
        overlap_thresh: the least IoU of a positive.
        neg_pos: hard negatives for each positive of an image.
        bkg_label: 0.
        prior_for_matching, neg_mining, neg_overlap, encode_target: ignored, as by the original.
        use_gpu: ignored, since everything is computed where the predictions are.

    Raises:
        ValueError: another bkg_label than 0; a threshold out of (0, 1].

    Differs:
        Without positives the losses are 0 (the original divides by 0: NaN). An image without ground truth, [0, 5], is
        background (the original crashes). A degenerate box or an unknown label raises GroundTruthError (the original
        gives infinity or NaN). Hardness is each row's own cross-entropy (the original subtracts the batch's maximum
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
        """The two losses, float32 scalars with gradients: localization and classification.

        Args:
            predictions: loc [N, P, 4] offsets, conf [N, P, C] logits, priors [at least P, 4] (cx, cy, w, h).
            targets: an image's [G, 5]: xyxy in shares of the image, and the class from 0 without background.

        Syncs:
            Once on a GPU, to check the ground truth.

        Raises:
            GroundTruthError: the message names image, index and values (a ValueError).
            TypeError: a wrong shape.
            ValueError: a wrong shape.
        """
        op = "MultiBoxLoss"
        loc, conf, priors = row(op, "predictions", predictions, "(loc, conf, priors)", 3, 3)
        images, rows, _ = tensor(loc, op, "loc", ("N", "P", 4)).shape
        tensor(conf, op, "conf", (images, rows, self.num_classes))
        targets = row(op, "targets", targets, "a list of tensors [G, 5]")
        require(len(targets) == images, op, "targets", f"{images} images, as loc has", len(targets))
        names = [f"{op}: targets[{index}]" for index in range(images)]
        truths = [float32(tensor(t, op, f"targets[{i}]", ("G", 5))).to(loc.device) for i, t in enumerate(targets)]
        boxes, labels = [t[:, :4] for t in truths], [t[:, 4].long() + 1 for t in truths]
        check_ground_truth(boxes, labels, names, self.num_classes)
        corners = corner_form(float32(tensor(priors, op, "priors", ("P", 4))[:rows]).to(loc.device))
        matched = match(boxes, corners, self._matcher)
        losses = multibox_loss(conf, loc, boxes, labels, matched, corners, coder=_CODER, loss=self._loss)
        return losses["bbox_regression"], losses["classification"]


class Detect:
    """Detections of a batch: detect(loc, conf, priors) -> [N, C, top_k, 5], rows of (score, x1, y1, x2, y2).

    It is called as the original, or by `.forward`, or as the ports to later versions of torch do, in one call:
    `Detect.apply(num_classes, bkg_label, top_k, conf_thresh, nms_thresh, loc, conf, priors)`.

    Args:
        num_classes: columns of conf, background included.
        bkg_label: 0.
        top_k: candidates of a class that enter NMS, and rows of the output a class.
        conf_thresh: a candidate's score exceeds it.
        nms_thresh: positive; a better box with a larger IoU suppresses.

    Raises:
        ValueError: another bkg_label than 0, a threshold or top_k that is not positive.

    Same:
        Each class by score, padded with rows of 0; class 0 all 0; up to top_k detections a class, however many that
        makes (the original's cut over all classes has no effect); boxes unclipped, in shares of the image; scores bit
        for bit those given.

    Differs:
        The output is on the predictions' device (the original's on torch's default device), without gradient.
        Degenerate boxes have IoU 0 (the original's 0 / 0 removes them). Equal scores: the lower default box comes first
        (the original: either). It is no autograd Function, which later versions of torch refuse to call.

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
        """The constructor's five arguments and then the call's three."""
        require(len(args) == 8, "Detect.apply", "args", "5 arguments of Detect and 3 of its call", len(args))
        return cls(*args[:5])(*args[5:])

    def forward(self, loc_data: Tensor, conf_data: Tensor, prior_data: Tensor) -> Tensor:
        """float32 [N, num_classes, top_k, 5].

        Args:
            loc_data: [N, P, 4] offsets.
            conf_data: softmax scores, N * P * C of them in any shape, such as [N, P, C];
            prior_data: [P, 4] (cx, cy, w, h).

        Syncs:
            Three times on a GPU, for the whole batch.

        Raises:
            TypeError: a wrong shape.
            ValueError: a wrong shape.
        """
        rows = len(tensor(prior_data, "Detect", "prior_data", ("P", 4)))
        images, columns = len(tensor(loc_data, "Detect", "loc_data", ("N", rows, 4))), self.num_classes
        shape, given = [images, rows, columns], tensor(conf_data, "Detect", "conf_data").shape
        require(
            given.numel() == images * rows * columns, "Detect", "conf_data", f"as many scores as {shape}", list(given)
        )
        boxes = decode_boxes(loc_data.detach(), corner_form(float32(prior_data)), _CODER)
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
