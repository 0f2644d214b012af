"""multibox_loss: cross-entropy with hard negative mining or focal loss, and smooth L1, and their gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from .. import _backend, arrays
from ..specs import BoxCoderSpec, LossSpec
from ._ground_truth import packed_ground_truth, packed_values
from ._library import register, register_autograd

_CLASSIFICATIONS = {"softmax": 0, "focal": 1}
_NORMALIZERS = {"positives": 0, "positives_per_image": 1, "sum_max_one": 2}


def multibox_loss(
    cls_logits: Any,
    bbox_regression: Any,
    gt_boxes: Any,
    gt_labels: Any,
    matched_idxs: Any,
    default_boxes: Any,
    *,
    coder: BoxCoderSpec,
    loss: LossSpec,
) -> dict[str, Any]:
    """The two losses of SSD: cross-entropy of positives and hard negatives, smooth L1 of the positives' offsets.

    With LossSpec(classification="focal") the first is the sigmoid focal loss of all rows that are not ignored.

    Args:
        cls_logits: [N, P, C] float32, float16 or bfloat16 (computed in float32).
        bbox_regression: [N, P, 4], dtypes as above, in the coder's order.
        gt_boxes: a list of an image's boxes [G, 4] each, or packed, a pair (boxes [sum G, 4], offsets int64 [N + 1]).
            float32 xyxy.
        gt_labels: a list of an image's labels int64 [G] each, or packed int64 [sum G]: columns of cls_logits.
        matched_idxs: int64 [N, P], as match returns them: -1 background, -2 ignored.
        default_boxes: [P, 4] float32 xyxy, in the unit of gt_boxes.
        coder: how bbox_regression encodes boxes.
        loss: classification, background, mining, beta and normalizer.
    Returns: {"bbox_regression": float32 scalar, "classification": float32 scalar}: sums over the selected rows, divided
        by the normalizer; 0 where nothing is selected.
    Ties: equal cross-entropy of two background rows: the lower default box is mined first.
    Grad: with respect to cls_logits and bbox_regression, once (not twice), in their dtype: computed in float32 from
        the gradients of the two losses and rounded once, so a GradScaler's scale keeps float16 from underflow.
    Syncs: never; packed input copies nothing and can be captured in a CUDA graph.
    NaN: a NaN cross-entropy is mined before all others, so a network that diverges shows in the loss. A NaN logit makes
        the focal loss NaN, unless its row is ignored, and its own gradient alone.
    Infinity: a logit of inf makes a cross-entropy NaN, -inf that of its column inf. In the focal loss both have their
        limits: 0 where they are right, else inf, whose gradient is the weight of the column.
    Memory: O(N P) is kept for the backward pass, besides the inputs.
    Raises: ValueError: wrong shape, device, background or numbers of boxes and labels; TypeError: wrong dtype or no
        array. Labels that are no column or the background, and matched_idxs or offsets out of range, cannot be checked
        without a sync: their rows are ignored.
    Source: Liu et al. 2016, section 2.2; focal: Lin et al. 2017, section 3.
    Specification: ssd_fast.reference.multibox_loss
    """
    inputs = cls_logits, bbox_regression, gt_boxes, gt_labels, matched_idxs, default_boxes
    losses = _forward_of(*inputs, coder=coder, loss=loss)[0]
    # Indexed so that NumPy too gives arrays, not numbers.
    return {"bbox_regression": losses[0, ...], "classification": losses[1, ...]}


def selected_rows(*inputs: Any, coder: BoxCoderSpec, loss: LossSpec) -> Any:
    """uint8 [N, P]: what a row adds to multibox_loss of the same arguments: 0 nothing, 1 background, 2 a positive."""
    return _forward_of(*inputs, coder=coder, loss=loss)[3]


def _forward_of(*inputs: Any, coder: BoxCoderSpec, loss: LossSpec) -> tuple[Any, ...]:
    """The two losses and what the backward pass needs: row_max, row_sum, selected, normalizer."""
    cls_logits, bbox_regression, gt_boxes, gt_labels, matched_idxs, default_boxes = inputs
    if not isinstance(coder, BoxCoderSpec):
        raise TypeError(f"multibox_loss: coder: expected a BoxCoderSpec, got {type(coder).__name__}")
    if not isinstance(loss, LossSpec):
        raise TypeError(f"multibox_loss: loss: expected a LossSpec, got {type(loss).__name__}")
    is_torch = arrays.library_of(cls_logits, "multibox_loss", "cls_logits") == "torch"
    packed = packed_ground_truth(gt_boxes, cls_logits, "multibox_loss")
    boxes, offsets = packed
    by_image = None if packed is gt_boxes else gt_boxes
    labels = packed_values(gt_labels, by_image, cls_logits, "multibox_loss", "gt_labels", "int64")
    alpha = loss.focal_alpha
    return (_forward_op if is_torch else _forward)(
        cls_logits,
        bbox_regression,
        boxes,
        labels,
        offsets,
        matched_idxs,
        default_boxes,
        loss.background,
        _CLASSIFICATIONS[loss.classification],
        1.0 if alpha is None else alpha,
        1.0 if alpha is None else 1.0 - alpha,
        loss.focal_gamma,
        loss.negatives_per_positive,
        loss.min_negatives,
        loss.beta,
        _NORMALIZERS[loss.normalizer],
        list(coder.variances),
        coder.order == "yx",
    )


def _options(numbers: Sequence[Any], columns: int) -> Any:
    background = columns - 1 if numbers[0] == -1 else numbers[0]
    return _backend.C.LossOptions(background, *numbers[1:])


def _outputs(images: Any, rows: Any, numbers: Sequence[Any]) -> tuple[tuple[tuple[Any, ...], str], ...]:
    """Shape and dtype of losses, row_max, row_sum (which the focal loss does not need), selected and normalizer."""
    statistics = (images, 0 if numbers[1] == _CLASSIFICATIONS["focal"] else rows), "float32"
    return ((2,), "float32"), statistics, statistics, ((images, rows), "uint8"), ((images,), "float32")


_HEADS, _GROUND_TRUTH = ("cls_logits", "bbox_regression"), ("gt_boxes", "gt_labels", "gt_boxes.offsets")
_TENSORS = (*_HEADS, *_GROUND_TRUTH, "matched_idxs", "default_boxes")


def _contiguous(tensors: Sequence[Any]) -> list[Any]:
    return [arrays.contiguous(x, "multibox_loss", name) for x, name in zip(tensors, _TENSORS, strict=True)]


def _forward(*args: Any) -> tuple[Any, ...]:
    tensors = _contiguous(args[:7])
    like = tensors[0]
    images, rows, columns = (arrays.dimension(like, index) for index in range(3))
    options = _options(args[7:], columns)
    out = tuple(arrays.empty(shape, dtype, like=like) for shape, dtype in _outputs(images, rows, args[7:]))
    workspace = arrays.empty((_backend.C.multibox_loss_workspace(like),), "uint8", like=like)
    _backend.C.multibox_loss_forward(*tensors, options, workspace, *out)
    return out


def _forward_fake(*args: Any) -> tuple[torch.Tensor, ...]:
    cls_logits = args[0]
    images, rows, _columns = cls_logits.shape
    outputs = _outputs(images, rows, args[7:])
    return tuple(cls_logits.new_empty(shape, dtype=getattr(torch, dtype)) for shape, dtype in outputs)


def _backward(grad_losses: Any, *args: Any) -> tuple[Any, Any]:
    tensors, saved = _contiguous(args[:7]), args[7:11]
    options = _options(args[11:], arrays.dimension(tensors[0], 2))
    grads = tuple(arrays.empty(x.shape, arrays.dtype_name(x), like=x) for x in tensors[:2])
    grad_losses = arrays.contiguous(grad_losses, "multibox_loss", "grad_losses")
    _backend.C.multibox_loss_backward(grad_losses, *tensors, options, *saved, *grads)
    return grads


def _backward_fake(
    grad_losses: torch.Tensor, cls_logits: torch.Tensor, bbox_regression: torch.Tensor, *_: Any
) -> tuple[torch.Tensor, ...]:
    # Always contiguous, as the kernels write them.
    return cls_logits.new_empty(cls_logits.shape), bbox_regression.new_empty(bbox_regression.shape)


_INPUTS = (
    "Tensor cls_logits, Tensor bbox_regression, Tensor gt_boxes, Tensor gt_labels, Tensor offsets, "
    "Tensor matched_idxs, Tensor default_boxes, "
)
_NUMBERS = (
    "int? background, int classification, float target_weight, float other_weight, float gamma, "
    "float negatives_per_positive, int min_negatives, float beta, int normalizer, float[] variances, bool yx"
)
_SAVED = "Tensor row_max, Tensor row_sum, Tensor selected, Tensor normalizer_values, "

_forward_op = register(
    f"multibox_loss_forward({_INPUTS}{_NUMBERS}) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    _forward,
    _forward_fake,
    differentiable=True,
)
_backward_op = register(
    f"multibox_loss_backward(Tensor grad_losses, {_INPUTS}{_SAVED}{_NUMBERS}) -> (Tensor, Tensor)",
    _backward,
    _backward_fake,
)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
    saved = output[1:]
    ctx.mark_non_differentiable(*saved)
    ctx.set_materialize_grads(False)  # else zeros are made for what the forward pass saved
    ctx.save_for_backward(*inputs[:7], *saved)
    ctx.numbers = inputs[7:]


def _differentiate(ctx: Any, grad_losses: torch.Tensor | None, *_: Any) -> tuple[torch.Tensor | None, ...]:
    if grad_losses is None:
        return (None,) * (7 + len(ctx.numbers))
    return (*_backward_op(grad_losses, *ctx.saved_tensors, *ctx.numbers), *(None,) * (5 + len(ctx.numbers)))


register_autograd("multibox_loss_forward", _differentiate, _setup)
