"""Options of multibox_loss, by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..specs import BoxCoderSpec, LossSpec

CLASSIFICATIONS = {"softmax": 0, "focal": 1}
_NORMALIZERS = {"positives": 0, "positives_per_image": 1, "sum_max_one": 2}


class LossOptions(NamedTuple):
    """A LossSpec and a BoxCoderSpec as the ops and C++'s LossOptions take them."""

    background: int | None
    classification: int
    target_weight: float
    other_weight: float
    gamma: float
    negatives_per_positive: float
    min_negatives: int
    beta: float
    normalizer: int
    variances: Sequence[float]
    yx: bool


def pack_options(loss: LossSpec, coder: BoxCoderSpec) -> LossOptions:
    """Return the options of the two specs."""
    alpha = loss.focal_alpha
    return LossOptions(
        background=loss.background,
        classification=CLASSIFICATIONS[loss.classification],
        target_weight=1.0 if alpha is None else alpha,
        other_weight=1.0 if alpha is None else 1.0 - alpha,
        gamma=loss.focal_gamma,
        negatives_per_positive=loss.negatives_per_positive,
        min_negatives=loss.min_negatives,
        beta=loss.beta,
        normalizer=_NORMALIZERS[loss.normalizer],
        variances=list(coder.variances),
        yx=coder.order == "yx",
    )
