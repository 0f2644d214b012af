"""multibox_loss: cross-entropy with hard negative mining or focal loss, smooth L1, and their gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..arrays import Array
from ..ground_truth.packing import packed_ground_truth, packed_values
from ..specs import BoxCoderSpec, LossSpec
from ._arguments import call, check_spec
from ._multibox_loss_op import TENSORS, forward_op


def multibox_loss(
    cls_logits: Array,
    bbox_regression: Array,
    gt_boxes: Sequence[Array] | tuple[Array, Array],
    gt_labels: Sequence[Array] | Array,
    matched_idxs: Array,
    default_boxes: Array,
    *,
    coder: BoxCoderSpec,
    loss: LossSpec,
) -> dict[str, Array]:
    """Compute the two losses of SSD: cross-entropy of positives and hard negatives, smooth L1 of positives' offsets.

    With LossSpec(classification="focal"), the first is the sigmoid focal loss of all rows that are not ignored.

    Args:
        cls_logits: [N, P, C] float32, float16 or bfloat16 (computed in float32).
        bbox_regression: [N, P, 4], dtypes as above, in the coder's order.
        gt_boxes: a list of boxes [G, 4] per image; or packed, a pair (boxes [sum G, 4], offsets int64 [N + 1]). float32
            xyxy.
        gt_labels: a list of labels int64 [G] per image, or packed int64 [sum G]: columns of cls_logits.
        matched_idxs: int64 [N, P], as match returns them: -1 for background, -2 for ignored.
        default_boxes: [P, 4] float32 xyxy, in the unit of gt_boxes.
        coder: how bbox_regression encodes boxes.
        loss: classification, background, mining, beta and normalizer.

    Returns:
        {"bbox_regression": float32 scalar, "classification": float32 scalar}: sums over the selected rows, divided by
            the normalizer; 0 where nothing is selected.

    Ties:
        Of background rows with equal cross-entropy, the lower default box is mined first.

    Grad:
        With respect to cls_logits and bbox_regression, once (not twice), in their dtype: computed in float32 from the
        gradients of the two losses and rounded once, so a GradScaler's scale keeps float16 from underflow.

    Syncs:
        Never; packed input copies nothing and can be captured in a CUDA graph.

    NaN:
        A NaN cross-entropy is mined before all others, so a network that diverges shows in the loss. A NaN logit makes
        the focal loss NaN, unless its row is ignored, but no gradient other than its own.

    Infinity:
        A logit of inf makes a cross-entropy NaN; -inf in the target column makes it inf. In the focal loss, both have
        their limits: 0 where they are right, else inf, whose gradient is the weight of the column. Losses are summed in
        float32 before the sum is divided: a sum past 3.4e38 is inf.

    Memory:
        O(N P) is kept for the backward pass, besides the inputs.

    Raises:
        ValueError: wrong shape, device, background or numbers of boxes and labels; gt_boxes or default_boxes that
            require a gradient. Labels that are not columns or are the background, and matched_idxs or offsets out of
            range, cannot be checked without a sync: their rows are ignored.
        TypeError: wrong dtype, or not an array.
        RuntimeError: forward-mode differentiation, or the derivative of a gradient.

    Source:
        Liu et al. 2016, section 2.2; focal: Lin et al. 2017, section 3.

    Specification:
        ssd_fast.reference.multibox_loss

    Examples:
        One positive, whose offsets are right, and one background row; all logits are 0:

        >>> import ssd_fast, torch
        >>> default = torch.tensor([[0.0, 0.0, 4.0, 4.0], [4.0, 4.0, 8.0, 8.0]])
        >>> boxes, labels = [default[1:]], [torch.tensor([1])]
        >>> matched = ssd_fast.match(boxes, default, ssd_fast.MatcherSpec())
        >>> losses = ssd_fast.multibox_loss(
        ...     torch.zeros(1, 2, 3), torch.zeros(1, 2, 4), boxes, labels, matched, default,
        ...     coder=ssd_fast.BoxCoderSpec(), loss=ssd_fast.LossSpec(),
        ... )
        >>> losses  # 2 log(3) over one positive
        {'bbox_regression': tensor(0.), 'classification': tensor(2.1972)}
    """
    inputs = cls_logits, bbox_regression, gt_boxes, gt_labels, matched_idxs, default_boxes
    losses = _forward_of(*inputs, coder=coder, loss=loss)[0]
    # Indexed so that NumPy gives arrays too, not numbers.
    return {"bbox_regression": losses[0, ...], "classification": losses[1, ...]}


def selected_rows(*inputs: Any, coder: BoxCoderSpec, loss: LossSpec) -> Any:
    """Return uint8 [N, P], what each row adds to multibox_loss: 0 nothing, 1 as background, 2 as a positive."""
    return _forward_of(*inputs, coder=coder, loss=loss)[3]


def _forward_of(*inputs: Any, coder: BoxCoderSpec, loss: LossSpec) -> tuple[Any, ...]:
    """Return the two losses and what the backward pass needs: row_max, row_sum, selected, normalizer."""
    cls_logits, bbox_regression, gt_boxes, gt_labels = inputs[:4]
    op = "multibox_loss"
    check_spec(op, "coder", coder, BoxCoderSpec)
    check_spec(op, "loss", loss, LossSpec)
    boxes, offsets = packed_ground_truth(gt_boxes, cls_logits, op, "cls_logits")
    labels = packed_values(gt_labels, gt_boxes, (boxes, offsets), op, "gt_labels", "int64")
    named = dict(zip(TENSORS, (cls_logits, bbox_regression, boxes, labels, offsets, *inputs[4:]), strict=True))
    return call(forward_op, named, specs=(loss, coder))
