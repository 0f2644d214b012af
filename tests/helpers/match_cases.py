"""Hand-worked matches, the rules under which match is tested, and a comparator that knows ties."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ssd_fast.specs import MatcherSpec

SPECS = {
    "last": MatcherSpec(),
    "first": MatcherSpec(claimed_twice="first"),
    "ignored": MatcherSpec(positive_threshold=0.5, negative_threshold=1 / 3),
    "strict": MatcherSpec(positive_inclusive=False, negative_threshold=0.25),
    "minimum": MatcherSpec(minimum_forced_iou=1 / 3, claimed_twice="first"),
    "bipartite": MatcherSpec("bipartite"),
    "caffe": MatcherSpec("bipartite", minimum_forced_iou=1e-6),
    "threshold": MatcherSpec("threshold", positive_threshold=0.6, negative_threshold=0.5),
    "nothing": MatcherSpec("threshold", positive_threshold=0.0, positive_inclusive=False),
}


def bars(*ends: tuple[float, float]) -> Tensor:
    """Return boxes of height 10 side by side, from their left and right ends: IoUs are those of the intervals."""
    return torch.tensor([[begin, 0.0, end, 10.0] for begin, end in ends]).reshape(-1, 4)


def packed(gts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return all boxes in one tensor, and the offsets of the images in it."""
    sizes = [0, *(len(boxes) for boxes in gts)]
    return torch.cat([torch.empty(0, 4), *gts]), torch.tensor(sizes).cumsum(0)


class Hand(NamedTuple):
    gts: Tensor
    default_boxes: Tensor
    spec: MatcherSpec
    expected: list[int]


# IoUs of ground truth 0: 1, 1/2, 0, 0, 1. Of 1: only with box 2, 0.4. Of 2: none.
_BOXES = bars((0, 10), (0, 5), (20, 30), (40, 50), (0, 10))
_GTS = bars((0, 10), (20, 24), (100, 110))
# IoUs of ground truth 0: 1, 0.8, 0. Of 1: 0.9, 8/9, 0. Both want box 0.
_CLAIMED = bars((0, 10), (0, 8), (50, 60))
_CLAIMING = bars((0, 10), (0, 9))
_TWINS = bars((0, 10), (0, 10))
# IoUs of ground truth 0: 0.8, 5/8, 0. Of 1: 1, 1/2, 0. Of 2: 0.9, 5/9, 0. All want box 0, then box 1.
_CROWD = bars((0, 8), (0, 10), (0, 9))
_CROWDED = bars((0, 10), (0, 5), (50, 60))


def _spec(rule: str = "forced", **fields: object) -> MatcherSpec:
    return MatcherSpec(rule, **fields)  # type: ignore[arg-type]


