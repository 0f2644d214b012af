"""Gradients of multibox_loss: any upstream gradients, float16 scaling, autocast, repeated backward passes."""

from __future__ import annotations

import pytest
import torch
from torch.utils._pytree import tree_map_only

import ssd_fast
from helpers import inputs
from helpers.checks import assert_same_bits
from helpers.loss_cases import PLAIN, check, hand_case, leaf, random_case, run
from ssd_fast import LossSpec


def test_gradients_by_hand(backend):
    _, (grad_logits, grad_deltas), _ = run(backend, hand_case(PLAIN), weights=(-2.0, 5.0))
    wanted = torch.zeros(3, 6, 3)
    wanted[0, [0, 1, 2, 5]] = torch.tensor(
        [[0.25, 0.25, -0.5], [-0.875, 0.625, 0.25], [-0.5, 0.25, 0.25], [-0.75, 0.25, 0.5]]
    )
    wanted[2, [0, 1, 5]] = torch.tensor([[0.25, -0.5, 0.25], [0.25, 0.25, -0.5], [-0.875, 0.625, 0.25]])
    torch.testing.assert_close(grad_logits, wanted * 5 / 3, rtol=1e-5, atol=1e-6)
    wanted = torch.zeros(3, 6, 4)
    wanted[0, 0] = torch.tensor([0.5, 0, 0, 1])
    wanted[2, 0, 0] = -1
    torch.testing.assert_close(grad_deltas, wanted * -2 / 3, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.0, 1.0), (2.0, -0.125), (65536.0, 65536.0), (0.0, 0.0)], ids=str)
def test_any_upstream_gradients_equal_reference(backend, weights):
    check(backend, random_case(6), weights=weights)


def test_one_loss_alone_has_gradient_of_its_head_only(backend):
    case = random_case(6)
    for name, zero in (("bbox_regression", 0), ("classification", 1)):
        leaves = leaf(tree_map_only(torch.Tensor, backend.to, case))
        ssd_fast.multibox_loss(*leaves, coder=PLAIN, loss=LossSpec())[name].backward()
        assert not leaves[zero].grad.any() and leaves[1 - zero].grad.any()


def test_two_backward_passes_give_same_gradients(backend):
    case = leaf(tree_map_only(torch.Tensor, backend.to, random_case(6)))
    losses = ssd_fast.multibox_loss(*case, coder=PLAIN, loss=LossSpec())
    total = sum(losses.values())
    first = torch.autograd.grad(total, case[:2], retain_graph=True)
    assert_same_bits(torch.autograd.grad(total, case[:2], retain_graph=True), first)
    total.backward(retain_graph=True)
    total.backward()
    for x, grad in zip(case[:2], first, strict=True):
        assert_same_bits(x.grad, 2 * grad)
    with pytest.raises(RuntimeError, match="second time"):
        total.backward()


def test_only_heads_that_require_grad_get_gradient(backend):
    case = tree_map_only(torch.Tensor, backend.to, random_case(6))
    losses = ssd_fast.multibox_loss(*case, coder=PLAIN, loss=LossSpec())
    assert not any(value.requires_grad for value in losses.values())
    _, both, _ = run(backend, random_case(6))
    for index in (0, 1):
        leaves = [x.clone().requires_grad_() if i == index else x for i, x in enumerate(case)]
        sum(ssd_fast.multibox_loss(*leaves, coder=PLAIN, loss=LossSpec()).values()).backward()
        assert_same_bits(leaves[index].grad.cpu(), both[index])
        assert leaves[1 - index].grad is None
    with torch.no_grad():
        assert not ssd_fast.multibox_loss(*leaves, coder=PLAIN, loss=LossSpec())["classification"].requires_grad


def test_losses_may_be_changed_in_place(backend):
    case = leaf(tree_map_only(torch.Tensor, backend.to, random_case(6)))
    losses = ssd_fast.multibox_loss(*case, coder=PLAIN, loss=LossSpec())
    losses["bbox_regression"] *= 3
    losses["classification"] += losses["bbox_regression"]
    losses["classification"].backward()
    _, gradients, _ = run(backend, random_case(6), weights=(3.0, 1.0))
    assert_same_bits([x.grad.cpu() for x in case[:2]], list(gradients))


