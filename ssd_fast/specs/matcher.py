"""MatcherSpec: which default boxes stand for which ground truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ._checks import is_finite, require


@dataclass(frozen=True)
class MatcherSpec:
    """How default boxes are matched to the ground truths of their image.

    Args:
        rule: "forced": a default box takes its best ground truth if their IoU passes positive_threshold; then each
            ground truth takes its best default box in any case. "bipartite": first pairs of a ground truth and a
            default box are formed, the largest IoU of all free ones first, so that no ground truth loses its box to
            another; then the remaining default boxes go by the threshold. "threshold": by the threshold alone.
        positive_threshold: the least IoU of a positive (positive_inclusive=False: a positive has more).
        negative_threshold: default boxes whose best IoU lies from here up to the positive threshold are ignored (-2);
            None: there are none such.
        claimed_twice: of two ground truths with the same best default box the "last" or the "first" gets it (forced).
        minimum_forced_iou: a forced or bipartite pair has a larger IoU; None: any, even 0.
        ignored_coverage: background of whose own area an ignored ground truth covers this share or more is ignored too
            (-2). Ground truths are ignored by match's argument gt_ignored.
    Raises: ValueError naming the field, what was expected and what was given.
    Source: Liu et al. 2016, section 2.2. torchvision: forced, last. TensorFlow: forced, first. Caffe: bipartite, 1e-6.
        ignored_coverage: mmdetection's MaxIoUAssigner with gt_bboxes_ignore and ignore_wrt_candidates.
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
        require(
            self.rule in ("forced", "bipartite", "threshold"),
            name,
            "rule",
            '"forced", "bipartite" or "threshold"',
            self.rule,
        )
        require(self.claimed_twice in ("last", "first"), name, "claimed_twice", '"last" or "first"', self.claimed_twice)
        positive, negative, minimum = self.positive_threshold, self.negative_threshold, self.minimum_forced_iou
        require(is_finite(positive) and 0 <= positive <= 1, name, "positive_threshold", "a number in [0, 1]", positive)
        ok = positive > 0 or not self.positive_inclusive
        require(ok, name, "positive_inclusive", "positive_threshold > 0, else boxes apart would match", positive)
        if negative is not None:
            ok = is_finite(negative) and 0 <= negative <= positive
            require(ok, name, "negative_threshold", "a number in [0, positive_threshold]", negative)
            expected = 'None with rule "bipartite" (no preset has both)'
            require(self.rule != "bipartite", name, "negative_threshold", expected, negative)
        if minimum is not None:
            require(is_finite(minimum) and minimum >= 0, name, "minimum_forced_iou", "a number >= 0", minimum)
        share = self.ignored_coverage
        require(is_finite(share) and 0 < share <= 1, name, "ignored_coverage", "a number in (0, 1]", share)