HANDS = {
    # The best box of a ground truth that overlaps nothing is box 0.
    "forced-last": Hand(_GTS, _BOXES, _spec(), [2, 0, 1, -1, 0]),
    "forced-first": Hand(_GTS, _BOXES, _spec(claimed_twice="first"), [0, 0, 1, -1, 0]),
    "forced-overlapping": Hand(_GTS, _BOXES, _spec(minimum_forced_iou=0.0), [0, 0, 1, -1, 0]),
    "forced-above-its-iou": Hand(_GTS, _BOXES, _spec(minimum_forced_iou=0.4), [0, 0, -1, -1, 0]),
    "forced-ignored": Hand(_GTS, _BOXES, _spec(minimum_forced_iou=0.4, negative_threshold=0.4), [0, 0, -2, -1, 0]),
    "forced-though-ignored": Hand(_GTS, _BOXES, _spec(negative_threshold=0.3), [2, 0, 1, -1, 0]),
    "threshold": Hand(_GTS, _BOXES, _spec("threshold"), [0, 0, -1, -1, 0]),
    "threshold-strict": Hand(_GTS, _BOXES, _spec("threshold", positive_inclusive=False), [0, -1, -1, -1, 0]),
    "threshold-ignored": Hand(_GTS, _BOXES, _spec("threshold", negative_threshold=0.4), [0, 0, -2, -1, 0]),
    "threshold-not-ignored": Hand(_GTS, _BOXES, _spec("threshold", negative_threshold=0.41), [0, 0, -1, -1, 0]),
    "threshold-all-ignored": Hand(_GTS, _BOXES, _spec("threshold", negative_threshold=0.0), [0, 0, -2, -2, 0]),
    "threshold-strict-ignored": Hand(
        _GTS, _BOXES, _spec("threshold", positive_inclusive=False, negative_threshold=0.5), [0, -2, -1, -1, 0]
    ),
    # The ground truth that overlaps nothing gets the lowest free box, though that box has an IoU of 1/2 with another.
    "bipartite": Hand(_GTS, _BOXES, _spec("bipartite"), [0, 2, 1, -1, 0]),
    "bipartite-overlapping": Hand(_GTS, _BOXES, _spec("bipartite", minimum_forced_iou=1e-6), [0, 0, 1, -1, 0]),
    "bipartite-above-its-iou": Hand(_GTS, _BOXES, _spec("bipartite", minimum_forced_iou=0.4), [0, 0, -1, -1, 0]),
    "claimed-last": Hand(_CLAIMING, _CLAIMED, _spec(positive_threshold=0.95), [1, -1, -1]),
    "claimed-first": Hand(_CLAIMING, _CLAIMED, _spec(positive_threshold=0.95, claimed_twice="first"), [0, -1, -1]),
    "claimed-bipartite": Hand(_CLAIMING, _CLAIMED, _spec("bipartite", positive_threshold=0.95), [0, 1, -1]),
    "claimed-by-the-last-above-the-minimum": Hand(
        _CLAIMING, _CLAIMED, _spec(positive_threshold=0.95, minimum_forced_iou=0.95), [0, -1, -1]
    ),
    "claimed-by-the-first-above-the-minimum": Hand(
        _CLAIMING.flip(0),
        _CLAIMED,
        _spec(positive_threshold=0.95, minimum_forced_iou=0.95, claimed_twice="first"),
        [1, -1, -1],
    ),
    "twins-threshold": Hand(_TWINS, _BOXES, _spec("threshold"), [0, 0, -1, -1, 0]),
    "twins-last": Hand(_TWINS, _BOXES, _spec(), [1, 0, -1, -1, 0]),
    "twins-first": Hand(_TWINS, _BOXES, _spec(claimed_twice="first"), [0, 0, -1, -1, 0]),
    "twins-bipartite": Hand(_TWINS, _BOXES, _spec("bipartite"), [0, 0, -1, -1, 1]),
    "crowd-bipartite": Hand(_CROWD, _CROWDED, _spec("bipartite", minimum_forced_iou=0.0), [1, 0, -1]),
    "crowd-bipartite-any": Hand(_CROWD, _CROWDED, _spec("bipartite"), [1, 0, 2]),
    "more-than-boxes": Hand(_CROWD, _CROWDED[:2], _spec("bipartite"), [1, 0]),
    "none": Hand(bars(), _CROWDED, _spec(negative_threshold=0.0), [-1, -1, -1]),
}


class IgnoredHand(NamedTuple):
    gts: Tensor
    ignored: list[int]  # indices
    default_boxes: Tensor
    spec: MatcherSpec
    expected: list[int]


