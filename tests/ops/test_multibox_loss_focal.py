"""multibox_loss with the focal loss gives the reference's values and gradients, with the same bits on every backend."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._pytree import tree_map_only

import ssd_fast
from helpers import inputs
from helpers.checks import assert_numpy_agrees, assert_same_bits, assert_well_registered, one_thread, specified
from helpers.focal_losses import by_hand, torchvision_loss
from helpers.loss_cases import (
    CODERS,
    CPU,
    FOCAL_HANDS,
    FOCAL_SPECS,
    PLAIN,
    check,
    expected,
    focal_hand_case,
    leaf,
    random_case,
    run,
)
from ssd_fast import LossSpec, _backend

INF, NAN = inputs.INF, inputs.NAN
RETINANET = FOCAL_SPECS["retinanet"]

every_spec = pytest.mark.parametrize("loss", FOCAL_SPECS.values(), ids=FOCAL_SPECS.keys())


# ---- by hand --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FOCAL_HANDS)
def test_by_hand(backend, name):
    of_rows = FOCAL_HANDS[name]
    for alpha, gamma in ((0.25, 2.0), (0.6, 0.0), (0.1, 0.5)):
        loss = LossSpec(classification="focal", background=of_rows.background, focal_alpha=alpha, focal_gamma=gamma)
        losses, gradients, (row_max, row_sum, selected, normalizer) = run(backend, focal_hand_case(), loss)
        assert losses["bbox_regression"].item() == pytest.approx(1 / 2, rel=1e-6)
        assert losses["classification"].item() == pytest.approx(by_hand(of_rows, alpha, gamma), rel=1e-5)
        assert selected.tolist() == [[2, 1, 0, 2]] and normalizer.tolist() == [2.0]
        assert row_max.shape == row_sum.shape == (1, 0)
        assert gradients[0][0].ne(0).all(-1).tolist() == [True, True, False, True]


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 1e9])
def test_infinite_and_nan_logits_by_hand(backend, gamma):
    """In row 0, column 1 is a target and column 2 is not: where they are right, their losses and slopes vanish."""
    loss = LossSpec(classification="focal", background=None, focal_gamma=gamma)
    for column, logit, value, slope in (
        (1, INF, 0, 0),
        (1, -INF, INF, -0.25),
        (2, INF, INF, 0.75),
        (2, -INF, 0, 0),
        (1, NAN, NAN, NAN),
        (2, NAN, NAN, NAN),
        (1, 3e38, 0, 0),
        (1, -1e38, 0.25e38, -0.25),
        (2, 1e38, 0.75e38, 0.75),
        (2, -3e38, 0, 0),
    ):
        case = focal_hand_case()
        case.matched_idxs[0, [1, 3]] = -2
        case.cls_logits[0, 0] = torch.tensor([-INF, INF, -INF])  # all right
        case.cls_logits[0, 1:] = torch.tensor([NAN, INF, -INF])  # ignored
        case.cls_logits[0, 0, column] = logit
        losses, (grad_logits, _), _ = run(backend, case, loss)
        assert losses["classification"].item() == pytest.approx(value, rel=1e-6, nan_ok=True)
        wanted = torch.zeros(1, 4, 3)
        wanted[0, 0, column] = slope
        torch.testing.assert_close(grad_logits, wanted, equal_nan=True)


# ---- against the reference ------------------------------------------------------------------------------------------


@every_spec
@pytest.mark.parametrize("coder", CODERS.values(), ids=CODERS.keys())
def test_specs_equal_reference(backend, loss, coder):
    for seed, columns in ((1, 3), (2, 5), (3, 21)):
        case = random_case(seed, columns=columns, background=loss.background)
        losses, _, (_, _, selected, _) = check(backend, case, loss, coder, weights=(0.7, -3.0))
        assert all(value > 0 for value in losses.values())
        positive, free = case.matched_idxs >= 0, case.matched_idxs == -1
        if loss.normalizer == "positives_per_image":
            free &= positive.any(1, keepdim=True)  # the first image has no positives and contributes nothing
        assert torch.equal(selected == 2, positive) and torch.equal(selected == 1, free)


@pytest.mark.parametrize("rows", [*inputs.BORDER_SIZES, 1023, 1024, 1025, 2500])
def test_border_sizes_equal_reference(backend, rows):
    for columns, loss in ((1, RETINANET), (2, FOCAL_SPECS["tensorflow"])):
        case = random_case(rows + columns, rows=rows, columns=columns, background=loss.background, one_in=6)
        check(backend, case, loss)


@pytest.mark.parametrize("columns", [15, 16, 17, 31, 32, 33, 91, 200, 1000])
def test_border_numbers_of_columns_equal_reference(backend, columns):
    check(backend, random_case(columns, images=2, rows=70, columns=columns, background=None, one_in=6), RETINANET)


@pytest.mark.parametrize("images", [0, 1, 2, 33])
@every_spec
def test_numbers_of_images_equal_reference(backend, loss, images):
    case = random_case(images, images=images, rows=20, columns=4, background=loss.background, one_in=6)
    losses, _, _ = check(backend, case, loss)
    assert images > 0 or not any(losses.values())


@given(
    seed=st.integers(0, 2**31),
    shape=st.tuples(st.integers(0, 4), st.integers(0, 150), st.integers(1, 12)),
    background=st.sampled_from([None, 0, -1]),
    alpha=st.sampled_from([None, 0.25, 0.9]),
    gamma=st.sampled_from([0.0, 0.3, 1.0, 2.0, 5.0]),
    one_in=st.integers(2, 30),
    scale=st.sampled_from([0.5, 2.0, 30.0]),
    normalizer=st.sampled_from(["positives", "positives_per_image", "sum_max_one"]),
)
def test_random_cases_equal_reference(backend, seed, shape, background, alpha, gamma, one_in, scale, normalizer):
    images, rows, columns = shape
    if background is not None:
        columns += 1
    loss = LossSpec(
        background=background,
        classification="focal",
        focal_alpha=alpha,
        focal_gamma=gamma,
        normalizer=normalizer,
    )
    case = random_case(
        seed, images=images, rows=rows, columns=columns, background=background, one_in=one_in, scale=scale
    )
    check(backend, case, loss)


def test_full_size_equals_reference(backend):
    check(backend, random_case(1, images=2, rows=8732, columns=21, background=None, one_in=400), RETINANET)


@every_spec
def test_focal_loss_equals_torchvision(backend, loss):
    case = random_case(8, images=4, rows=300, columns=21, background=loss.background)
    losses, (grad_logits, _), _ = run(backend, case, loss, weights=(0.0, 1.0))
    case = leaf(case.to(torch.float64))
    with one_thread():
        theirs = torchvision_loss(case, loss)
        theirs.backward()
    torch.testing.assert_close(losses["classification"].double(), theirs.detach(), rtol=1e-5, atol=0)
    torch.testing.assert_close(grad_logits.double(), case.cls_logits.grad, rtol=1e-4, atol=1e-9)


def test_small_losses_keep_their_digits(backend):
    """Near p = 1, float32 loses the digits of -log p in 1 - p, and those of 1 - p in 1 / (1 + exp(-z))."""
    z = torch.linspace(-80, 80, 641)
    rows = len(z)
    case = focal_hand_case()
    case = case._replace(  # the one column is the target of every row
        cls_logits=z.reshape(1, rows, 1),
        bbox_regression=torch.zeros(1, rows, 4),
        gt_labels=[torch.tensor([0, 0])],
        matched_idxs=torch.zeros(1, rows, dtype=torch.int64),
        default_boxes=case.default_boxes[:1].repeat(rows, 1),
    )
    for gamma in (0.0, 2.0):
        loss = LossSpec(classification="focal", background=None, focal_alpha=None, focal_gamma=gamma)
        _, (grad_logits, _), _ = run(backend, case, loss, weights=(0.0, float(rows)))
        precise = leaf(case.to(torch.float64))
        (rows * specified("multibox_loss", *precise, coder=PLAIN, loss=loss)["classification"]).backward()
        wanted = precise.cls_logits.grad
        shown = wanted.abs() > 1e-36
        torch.testing.assert_close(grad_logits.double()[shown], wanted[shown], rtol=3e-5, atol=0)
        for value in z[::20]:
            one = case._replace(cls_logits=torch.full_like(case.cls_logits, float(value)))
            losses, _, _ = run(backend, one, loss)
            exact = -torch.nn.functional.logsigmoid(value.double()) * torch.sigmoid(-value.double()) ** gamma
            if exact > 1e-36:
                assert losses["classification"].item() == pytest.approx(exact.item(), rel=3e-5)


def test_log1p_keeps_digits_of_small_arguments(backend):
    """The losses of easy logits depend on them. (make sweep takes every float from 0 to 1.)"""
    x = torch.cat((inputs.uniform(1, 3000), torch.exp2(inputs.uniform(2, 3000, low=-126, high=0)), torch.ones(1)))
    ours = torch.tensor([_backend.C.log1p(value) for value in x.tolist()])
    ulps = (ours.double() - x.double().log1p()).abs() / torch.from_numpy(np.spacing(ours.numpy())).double()
    assert ulps.max() <= 1.5
    assert [_backend.C.log1p(value) for value in (0.0, 1e-40)] == [0.0, float(torch.tensor(1e-40))]
    assert math.isnan(_backend.C.log1p(NAN))


@pytest.mark.parametrize("logits_dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("deltas_dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_narrow_inputs_are_widened(backend, logits_dtype, deltas_dtype):
    case = random_case(4, background=None)
    case = case._replace(
        cls_logits=case.cls_logits.to(logits_dtype), bbox_regression=case.bbox_regression.to(deltas_dtype)
    )
    losses, gradients, saved = check(backend, case, RETINANET, weights=(3.0, 5.0))
    wide_losses, wide_gradients, wide_saved = run(backend, case.to(torch.float32), RETINANET, weights=(3.0, 5.0))
    assert_same_bits((losses, saved), (wide_losses, wide_saved))
    assert_same_bits(gradients, (wide_gradients[0].to(logits_dtype), wide_gradients[1].to(deltas_dtype)))


@every_spec
def test_losses_equal_cpu_bit_for_bit(backend, monkeypatch, loss):
    """Compare with the CPU kernels on one thread."""
    strange = random_case(6, images=2, rows=300, columns=5, background=loss.background)
    strange.cls_logits[inputs.integers(1, 0, 9, 2, 300, 5) == 0] = INF
    strange.cls_logits[inputs.integers(2, 0, 9, 2, 300, 5) == 0] = -INF
    strange.cls_logits[1][inputs.integers(3, 0, 60, 300, 5) == 0] = NAN
    for case in (
        random_case(7, images=4, rows=1100, columns=21, background=loss.background),
        random_case(8, images=3, rows=65, columns=91, background=loss.background).to(torch.float16).packed(),
        random_case(9, images=2, rows=2049, columns=4, background=loss.background, scale=40.0).to(torch.bfloat16),
        strange,
    ):
        actual = run(backend, case, loss, CODERS["yx"], weights=(0.3, 7.0))
        with monkeypatch.context() as patch, one_thread():
            patch.setattr(_backend, "C", _backend._C)
            wanted = run(CPU, case, loss, CODERS["yx"], weights=(0.3, 7.0))
        assert_same_bits(actual, wanted)


# ---- ignored rows ---------------------------------------------------------------------------------------------------


def test_loss_of_nothing_selected_is_zero(backend):
    case = random_case(1, background=None)
    for arguments in (
        case._replace(matched_idxs=torch.full_like(case.matched_idxs, -2)),
        random_case(1, images=0),
        random_case(1, rows=0),
    ):
        losses, gradients, (_, _, selected, normalizer) = check(backend, arguments, RETINANET)
        assert [value.item() for value in losses.values()] == [0, 0]
        assert not any(grad.any() for grad in gradients) and not selected.any() and (normalizer >= 1).all()


def test_labels_and_matches_out_of_range_are_ignored(backend):
    """Without a background, column 0 is a label like any other; an ignored row may hold NaN."""
    case = random_case(5, rows=400, background=None)
    labels = [label.clone() for label in case.gt_labels]
    labels[1][1], labels[2][1:4] = 0, torch.tensor([5, -1, 2**40])
    matched = case.matched_idxs.clone()
    matched[:, :4] = torch.tensor([2**40, -3, -(2**62), 99])
    wrong = case._replace(gt_labels=labels, matched_idxs=matched)
    ignored = matched.clone()
    ignored[:, :4] = -2
    ignored[2][(matched[2] >= 1) & (matched[2] < 4)] = -2
    wrong.cls_logits[ignored == -2] = NAN
    assert (ignored[1] == 1).any() and (ignored >= 0).sum() > 20
    harmless = check(backend, case._replace(gt_labels=labels, matched_idxs=ignored), RETINANET)
    for arguments in (wrong, wrong.packed()):
        assert_same_bits(run(backend, arguments, RETINANET), harmless)
    assert all(x.isfinite().all() for x in (*harmless[0].values(), *harmless[1]))


def test_nan_spoils_only_its_own_gradient(backend):
    case = random_case(2, background=None)
    image, row = (case.matched_idxs == -1).nonzero()[77].tolist()
    case.cls_logits[image, row, 3] = NAN
    losses, gradients, _ = check(backend, case, RETINANET)
    assert losses["classification"].isnan() and losses["bbox_regression"].isfinite()
    assert gradients[0].isnan().nonzero().tolist() == [[image, row, 3]]


# ---- gradients ------------------------------------------------------------------------------------------------------


def test_scaled_float16_gradients_do_not_underflow(backend):
    scale = 65536.0
    case = random_case(8, images=4, rows=2000, columns=21, background=None, one_in=10).to(torch.float16)
    _, scaled, _ = run(backend, case, RETINANET, weights=(scale, scale))
    _, wide, _ = run(backend, case.to(torch.float32), RETINANET, weights=(scale, scale))
    _, unscaled, _ = run(backend, case, RETINANET)
    for ours, exact in zip(scaled, wide, strict=True):
        assert_same_bits(ours, exact.half())
        assert (ours[exact.abs() >= 2.0**-24] != 0).all() and ours.isfinite().all()
    assert (unscaled[0][scaled[0] != 0] == 0).float().mean() > 0.01  # the reason for the scale


def test_autocast_and_grad_scaler_give_same_gradients(backend):
    case = tree_map_only(torch.Tensor, backend.to, random_case(9, columns=4, background=None))
    features = backend.to(inputs.bell(1, 3, 101, 8))
    heads = [backend.to(inputs.bell(seed, 4, 8)).requires_grad_() for seed in (2, 3)]
    gradients = []
    for scale in (1.0, 1024.0):
        scaler = torch.amp.GradScaler(backend.device.type, init_scale=scale, enabled=scale != 1)
        with torch.autocast(backend.device.type, dtype=torch.bfloat16):
            logits, deltas = (torch.nn.functional.linear(features, head) for head in heads)
            losses = ssd_fast.multibox_loss(logits, deltas, *case[2:], coder=PLAIN, loss=RETINANET)
        assert all(value.dtype == torch.float32 for value in losses.values())
        grads = torch.autograd.grad(scaler.scale(sum(losses.values())), heads)
        gradients.append([grad / scale for grad in grads])
    for plain, scaled in zip(*gradients, strict=True):
        assert plain.isfinite().all() and plain.any()
        torch.testing.assert_close(plain, scaled, rtol=2.0**-7, atol=1e-4)


def test_any_upstream_gradients_equal_reference(backend):
    case = random_case(6, background=None)
    for weights in ((1.0, 0.0), (0.0, 1.0), (2.0, -0.125), (0.0, 0.0)):
        check(backend, case, RETINANET, weights=weights)
    assert expected(case, RETINANET)[0]["classification"] > 0


# ---- registration, other arrays, rejections -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("name", ["retinanet", "last"])
def test_op_is_well_registered(backend, dtype, name):
    case = random_case(1, rows=40, background=FOCAL_SPECS[name].background).to(dtype).packed()
    case = leaf(tree_map_only(torch.Tensor, backend.to, case))
    boxes, offsets = case.gt_boxes

    def op(logits, deltas, boxes, offsets, labels, matched, default_boxes):
        arguments = (logits, deltas, (boxes, offsets), labels, matched, default_boxes)
        return ssd_fast.multibox_loss(*arguments, coder=PLAIN, loss=FOCAL_SPECS[name])

    assert_well_registered(op, *case[:2], boxes, offsets, *case[3:])


def test_numpy_arrays_give_same_loss(backend):
    if backend.name != "cuda":
        case = random_case(1, background=None)
        assert_numpy_agrees(ssd_fast.multibox_loss, *case, coder=CODERS["yx"], loss=RETINANET)


def test_rejected_columns(backend):
    case = tree_map_only(torch.Tensor, backend.to, random_case(1, rows=6, columns=4))
    for loss, columns, message in (
        (LossSpec(classification="focal", background=4), 4, "loss.background: expected a column below 4, got 4"),
        (LossSpec(classification="focal"), 1, "cls_logits: expected at least 2 columns, got 1"),
        (RETINANET, 0, "cls_logits: expected at least 1 column, got 0"),
    ):
        arguments = case._replace(cls_logits=case.cls_logits[..., :columns])
        with pytest.raises(ValueError, match=f"^multibox_loss: {message}"):
            ssd_fast.multibox_loss(*arguments, coder=PLAIN, loss=loss)
