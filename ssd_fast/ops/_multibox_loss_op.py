"""The registered ops of multibox_loss: forward, backward, and how torch differentiates them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from .. import _backend, arrays
from ._arguments import refuse_gradient
from ._fakes import HEAD_DTYPES, check_fake
from ._library import register, register_autograd

CLASSIFICATIONS = {"softmax": 0, "focal": 1}
# The arrays of the op in order, with the dtypes they may have.
TENSORS = {
    "cls_logits": HEAD_DTYPES,
    "bbox_regression": HEAD_DTYPES,
    "gt_boxes": (torch.float32,),
    "gt_labels": (torch.int64,),
    "gt_boxes.offsets": (torch.int64,),
    "matched_idxs": (torch.int64,),
    "default_boxes": (torch.float32,),
}
_BOXES = ("gt_boxes", "default_boxes")


def _options(numbers: Sequence[Any], columns: int) -> Any:
    background = columns - 1 if numbers[0] == -1 else numbers[0]
    return _backend.C.LossOptions(background, *numbers[1:])


def _outputs(images: Any, rows: Any, numbers: Sequence[Any]) -> tuple[tuple[tuple[Any, ...], str], ...]:
    """Shape and dtype of losses, row_max, row_sum (which the focal loss does not need), selected and normalizer."""
    statistics = (images, 0 if numbers[1] == CLASSIFICATIONS["focal"] else rows), "float32"
    return ((2,), "float32"), statistics, statistics, ((images, rows), "uint8"), ((images,), "float32")


def _contiguous(tensors: Sequence[Any]) -> list[Any]:
    return [
        arrays.contiguous(x, "multibox_loss", name, arrays.BOX_BYTES if name in _BOXES else 1)
        for x, name in zip(tensors, TENSORS, strict=True)
    ]


def forward(*args: Any) -> tuple[Any, ...]:
    tensors = _contiguous(args[:7])
    like = tensors[0]
    images, rows, columns = (arrays.dimension(like, index) for index in range(3))
    options = _options(args[7:], columns)
    out = tuple(arrays.empty(shape, dtype, like=like) for shape, dtype in _outputs(images, rows, args[7:]))
    workspace = arrays.empty((_backend.C.multibox_loss_workspace(like),), "uint8", like=like)
    _backend.C.multibox_loss_forward(*tensors, options, workspace, *out)
    return out


def _forward_fake(*args: Any) -> tuple[torch.Tensor, ...]:
    cls_logits, boxes = args[0], args[2]
    check_fake("multibox_loss", "cls_logits", cls_logits, (None, None, None), HEAD_DTYPES, cls_logits)
    images, rows, columns = cls_logits.shape
    shapes = (
        (images, rows, columns),
        (images, rows, 4),
        (None, 4),
        boxes.shape[:1],
        (images + 1,),
        (images, rows),
        (rows, 4),
    )
    for (name, dtypes), tensor, shape in zip(TENSORS.items(), args, shapes, strict=False):
        check_fake("multibox_loss", name, tensor, shape, dtypes, cls_logits)
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

forward_op = register(
    f"multibox_loss_forward({_INPUTS}{_NUMBERS}) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    forward,
    _forward_fake,
    differentiable=True,
)
_backward_op = register(
    f"multibox_loss_backward(Tensor grad_losses, {_INPUTS}{_SAVED}{_NUMBERS}) -> (Tensor, Tensor)",
    _backward,
    _backward_fake,
)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
    for name, needs_gradient in zip(TENSORS, ctx.needs_input_grad, strict=False):
        refuse_gradient("multibox_loss", needs_gradient and name in _BOXES, name)
    saved = output[1:]
    ctx.mark_non_differentiable(*saved)
    ctx.set_materialize_grads(False)  # else zeros are made for what the forward pass saved
    ctx.save_for_backward(*inputs[:7], *saved)
    ctx.numbers = inputs[7:]


def _differentiate(ctx: Any, grad_losses: torch.Tensor | None, *_: Any) -> tuple[torch.Tensor | None, ...]:
    if grad_losses is None:
        return (None,) * (7 + len(ctx.numbers))
    gradients = _backward_op(grad_losses, *ctx.saved_tensors, *ctx.numbers)
    if torch.is_grad_enabled():  # create_graph: without this, a second derivative would lack its share, and say nothing
        gradients = _NoDerivative.apply(*gradients, grad_losses, *ctx.saved_tensors[:2])
    return (*gradients, *(None,) * (5 + len(ctx.numbers)))


class _NoDerivative(torch.autograd.Function):
    """Gradients that depend on the arguments behind them in a way that is not computed."""

    @staticmethod
    def forward(
        ctx: Any, grad_logits: torch.Tensor, grad_regression: torch.Tensor, *_: Any
    ) -> tuple[torch.Tensor, ...]:
        return grad_logits.view_as(grad_logits), grad_regression.view_as(grad_regression)

    @staticmethod
    def backward(ctx: Any, *_: Any) -> None:
        raise RuntimeError("multibox_loss: the derivative of its gradient is not computed (create_graph=True)")


register_autograd("multibox_loss_forward", _differentiate, _setup)
