"""MatcherSpec: which default boxes stand for which ground truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .._checks import choice, flag, freeze, is_not_negative, number, require


@dataclass(frozen=True)
class MatcherSpec:
    """How default boxes are matched to the ground truths of their image.

    Args:
        rule: "forced": a default box takes its best ground truth if their IoU passes positive_threshold; then each
            ground truth takes its best default box in any case. "bipartite": first, each ground truth is paired with a
            default box of its own, always the free pair with the largest IoU, so that no ground truth loses its box to
            another; then the remaining default boxes go by the threshold. "threshold": by the threshold alone.
        positive_threshold: the least IoU of a positive (with positive_inclusive=False, its IoU must exceed this).
        negative_threshold: default boxes whose best IoU lies between this and the positive threshold are ignored (-2);
            None: none are.
        claimed_twice: whether the "last" or the "first" of two ground truths with the same best default box gets it
            (rule "forced").
        minimum_forced_iou: the IoU that a forced or bipartite pair must exceed; None: any IoU will do, even 0.
        ignored_coverage: a background box is ignored too (-2) if an ignored ground truth covers at least this share of
            its area. The argument gt_ignored of match says which ground truths are ignored.

    Raises:
        ValueError: a field is wrong; the message names it, the expected and the given value.

    Source:
        Liu et al. 2016, section 2.2. torchvision: forced, last. TensorFlow: forced, first. Caffe: bipartite, 1e-6.
        ignored_coverage: mmdetection's MaxIoUAssigner with gt_bboxes_ignore and ignore_wrt_candidates.

    Examples:
        >>> import ssd_fast
        >>> ssd_fast.MatcherSpec(rule="bipartite", minimum_forced_iou=1e-6).positive_threshold
        0.5
        >>> ssd_fast.MatcherSpec(positive_threshold=50)
        Traceback (most recent call last):
        ValueError: MatcherSpec: positive_threshold: expected a number in [0, 1], got 50
    """

    rule: Literal["forced", "bipartite", "threshold"] = "forced"
    positive_threshold: float = 0.5
    positive_inclusive: bool = True
    negative_threshold: float | None = None
    claimed_twice: Literal["last", "first"] = "last"
    minimum_forced_iou: float | None = None
    ignored_coverage: float = 0.5

    def __post_init__(self) -> None:
        name = "MatcherSpec"
        freeze(
            self,
            rule=choice(name, "rule", self.rule, ("forced", "bipartite", "threshold")),
            positive_threshold=number(
                name, "positive_threshold", self.positive_threshold, "a number in [0, 1]", lambda x: 0 <= x <= 1
            ),
            positive_inclusive=flag(name, "positive_inclusive", self.positive_inclusive),
            claimed_twice=choice(name, "claimed_twice", self.claimed_twice, ("last", "first")),
            ignored_coverage=number(
                name, "ignored_coverage", self.ignored_coverage, "a number in (0, 1]", lambda x: 0 < x <= 1
            ),
        )
        positive, negative, minimum = self.positive_threshold, self.negative_threshold, self.minimum_forced_iou
        ok = positive > 0 or not self.positive_inclusive
        require(ok, name, "positive_inclusive", "positive_threshold > 0 (else separate boxes would match)", positive)
        if negative is not None:
            expected = "a number in [0, positive_threshold]"
            negative = number(name, "negative_threshold", negative, expected, is_not_negative)
            require(negative <= positive, name, "negative_threshold", expected, negative)
            expected = 'None with rule "bipartite" (no preset has both)'
            require(self.rule != "bipartite", name, "negative_threshold", expected, negative)
        if minimum is not None:
            minimum = number(name, "minimum_forced_iou", minimum, "a number >= 0", is_not_negative)
        freeze(self, negative_threshold=negative, minimum_forced_iou=minimum)
