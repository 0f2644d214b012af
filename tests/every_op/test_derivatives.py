"""Derivatives that the ops do not compute are refused by name, never silently left out."""

from __future__ import annotations

import pytest
import torch

import ssd_fast
from helpers.op_calls import CODER, make_boxes
from ssd_fast import LossSpec


def losses(logits: torch.Tensor, boxes: torch.Tensor, default_boxes: torch.Tensor) -> torch.Tensor:
    labels, matched = torch.ones(1, dtype=torch.int64), torch.zeros(1, 5, dtype=torch.int64)
    deltas = torch.zeros(1, 5, 4)
    values = ssd_fast.multibox_loss(
        logits, deltas, [boxes[:1]], [labels], matched, default_boxes, coder=CODER, loss=LossSpec()
    )
    return sum(values.values())


BOXES, LOGITS = make_boxes(5), torch.rand(1, 5, 3)
CALLS = {
    "encode_boxes": lambda boxes: ssd_fast.encode_boxes(BOXES, boxes, CODER),
    "decode_boxes": lambda boxes: ssd_fast.decode_boxes(torch.zeros(5, 4), boxes, CODER),
    "multibox_loss": lambda boxes: losses(LOGITS, BOXES, boxes),
}


@pytest.mark.parametrize("op", CALLS)
def test_ops_refuse_gradient_of_default_boxes(op):
    boxes = BOXES.clone().requires_grad_()
    with pytest.raises(ValueError, match=rf"^{op}: default_boxes: expected a tensor that requires no gradient"):
        CALLS[op](boxes)
    with torch.no_grad():
        assert not CALLS[op](boxes).requires_grad
    assert torch.equal(CALLS[op](boxes.detach()), CALLS[op](BOXES))


def test_multibox_loss_refuses_gradient_of_ground_truths():
    boxes = BOXES.clone().requires_grad_()
    with pytest.raises(ValueError, match=r"^multibox_loss: gt_boxes: expected a tensor that requires no gradient"):
        losses(LOGITS, boxes, BOXES)


@pytest.mark.parametrize(
    ("name", "function", "primal"),
    [
        ("box_iou: boxes1", lambda boxes: ssd_fast.box_iou(boxes, BOXES), BOXES),
        ("box_iou: boxes2", lambda boxes: ssd_fast.box_iou(BOXES, boxes), BOXES),
        ("encode_boxes: boxes", lambda boxes: ssd_fast.encode_boxes(boxes, BOXES, CODER), BOXES),
        ("decode_boxes: deltas", lambda deltas: ssd_fast.decode_boxes(deltas, BOXES, CODER), BOXES),
        ("decode_boxes: default_boxes", CALLS["decode_boxes"], BOXES),
        ("multibox_loss: cls_logits", lambda logits: losses(logits, BOXES, BOXES), LOGITS),
        ("multibox_loss: default_boxes", CALLS["multibox_loss"], BOXES),
        (
            r"postprocess: cls_logits\[0\]",
            lambda x: ssd_fast.postprocess(x, torch.zeros(1, 5, 4), BOXES, ssd_fast.PostprocessSpec(), coder=CODER)[1],
            LOGITS,
        ),
    ],
)
def test_ops_refuse_forward_mode(name, function, primal):
    why = "this op has no gradient" if name.startswith(("box_iou", "postprocess")) else r".*\(use reverse mode\)"
    expected = rf"^{name}: expected a tensor without a tangent, since {why}, got one with a tangent$"
    with pytest.raises(RuntimeError, match=expected):
        torch.func.jvp(function, (primal,), (torch.ones_like(primal),))
    with torch.autograd.forward_ad.dual_level():
        with pytest.raises(RuntimeError, match=expected):
            function(torch.autograd.forward_ad.make_dual(primal, torch.ones_like(primal)))
        assert torch.equal(function(primal), function(primal.clone()))  # without a tangent nothing is refused


@pytest.mark.parametrize("transform", [torch.func.grad, torch.func.jacrev])
def test_ops_refuse_transforms_of_torch_func(transform):
    for op, function in {
        "decode_boxes": lambda x: ssd_fast.decode_boxes(x, BOXES, CODER).sum(),
        "encode_boxes": lambda x: ssd_fast.encode_boxes(x, BOXES, CODER).sum(),
        "multibox_loss": lambda x: losses(x, BOXES, BOXES),
    }.items():
        primal = LOGITS if op == "multibox_loss" else BOXES
        with pytest.raises(
            RuntimeError, match=rf"^{op}: expected derivatives by torch.autograd [^\n]+, got a transform"
        ):
            transform(function)(primal)


def test_nms_under_jvp_is_accepted_since_indices_have_no_derivative():
    kept, _ = torch.func.jvp(lambda boxes: boxes[ssd_fast.nms(boxes, torch.rand(5), 0.5)[:1]], (BOXES,), (BOXES,))
    assert kept.shape == (1, 4)


def test_multibox_loss_refuses_second_derivatives():
    """Added to a loss that has second derivatives, they were once missing from the sum."""
    logits = LOGITS.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(losses(logits, BOXES, BOXES) + (logits**3).sum(), logits, create_graph=True)
    with pytest.raises(RuntimeError, match=r"^multibox_loss: the derivative of its gradient is not computed"):
        torch.autograd.grad(gradient.sum(), logits)
    (again,) = torch.autograd.grad(losses(logits, BOXES, BOXES) + (logits**3).sum(), logits)
    assert torch.equal(gradient.detach(), again)


def test_decode_boxes_has_second_derivatives():
    deltas = torch.randn(5, 4, dtype=torch.float32).requires_grad_()
    (gradient,) = torch.autograd.grad(ssd_fast.decode_boxes(deltas, BOXES, CODER).sum(), deltas, create_graph=True)
    (second,) = torch.autograd.grad((gradient**2).sum(), deltas)
    (plain,) = torch.autograd.grad(
        ssd_fast.reference.decode_boxes(deltas, BOXES, CODER).sum(), deltas, create_graph=True
    )
    (expected,) = torch.autograd.grad((plain**2).sum(), deltas)
    torch.testing.assert_close(second, expected)