def test_gradient_is_the_slope(backend):
    """Central differences do not depend on a formula. The logits are spread so that no step changes the mined rows."""
    case = tree_map_only(torch.Tensor, backend.to, random_case(7, images=2, rows=40, columns=4, one_in=5))
    _, gradients, _ = run(backend, case)
    for index, grad in enumerate(gradients):
        for place in grad.abs().flatten().topk(5).indices.tolist():
            values = []
            for step in (2.0**-6, -(2.0**-6)):
                moved = case[index].clone()
                moved.view(-1)[place] += step
                arguments = [moved if i == index else x for i, x in enumerate(case)]
                losses = ssd_fast.multibox_loss(*arguments, coder=PLAIN, loss=LossSpec())
                values.append(sum(value.double() for value in losses.values()).item())
            slope = (values[0] - values[1]) * 2.0**5
            assert grad.flatten()[place].item() == pytest.approx(slope, rel=5e-3, abs=1e-4)


def test_scaled_float16_gradients_do_not_underflow(backend):
    """A GradScaler's scale reaches the kernels before they round, so no gradient that float16 can hold becomes 0."""
    scale = 65536.0
    case = random_case(8, images=4, rows=2000, columns=21, one_in=10, scale=3.0).to(torch.float16)
    assert (case.matched_idxs >= 0).sum() > 500
    _, scaled, _ = run(backend, case, weights=(scale, scale))
    _, wide, _ = run(backend, case.to(torch.float32), weights=(scale, scale))
    _, unscaled, _ = run(backend, case)
    for ours, exact, without in zip(scaled, wide, unscaled, strict=True):
        assert_same_bits(ours, exact.half())
        held = exact.abs() >= 2.0**-24
        assert (ours[held] != 0).all() and ours.isfinite().all()
        assert (without.float() * scale - exact).abs().mean() > (ours.float() - exact).abs().mean()
    assert (unscaled[0][scaled[0] != 0] == 0).float().mean() > 0.01  # the reason for the scale


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_gradients_are_rounded_to_nearest_even(backend, dtype):
    """Multiply powers of two by midpoints between numbers of the dtype, also among subnormals and past its maximum."""
    rows, beta = 128, 2.0**16
    powers = 2.0 ** torch.arange(-24, 16).repeat(12)[: 2 * rows].float()
    case = random_case(1, images=1, rows=rows)
    case = case._replace(
        gt_boxes=[inputs.boxes(1, 1)],
        gt_labels=[torch.tensor([1])],
        matched_idxs=torch.zeros(1, rows, dtype=torch.int64),
        default_boxes=inputs.boxes(1, 1).repeat(rows, 1),  # target offsets are 0
        bbox_regression=torch.cat((powers, -powers)).reshape(1, rows, 4).to(dtype),
    )
    ties = [1 + 2.0**-11, 1 + 3 * 2.0**-11, 1 + 2.0**-8, 1 + 3 * 2.0**-8, 0.5, 1.5, 65520 / 2**15]
    for factor in (1.0, *ties, ties[0] + 2.0**-20, ties[2] - 2.0**-20, ties[-1] - 2.0**-20, 2.0, 1 / 3):
        # Every step of (offset / beta) * (weight / positives) but the last is exact.
        _, (_, grad), _ = run(backend, case, LossSpec(beta=beta), weights=(factor * beta * rows, 0.0))
        assert_same_bits(grad, (case.bbox_regression.float() * torch.tensor(factor)).to(dtype))


def test_autocast_and_grad_scaler_give_same_gradients(backend):
    torch.manual_seed(0)
    case = tree_map_only(torch.Tensor, backend.to, random_case(9, columns=4))
    features = backend.to(inputs.bell(1, 3, 101, 8))
    heads = backend.to(inputs.bell(2, 4, 8)), backend.to(inputs.bell(3, 4, 8))
    heads = [head.requires_grad_() for head in heads]
    gradients = []
    for scale in (1.0, 1024.0):
        scaler = torch.amp.GradScaler(backend.device.type, init_scale=scale, enabled=scale != 1)
        with torch.autocast(backend.device.type, dtype=torch.bfloat16):
            logits, deltas = (torch.nn.functional.linear(features, head) for head in heads)
            assert logits.dtype == torch.bfloat16
            losses = ssd_fast.multibox_loss(logits, deltas, *case[2:], coder=PLAIN, loss=LossSpec())
        assert all(value.dtype == torch.float32 for value in losses.values())
        grads = torch.autograd.grad(scaler.scale(sum(losses.values())), heads)
        gradients.append([grad / scale for grad in grads])
    for plain, scaled in zip(*gradients, strict=True):
        assert plain.isfinite().all() and plain.any()
        torch.testing.assert_close(plain, scaled, rtol=2.0**-7, atol=1e-4)
