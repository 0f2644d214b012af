"""LossSpec: what the MultiBox loss sums, and what it divides by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ._checks import is_finite, require

_MOST = 2**31 - 1


@dataclass(frozen=True)
class LossSpec:
    """How matched default boxes become two losses: cross-entropy with hard negative mining, and smooth L1.

    Args:
        background: column of cls_logits that is no class (-1: the last); no ground truth may have it as its label.
        negatives_per_positive: hard negatives of an image for each of its positives, rounded down.
        min_negatives: hard negatives of an image at least, if it has so many background rows.
        beta: smooth L1 is quadratic below this difference and linear from it up; 0: plain L1.
        normalizer: what both losses are divided by. "positives": all positives of the batch, or 1 without any.
            "positives_per_image": an image's losses by its own positives, then the mean over the images; one without
            positives contributes 0. "sum_max_one": the sum over the images of the greater of its positives and 1.
    Raises: ValueError naming the field, what was expected and what was given.
    Source: Liu et al. 2016, section 2.2. positives: Caffe, torchvision; positives_per_image: NVIDIA; sum_max_one:
        mmdetection.
    """

    background: int = 0
    negatives_per_positive: float = 3.0
    min_negatives: int = 0
    beta: float = 1.0
    normalizer: Literal["positives", "positives_per_image", "sum_max_one"] = "positives"

    def __post_init__(self) -> None:
        name = "LossSpec"
        ok = _is_int(self.background) and -1 <= self.background <= _MOST
        require(ok, name, "background", "a column or -1", self.background)
        ratio = self.negatives_per_positive
        ok = is_finite(ratio) and 0 <= ratio <= _MOST
        require(ok, name, "negatives_per_positive", "a number in [0, 2**31)", ratio)
        ok = _is_int(self.min_negatives) and 0 <= self.min_negatives <= _MOST
        require(ok, name, "min_negatives", "an int in [0, 2**31)", self.min_negatives)
        require(is_finite(self.beta) and self.beta >= 0, name, "beta", "a finite number >= 0", self.beta)
        choices = ("positives", "positives_per_image", "sum_max_one")
        require(self.normalizer in choices, name, "normalizer", " or ".join(map(repr, choices)), self.normalizer)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
