"""The registered ops of multibox_loss: forward, backward, and how torch differentiates them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from .. import _backend, arrays
from ._arguments import refuse_gradient
from ._fakes import HEAD_DTYPES, check_fake
from ._library import register, register_autograd
from ._loss_options import CLASSIFICATIONS, LossOptions, pack_options

# The arrays of the op in order, with the dtypes that they may have.
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


def _outputs(images: Any, rows: Any, classification: int) -> tuple[tuple[tuple[Any, ...], str], ...]:
    """Return shape and dtype of losses, row_max and row_sum (empty for the focal loss), selected and normalizer."""
    statistics = (images, 0 if classification == CLASSIFICATIONS["focal"] else rows), "float32"
    return ((2,), "float32"), statistics, statistics, ((images, rows), "uint8"), ((images,), "float32")


def _contiguous(tensors: Sequence[Any]) -> list[Any]:
    return [
        arrays.contiguous(x, "multibox_loss", name, arrays.BOX_BYTES if name in _BOXES else 1)
        for x, name in zip(tensors, TENSORS, strict=True)
    ]


def _forward(*tensors_and_options: Any) -> tuple[Any, ...]:
    *given, options = tensors_and_options
    tensors = _contiguous(given)
    like = tensors[0]
    images, rows = arrays.dimension(like, 0), arrays.dimension(like, 1)
    shapes = _outputs(images, rows, options.classification)
    out = tuple(arrays.empty(shape, dtype, like, "multibox_loss") for shape, dtype in shapes)
    workspace = arrays.workspace(_backend.C.multibox_loss_workspace(like), like, "multibox_loss")
    _backend.C.multibox_loss_forward(*tensors, options, workspace, *out)
    return out


def _forward_fake(*args: torch.Tensor, **options: Any) -> tuple[torch.Tensor, ...]:
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
    for (name, dtypes), tensor, shape in zip(TENSORS.items(), args, shapes, strict=True):
        check_fake("multibox_loss", name, tensor, shape, dtypes, cls_logits)
    outputs = _outputs(images, rows, options["classification"])
    return tuple(cls_logits.new_empty(shape, dtype=getattr(torch, dtype)) for shape, dtype in outputs)


def _backward(grad_losses: Any, *tensors_and_options: Any) -> tuple[Any, Any]:
    *tensors, row_max, row_sum, selected, normalizer, options = tensors_and_options
    tensors = _contiguous(tensors)
    like, op = tensors[:2], "multibox_loss"
    grad_logits, grad_regression = (arrays.empty(x.shape, arrays.dtype_name(x), x, op) for x in like)
    grad_losses = arrays.contiguous(grad_losses, op, "grad_losses")
    saved = row_max, row_sum, selected, normalizer
    _backend.C.multibox_loss_backward(grad_losses, *tensors, options, *saved, grad_logits, grad_regression)
    return grad_logits, grad_regression


def _backward_fake(
    grad_losses: torch.Tensor, cls_logits: torch.Tensor, bbox_regression: torch.Tensor, *_: Any, **options: Any
) -> tuple[torch.Tensor, ...]:
    # Always contiguous, as the kernels write them.
    return cls_logits.new_empty(cls_logits.shape), bbox_regression.new_empty(bbox_regression.shape)


_INPUTS = (
    "Tensor cls_logits, Tensor bbox_regression, Tensor gt_boxes, Tensor gt_labels, Tensor offsets, "
    "Tensor matched_idxs, Tensor default_boxes"
)
_SAVED = "Tensor row_max, Tensor row_sum, Tensor selected, Tensor normalizer_values"

forward_op = register(
    f"multibox_loss_forward({_INPUTS}) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    _forward,
    _forward_fake,
    options=LossOptions,
    pack=pack_options,
    differentiable=True,
    known_as="multibox_loss",
)
_backward_op = register(
    f"multibox_loss_backward(Tensor grad_losses, {_INPUTS}, {_SAVED}) -> (Tensor, Tensor)",
    _backward,
    _backward_fake,
    options=LossOptions,
)


def _setup(
    ctx: Any, inputs: tuple[Any, ...], keyword_only_inputs: dict[str, Any], output: tuple[torch.Tensor, ...]
) -> None:
    for name, needs_gradient in zip(TENSORS, ctx.needs_input_grad, strict=False):
        refuse_gradient("multibox_loss", needs_gradient and name in _BOXES, name)
    _, *saved = output
    ctx.mark_non_differentiable(*saved)
    ctx.set_materialize_grads(False)  # else torch makes zeros for the tensors that the forward pass saved
    ctx.save_for_backward(*inputs, *saved)
    ctx.options = keyword_only_inputs


def _differentiate(ctx: Any, grad_losses: torch.Tensor | None, *_: Any) -> tuple[torch.Tensor | None, ...]:
    without = (None,) * (len(TENSORS) - 2)
    if grad_losses is None:
        return (None, None, *without)
    gradients = _backward_op.registered(grad_losses, *ctx.saved_tensors, **ctx.options)
    if torch.is_grad_enabled():  # create_graph: otherwise a second derivative would silently lack its share
        gradients = _NoDerivative.apply(*gradients, grad_losses, *ctx.saved_tensors[:2])
    return (*gradients, *without)


class _NoDerivative(torch.autograd.Function):
    """Gradients whose own derivatives, with respect to the arguments behind them, are not computed."""

    @staticmethod
    def forward(
        ctx: Any, grad_logits: torch.Tensor, grad_regression: torch.Tensor, *_: Any
    ) -> tuple[torch.Tensor, ...]:
        return grad_logits.view_as(grad_logits), grad_regression.view_as(grad_regression)

    @staticmethod
    def backward(ctx: Any, *_: Any) -> None:
        raise RuntimeError("multibox_loss: the derivative of its gradient is not computed (create_graph=True)")


register_autograd("multibox_loss_forward", _differentiate, _setup)
