"""Compares an accepted call's result with the reference's: bit for bit without exp and log, else by tolerance."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from helpers import checks, loss_cases
from helpers.tolerances import TOLERANCES, assert_near
from ssd_fast import reference

from .calls import Call

# One in so many calls is compared, since the reference is slow.
ONE_IN = {"nms": 2, "batched_nms": 2, "nms_padded": 3, "match": 2, "multibox_loss": 2, "postprocess": 2}
DIFFERENTIABLE = {
    "encode_boxes": ("boxes",),
    "decode_boxes": ("deltas",),
    "multibox_loss": ("cls_logits", "bbox_regression"),
}
_MOST_ROWS = 64  # of any array, for ops that are rarely compared
_ULP = 2.0**-23


def can_specify(call: Call, arguments: dict[str, Any], number: int) -> bool:
    """Return whether to compare this call, and whether the reference, which trusts its arguments, can make it."""
    if number % ONE_IN.get(call.op, 1) or (call.op == "postprocess" and not call.exact):
        return False
    if call.op in ONE_IN and any(max(x.shape, default=0) > _MOST_ROWS for x in tensors(arguments)) and number % 64:
        return False
    return _offsets_hold(arguments)


def tensors(arguments: dict[str, Any]) -> list[Tensor]:
    found: list[Tensor] = []
    for value in arguments.values():
        found += [x for x in (value if isinstance(value, (list, tuple)) else [value]) if isinstance(x, Tensor)]
    return found


def _offsets_hold(arguments: dict[str, Any]) -> bool:
    packed = arguments.get("gt_boxes")
    if not (isinstance(packed, tuple) and len(packed) == 2 and packed[1].ndim == 1):
        return True
    boxes, offsets = packed
    ends = offsets.tolist()
    return bool(ends) and ends[0] == 0 and ends[-1] == len(boxes) and ends == sorted(ends)


def compare(call: Call, arguments: dict[str, Any], outputs: Any, grads: Any) -> None:
    """Raise AssertionError if they differ.

    arguments: plain tensors; those to differentiate require grad. outputs, grads: the op's, as tensors.
    """
    arguments = {name: x.item() if isinstance(x, np.generic) else x for name, x in arguments.items()}
    if call.op in ("encode_boxes", "decode_boxes"):
        _compare_coder(call, arguments, outputs, grads)
    elif call.op == "multibox_loss":
        _compare_loss(call, arguments, outputs, grads)
    elif call.op == "postprocess":
        for name in ("cls_logits", "bbox_regression"):
            if isinstance(arguments[name], Tensor) and arguments[name].ndim == 4:
                arguments[name] = [arguments[name]]  # the reference wants raw maps in a list
        expected = reference.postprocess(**arguments)
        for field in ("counts", "labels", "box_idxs", "boxes"):
            checks.assert_same_bits(getattr(outputs, field), getattr(expected, field))
        torch.testing.assert_close(outputs.scores, expected.scores, rtol=0, atol=1e-6)
    else:
        checks.assert_same_bits(outputs, getattr(reference, call.op)(**arguments))


def gradients(call: Call, outputs: Any, arguments: dict[str, Any]) -> tuple[Any, ...] | None:
    """Return the gradients of arguments that require grad, from the call's upstream gradient; None without such."""
    inputs = [x for x in tensors(arguments) if x.requires_grad]
    results = list(outputs.values()) if isinstance(outputs, dict) else [outputs]
    results = [x for x in results if isinstance(x, Tensor) and x.requires_grad]
    if not inputs or not results:
        return None
    return torch.autograd.grad(results, inputs, [_from_above(call, x) for x in results], allow_unused=True)


def _from_above(call: Call, x: Tensor) -> Tensor:
    if call.backward == "ramp":
        return torch.linspace(-3, 2, max(x.numel(), 1))[: x.numel()].reshape(x.shape)
    return torch.ones(()).expand(x.shape)


def _compare_coder(call: Call, arguments: dict[str, Any], actual: Tensor, grads: Any) -> None:
    expected = getattr(reference, call.op)(**arguments)
    dtype = arguments["boxes" if call.op == "encode_boxes" else "deltas"].dtype
    ours, theirs = actual.detach(), expected.detach()
    if call.op == "encode_boxes":
        # The kernels' log takes a subnormal ratio of sizes for 0.
        boxes, default_boxes = (arguments[name].detach() for name in ("boxes", "default_boxes"))
        ratio = (boxes[..., 2:] - boxes[..., :2]) / (default_boxes[:, 2:] - default_boxes[:, :2])
        ratio = ratio if arguments["coder"].order == "xy" else ratio.flip(-1)
        excused = torch.cat((torch.zeros_like(ratio), (ratio != 0) & (ratio.abs() < 2.0**-126)), -1) != 0
        assert (ours.isneginf() | ~excused).all()
        assert_near(call.op, ours.masked_fill(excused, 0), theirs.masked_fill(excused, 0))
    else:
        # A corner is the center minus half the size: its error is the larger one's. exp may overflow an ulp early.
        scale = theirs.abs().amax(-1, keepdim=True) if theirs.numel() else theirs
        near = ((ours - theirs).abs() <= 8 * _ULP * scale + 1e-4) | (ours == theirs) | (ours.isnan() & theirs.isnan())
        near |= ~(scale < 3.4e38)
        assert near.all(), f"decoded {ours[~near].tolist()[:4]}, expected {theirs[~near].tolist()[:4]}"
    for a, b in _gradient_pairs(call, arguments, expected, grads) if call.tame else ():
        if b.numel() and bool(b.isfinite().all()) and float(b.abs().max()) < 1e4:
            # Each is a sum whose terms may cancel: its error is that of the largest in its row.
            tolerance, scale = TOLERANCES[f"{call.op} gradient", dtype], b.abs().amax(-1, keepdim=True)
            near = (a.float() - b.float()).abs() <= tolerance.rtol * scale + tolerance.atol
            assert a.dtype == b.dtype and near.all(), f"gradient {a[~near].tolist()[:4]}, not {b[~near].tolist()[:4]}"


def _gradient_pairs(call: Call, arguments: dict[str, Any], expected: Any, grads: Any) -> list[tuple[Tensor, Tensor]]:
    """Return the op's and the reference's gradient for each argument by which the op differentiates."""
    theirs = gradients(call, expected, arguments)
    if not call.backward or theirs is None:
        return []
    assert grads is not None, "no gradient"
    by = [x for x in tensors(arguments) if x.requires_grad]
    differentiable = [arguments[name] for name in DIFFERENTIABLE[call.op]]
    return [(a, b) for x, a, b in zip(by, grads, theirs, strict=True) if any(x is y for y in differentiable)]


def _compare_loss(call: Call, arguments: dict[str, Any], actual: dict[str, Tensor], grads: Any) -> None:
    expected = reference.multibox_loss(**arguments)
    if not call.tame:
        return
    for name in loss_cases.NAMES:
        torch.testing.assert_close(actual[name], expected[name], rtol=1e-5, atol=1e-6, equal_nan=True)
    inputs = [arguments[name] for name in loss_cases.Case._fields]
    certain = ~loss_cases.near_the_border(loss_cases.Case(*(_detached(x) for x in inputs)), arguments["loss"])
    for a, b in _gradient_pairs(call, arguments, expected, grads):
        rtol = loss_cases.GRADIENT_RTOL[a.dtype]
        torch.testing.assert_close(a[certain], b[certain], rtol=rtol, atol=1e-6, equal_nan=True)


def _detached(x: Any) -> Any:
    return x.detach() if isinstance(x, Tensor) else x
