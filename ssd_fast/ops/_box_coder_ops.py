"""The registered ops of encode_boxes and decode_boxes, and how torch differentiates them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from .. import _backend, arrays
from ..specs import BoxCoderSpec
from ._arguments import refuse_gradient
from ._fakes import HEAD_DTYPES, check_fake
from ._library import register, register_autograd
from ._options import as_keywords


class EncodeOptions(NamedTuple):
    """The fields of a BoxCoderSpec that encode_boxes reads."""

    variances: Sequence[float]
    yx: bool


class DecodeOptions(NamedTuple):
    """The fields of a BoxCoderSpec that decode_boxes reads."""

    variances: Sequence[float]
    log_scale_low: float
    log_scale_high: float
    yx: bool


def pack_encode_options(coder: BoxCoderSpec) -> EncodeOptions:
    """Return the options of the spec."""
    return EncodeOptions(list(coder.variances), yx=coder.order == "yx")


def pack_decode_options(coder: BoxCoderSpec) -> DecodeOptions:
    """Return the options of the spec."""
    return DecodeOptions(list(coder.variances), *coder.clamp_limits, yx=coder.order == "yx")


def _encode_boxes(boxes: Any, default_boxes: Any, options: dict[str, Any]) -> Any:
    boxes = arrays.contiguous(boxes, "encode_boxes", "boxes", arrays.BOX_BYTES)
    default_boxes = arrays.contiguous(default_boxes, "encode_boxes", "default_boxes", arrays.BOX_BYTES)
    out = arrays.empty(boxes.shape, "float32", boxes, "encode_boxes")
    _backend.C.encode_boxes(boxes, default_boxes, **options, out=out)
    return out


def _decode_boxes(deltas: Any, default_boxes: Any, options: dict[str, Any]) -> Any:
    deltas = arrays.contiguous(deltas, "decode_boxes", "deltas")
    default_boxes = arrays.contiguous(default_boxes, "decode_boxes", "default_boxes", arrays.BOX_BYTES)
    out = arrays.empty(deltas.shape, "float32", deltas, "decode_boxes")
    _backend.C.decode_boxes(deltas, default_boxes, **options, out=out)
    return out


def _encode_fake(boxes: torch.Tensor, default_boxes: torch.Tensor, **_: Any) -> torch.Tensor:
    return _fake("encode_boxes", "boxes", boxes, (torch.float32,), default_boxes)


def _decode_fake(deltas: torch.Tensor, default_boxes: torch.Tensor, **_: Any) -> torch.Tensor:
    return _fake("decode_boxes", "deltas", deltas, HEAD_DTYPES, default_boxes)


def _fake(
    op: str, argument: str, rows: torch.Tensor, dtypes: Sequence[torch.dtype], default_boxes: torch.Tensor
) -> torch.Tensor:
    check_fake(op, "default_boxes", default_boxes, (None, 4), (torch.float32,), default_boxes)
    leading = (None,) * (rows.ndim - 2)
    check_fake(op, argument, rows, (*leading, default_boxes.shape[0], 4), dtypes, default_boxes)
    return torch.empty(rows.shape, dtype=torch.float32, device=rows.device)


encode_op = register(
    "encode_boxes(Tensor boxes, Tensor default_boxes) -> Tensor",
    _encode_boxes,
    _encode_fake,
    options=EncodeOptions,
    pack=pack_encode_options,
    prepare=as_keywords,
    differentiable=True,
)
decode_op = register(
    "decode_boxes(Tensor deltas, Tensor default_boxes) -> Tensor",
    _decode_boxes,
    _decode_fake,
    options=DecodeOptions,
    pack=pack_decode_options,
    prepare=as_keywords,
    differentiable=True,
)

# ---- gradients: the derivatives of the two formulas, in torch, so that they trace and compile ------------------------


def _split(rows: torch.Tensor, yx: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Split offsets into (x, y) and (w, h), whatever order they are stored in."""
    centers, sizes = rows[..., :2], rows[..., 2:]
    return (centers.flip(-1), sizes.flip(-1)) if yx else (centers, sizes)


def _encode_setup(ctx: Any, inputs: tuple[Any, ...], keyword_only_inputs: dict[str, Any], output: torch.Tensor) -> None:
    refuse_gradient("encode_boxes", ctx.needs_input_grad[1], "default_boxes")
    ctx.options = EncodeOptions(**keyword_only_inputs)
    ctx.save_for_backward(*inputs)


def _encode_backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
    boxes, default_boxes = ctx.saved_tensors
    variances = grad.new_tensor(ctx.options.variances)
    grad_center, grad_size = _split(grad, ctx.options.yx)
    grad_center = grad_center / (default_boxes[:, 2:] - default_boxes[:, :2]) / variances[:2]
    grad_size = grad_size / (boxes[..., 2:] - boxes[..., :2]) / variances[2:]
    return torch.cat((0.5 * grad_center - grad_size, 0.5 * grad_center + grad_size), -1), None


def _decode_setup(ctx: Any, inputs: tuple[Any, ...], keyword_only_inputs: dict[str, Any], output: torch.Tensor) -> None:
    refuse_gradient("decode_boxes", ctx.needs_input_grad[1], "default_boxes")
    ctx.options = DecodeOptions(**keyword_only_inputs)
    ctx.save_for_backward(*inputs)


def _decode_backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
    deltas, default_boxes = ctx.saved_tensors
    variance_row, low, high, yx = ctx.options
    variances = grad.new_tensor(variance_row)
    sizes = default_boxes[:, 2:] - default_boxes[:, :2]
    log_scale = _split(deltas.float(), yx)[1] * variances[2:]
    passes = (log_scale >= low) & (log_scale <= high)
    scaled = torch.exp(log_scale.clamp(low, high)) * sizes
    grad_center = (grad[..., :2] + grad[..., 2:]) * sizes * variances[:2]
    grad_size = 0.5 * (grad[..., 2:] - grad[..., :2]) * scaled * variances[2:] * passes
    order = [1, 0] if yx else [0, 1]
    rows = torch.cat((grad_center[..., order], grad_size[..., order]), -1)
    return rows.to(deltas.dtype), None


register_autograd("encode_boxes", _encode_backward, _encode_setup)
register_autograd("decode_boxes", _decode_backward, _decode_setup)
