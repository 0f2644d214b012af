"""Compares two matchings wherever rounding leaves no choice."""

from __future__ import annotations

from torch import Tensor

from ssd_fast import MatcherSpec, reference


def matching_differences(
    actual: Tensor,
    expected: Tensor,
    gt_boxes: Tensor,
    default_boxes: Tensor,
    matcher: MatcherSpec,
    *,
    tolerance: float = 2e-6,
    union_epsilon: float = 0.0,
) -> tuple[list[str], int]:
    """Return (unexcused differences in one image, number of excused ones); actual and expected: int [P].

    An IoU may move by tolerance, and, where one side adds union_epsilon to a union, by as much as that lowers it. A
    difference is excused if such a move can cause it: in the best of two ground truths for a default box, in the best
    of two default boxes for a ground truth, or in a best IoU at the threshold.
    """
    different = (actual != expected).nonzero()[:, 0].tolist()
    if not different:
        return [], 0
    iou = reference.box_iou(gt_boxes.double(), default_boxes.double())  # [G, P]
    slack = tolerance + union_epsilon * iou / _unions(gt_boxes.double(), default_boxes.double(), iou)
    best = iou.amax(1, keepdim=True)
    tied = (
        iou + slack + slack.gather(1, iou.argmax(1, keepdim=True)) >= best
    )  # [G, P]: may be a ground truth's best box
    tied[tied.sum(1) == 1] = False  # no choice there
    unexplained, excused = [], 0
    for box in different:
        a, e = int(actual[box]), int(expected[box])
        given, move = iou[:, box], slack[:, box]
        near = (given.max() - matcher.positive_threshold).abs() <= move[given.argmax()]
        same = a >= 0 and e >= 0 and (given[a] - given[e]).abs() <= move[a] + move[e]
        claimed = any(gt >= 0 and tied[gt, box] for gt in (a, e))
        if near or same or claimed:
            excused += 1
        else:
            ious = {gt: float(given[gt]) for gt in (a, e) if gt >= 0}
            unexplained.append(
                f"default box {box}: matched {a}, expected {e}; IoUs {ious}, best {float(given.max()):.8f}"
            )
    return unexplained, excused


def _unions(boxes1: Tensor, boxes2: Tensor, iou: Tensor) -> Tensor:
    """Return the areas of the unions, [G, P]; for disjoint boxes that is the sum of the areas."""

    def area(boxes: Tensor) -> Tensor:
        return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])

    return (area(boxes1)[:, None] + area(boxes2)[None]) / (1 + iou)