# Ground truth 0 of _GTS covers the boxes 0, 1 and 4; 1 covers 0.4 of box 2; 2 covers none.
_PARTS = bars((0, 4), (6, 10), (20, 29), (0, 1000))
IGNORED_HANDS = {
    "nothing": IgnoredHand(_GTS, [], _BOXES, _spec(), [2, 0, 1, -1, 0]),
    "0": IgnoredHand(_GTS, [0], _BOXES, _spec(), [2, -2, 1, -1, -2]),
    "0-first": IgnoredHand(_GTS, [0], _BOXES, _spec(claimed_twice="first"), [2, -2, 1, -1, -2]),
    "0-threshold": IgnoredHand(_GTS, [0], _BOXES, _spec("threshold"), [-2, -2, -1, -1, -2]),
    "0-bipartite": IgnoredHand(_GTS, [0], _BOXES, _spec("bipartite"), [2, -2, 1, -1, -2]),
    "0-caffe": IgnoredHand(_GTS, [0], _BOXES, _spec("bipartite", minimum_forced_iou=1e-6), [-2, -2, 1, -1, -2]),
    "1": IgnoredHand(_GTS, [1], _BOXES, _spec(), [2, 0, -1, -1, 0]),
    "1-at-its-share": IgnoredHand(_GTS, [1], _BOXES, _spec(ignored_coverage=0.4), [2, 0, -2, -1, 0]),
    "1-below-the-share": IgnoredHand(_GTS, [1], _BOXES, _spec(ignored_coverage=0.41), [2, 0, -1, -1, 0]),
    # Ground truth 2 overlaps nothing; ignored, it takes box 0 from no other.
    "2": IgnoredHand(_GTS, [2], _BOXES, _spec(), [0, 0, 1, -1, 0]),
    "2-bipartite": IgnoredHand(_GTS, [2], _BOXES, _spec("bipartite"), [0, 0, 1, -1, 0]),
    "all": IgnoredHand(_GTS, [0, 1, 2], _BOXES, _spec(), [-2, -2, -1, -1, -2]),
    "all-first": IgnoredHand(_GTS, [0, 1, 2], _BOXES, _spec(claimed_twice="first"), [-2, -2, -1, -1, -2]),
    "all-bipartite": IgnoredHand(_GTS, [0, 1, 2], _BOXES, _spec("bipartite"), [-2, -2, -1, -1, -2]),
    # Without any other ground truth there is no best IoU of 0 that the band could ignore.
    "all-with-a-band": IgnoredHand(_GTS, [0, 1, 2], _BOXES, _spec(negative_threshold=0.0), [-2, -2, -1, -1, -2]),
    "0-with-a-band": IgnoredHand(_GTS, [0], _BOXES, _spec("threshold", negative_threshold=0.4), [-2, -2, -2, -1, -2]),
    "twin-1": IgnoredHand(_TWINS, [1], _BOXES, _spec(), [0, 0, -1, -1, 0]),  # matched boxes stay matched
    "twin-0": IgnoredHand(_TWINS, [0], _BOXES, _spec(), [1, 1, -1, -1, 1]),
    "claiming-1": IgnoredHand(_CLAIMING, [1], _CLAIMED, _spec(positive_threshold=0.95), [0, -2, -1]),
    "claiming-0-first": IgnoredHand(
        _CLAIMING, [0], _CLAIMED, _spec(positive_threshold=0.95, claimed_twice="first"), [1, -2, -1]
    ),
    "crowd-1": IgnoredHand(_CROWD, [1], _CROWDED, _spec("bipartite"), [2, 0, -1]),
    "crowd-0-2": IgnoredHand(_CROWD, [0, 2], _CROWDED, _spec("bipartite", positive_threshold=0.6), [1, -2, -1]),
    "two-halves": IgnoredHand(_PARTS, [0, 1], bars((0, 10)), _spec("threshold"), [-1]),  # each alone covers 0.4
    "one-half-more": IgnoredHand(_PARTS, [0, 1], bars((0, 8), (7, 10)), _spec("threshold"), [-2, -2]),
    "of-its-own-area": IgnoredHand(_PARTS[3:], [0], _BOXES, _spec("threshold"), [-2] * 5),  # the IoUs are 0.01
    "beside-a-match": IgnoredHand(_PARTS, [3], bars((20, 30), (21, 31), (25, 45)), _spec(), [2, 2, -2]),
}


def assert_same_matches(ours: Tensor, theirs: Tensor, iou: Tensor) -> int:
    """Check that matches of one image with IoUs [G, P] differ only at equal IoUs; return how many default boxes differ.

    A box may differ if both ground truths overlap it equally, or if it is one of several best boxes of a ground truth.
    """
    differ = ours != theirs
    if not differ.any():
        return 0
    best = iou == iou.amax(1, keepdim=True)
    tied_best = (best & (best.sum(1, keepdim=True) > 1)).any(0)
    boxes = torch.arange(iou.shape[1])
    same_iou = (iou[ours.clamp(min=0), boxes] == iou[theirs.clamp(min=0), boxes]) & (ours >= 0) & (theirs >= 0)
    wrong = (differ & ~tied_best & ~same_iou).nonzero()[:, 0]
    assert len(wrong) == 0, f"default boxes {wrong.tolist()}: {ours[wrong].tolist()}, expected {theirs[wrong].tolist()}"
    return int(differ.sum())
