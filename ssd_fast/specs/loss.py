"""LossSpec: what the MultiBox loss sums, and what it divides by."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from .._checks import choice, freeze, integer, is_count, is_not_negative, number, require


@dataclass(frozen=True)
class LossSpec:
    """How matched default boxes become two losses: classification, with or without mining, and smooth L1.

    Args:
        background: the column of cls_logits that is not a class (-1: the last), toward which background rows are
            trained; no ground truth may have it as its label. None, only with "focal": there is no such column, and
            background rows are trained toward no column.
        negatives_per_positive: hard negatives per positive of an image, rounded down.
        min_negatives: the least number of hard negatives per image, if it has that many background rows.
        beta: smooth L1 is quadratic below this difference and linear from it on; 0: plain L1.
        normalizer: what both losses are divided by. "positives": the number of positives of the batch, at least 1.
            "positives_per_image": an image's losses are divided by its own positives and then averaged over the images;
            an image without positives contributes 0. "sum_max_one": the sum over the images of max(positives, 1).
        classification: "softmax": cross-entropy of the positives and of hard negatives. "focal": sigmoid focal loss of
            all rows that are not ignored, over all columns, without mining: alpha * (1 - p)^gamma * -log p, where p is
            the probability that a logit's sigmoid gives to the truth of its column.
        focal_alpha: weight of the target column; the other columns weigh 1 - focal_alpha. None: no weights.
        focal_gamma: how strongly the loss of easy rows is lowered; 0: not at all.

    Raises:
        ValueError: a field is wrong; the message names it, the expected and the given value.

    Source:
        Liu et al. 2016, section 2.2. positives: Caffe, torchvision; positives_per_image: NVIDIA; sum_max_one:
        mmdetection. focal: Lin et al. 2017, section 3; with a background column like TensorFlow object detection's SSD
        with FPN, without one like RetinaNet.

    Examples:
        >>> import ssd_fast
        >>> ssd_fast.LossSpec(normalizer="sum_max_one").negatives_per_positive
        3.0
        >>> ssd_fast.LossSpec(classification="focal", background=None).focal_gamma
        2.0
    """

    background: int | None = 0
    negatives_per_positive: float = 3.0
    min_negatives: int = 0
    beta: float = 1.0
    normalizer: Literal["positives", "positives_per_image", "sum_max_one"] = "positives"
    classification: Literal["softmax", "focal"] = "softmax"
    focal_alpha: float | None = 0.25
    focal_gamma: float = 2.0

    def __post_init__(self) -> None:
        name = "LossSpec"
        freeze(self, classification=choice(name, "classification", self.classification, ("softmax", "focal")))
        focal = self.classification == "focal"
        why = ' (None: with classification "focal")' if self.background is None else ""
        expected = "a column, -1 or None" if focal else f"a column or -1{why}"
        may_be_none = focal and self.background is None
        ratio, gamma = self.negatives_per_positive, self.focal_gamma
        freeze(
            self,
            background=None if may_be_none else integer(name, "background", self.background, expected, -1),
            negatives_per_positive=number(name, "negatives_per_positive", ratio, "a number in [0, 2**31)", is_count),
            min_negatives=integer(name, "min_negatives", self.min_negatives, "an int in [0, 2**31)"),
            beta=number(name, "beta", self.beta, "a finite number >= 0", is_not_negative),
            normalizer=choice(name, "normalizer", self.normalizer, ("positives", "positives_per_image", "sum_max_one")),
            focal_gamma=number(name, "focal_gamma", gamma, "a number in [0, 2**31)", is_count),
        )
        if self.focal_alpha is not None:
            expected = "a number between 0 and 1, or None for no weights"
            freeze(self, focal_alpha=number(name, "focal_alpha", self.focal_alpha, expected, lambda x: 0 < x < 1))
        self._require_defaults(
            *(("negatives_per_positive", "min_negatives") if focal else ("focal_alpha", "focal_gamma")),
            because="the focal loss mines nothing" if focal else 'classification is "softmax"',
        )

    def _require_defaults(self, *names: str, because: str) -> None:
        """Refuse values of fields that the chosen classification does not read."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            ok = field.name not in names or value == field.default
            require(ok, "LossSpec", field.name, f"{field.default}, since {because}", value)
