"""The specification of the MultiBox loss against hand-worked tables, torchvision's loss and numerical slopes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.ssd import SSD

from helpers import inputs
from helpers.checks import one_thread
from helpers.loss_cases import CODERS, HANDS, LN2, PLAIN, SPECS, hand_case, leaf, near_the_border, random_case
from ssd_fast import reference
from ssd_fast.presets import preset
from ssd_fast.specs import BoxCoderSpec, LossSpec


@pytest.fixture(autouse=True)
def single_threaded():
    with one_thread():
        yield


def gradients(losses, case, weights=(1.0, 1.0)):
    """Return the gradients of the head outputs for the two losses with these weights."""
    total = weights[0] * losses["bbox_regression"] + weights[1] * losses["classification"]
    return torch.autograd.grad(total, case[:2])


# ---- by hand --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("background", [0, -1, 1])
@pytest.mark.parametrize("order", ["xy", "yx"])
@pytest.mark.parametrize("name", HANDS)
def test_by_hand(name, order, background):
    loss, regression, classification, mined = HANDS[name]
    loss = LossSpec(**{**vars(loss), "background": background})
    coder = BoxCoderSpec(order=order)
    case = leaf(hand_case(coder, background))
    for arguments in (case, case.packed()):
        losses = reference.multibox_loss(*arguments, coder=coder, loss=loss)
        assert list(losses) == ["bbox_regression", "classification"]
        assert all(value.shape == () and value.dtype == torch.float32 for value in losses.values())
        assert losses["bbox_regression"].item() == pytest.approx(regression, rel=1e-6)
        assert losses["classification"].item() == pytest.approx(classification * LN2, rel=1e-5)
    grad_logits, _ = gradients(losses, case)
    rows = [row.nonzero()[:, 0].tolist() for row in grad_logits.abs().sum(-1)]
    assert rows == [
        sorted({*positives, *negatives}) for positives, negatives in zip([[0], [], [0, 1]], mined, strict=True)
    ]


def test_gradients_by_hand():
    case = leaf(hand_case(PLAIN))
    grad_logits, grad_deltas = gradients(reference.multibox_loss(*case, coder=PLAIN, loss=LossSpec()), case)
    expected = torch.zeros(3, 6, 3)
    expected[0, [0, 1, 2, 5]] = torch.tensor(
        [[0.25, 0.25, -0.5], [-0.875, 0.625, 0.25], [-0.5, 0.25, 0.25], [-0.75, 0.25, 0.5]]
    )
    expected[2, [0, 1, 5]] = torch.tensor([[0.25, -0.5, 0.25], [0.25, 0.25, -0.5], [-0.875, 0.625, 0.25]])
    torch.testing.assert_close(grad_logits, expected / 3, rtol=1e-5, atol=1e-6)
    expected = torch.zeros(3, 6, 4)
    expected[0, 0] = torch.tensor([0.5, 0, 0, 1])
    expected[2, 0, 0] = -1
    torch.testing.assert_close(grad_deltas, expected / 3, rtol=1e-5, atol=1e-6)


def test_loss_of_nothing_selected_is_zero():
    case = random_case(1)
    nothing = [
        case._replace(matched_idxs=torch.full_like(case.matched_idxs, -1)),
        case._replace(matched_idxs=torch.full_like(case.matched_idxs, -2)),
        random_case(1, images=0),
        random_case(1, rows=0),
    ]
    for arguments in map(leaf, nothing):
        losses = reference.multibox_loss(*arguments, coder=PLAIN, loss=LossSpec())
        assert [value.item() for value in losses.values()] == [0, 0]
        for grad, x in zip(gradients(losses, arguments), arguments[:2], strict=True):
            assert grad.shape == x.shape and not grad.any()


def test_labels_and_matches_out_of_range_are_ignored():
    case = hand_case(PLAIN)
    expected = reference.multibox_loss(*case, coder=PLAIN, loss=LossSpec())
    extra = torch.tensor([0, 3, -1, 2**40, -(2**62)])  # the background, and columns that do not exist
    labels = [torch.cat((x, extra[: 2 * (n == 0)])) for n, x in enumerate(case.gt_labels)]
    boxes = [torch.cat((x, inputs.boxes(1, 2 * (n == 0)))) for n, x in enumerate(case.gt_boxes)]
    matched = case.matched_idxs.clone()
    for wrong in (2, 3, 4, 2**40, -3, -(2**62)):
        matched[0, 3] = wrong
        changed = case._replace(gt_boxes=boxes, gt_labels=labels, matched_idxs=matched)
        assert reference.multibox_loss(*changed, coder=PLAIN, loss=LossSpec()) == expected
    for label in extra.tolist():
        labels[0][2] = label
        matched[0, 3] = 2
        changed = case._replace(gt_boxes=boxes, gt_labels=labels, matched_idxs=matched)
        assert reference.multibox_loss(*changed, coder=PLAIN, loss=LossSpec()) == expected


def test_nan_is_mined_first_and_seen():
    case = hand_case(PLAIN)
    case.cls_logits[0, 4, 1] = inputs.NAN
    loss = LossSpec(negatives_per_positive=1.0)
    case = leaf(case)
    losses = reference.multibox_loss(*case, coder=PLAIN, loss=loss)
    assert losses["classification"].isnan() and losses["bbox_regression"].isfinite()
    grad_logits, _ = gradients(losses, case)
    assert grad_logits[0].isnan().any(-1).tolist() == [False] * 4 + [True, False] and not grad_logits[0, 1].any()
    ignored = case._replace(matched_idxs=case.matched_idxs.index_fill(1, torch.tensor([4]), -2))
    losses = reference.multibox_loss(*ignored, coder=PLAIN, loss=loss)
    assert losses["classification"].isfinite()
    assert all(grad.isfinite().all() for grad in gradients(losses, ignored))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_inputs_are_widened(dtype):
    case = leaf(random_case(2).to(dtype))
    narrow = reference.multibox_loss(*case, coder=PLAIN, loss=LossSpec())
    wide = reference.multibox_loss(*case.to(torch.float32), coder=PLAIN, loss=LossSpec())
    assert narrow == wide and all(value.dtype == torch.float32 for value in narrow.values())
    assert [grad.dtype for grad in gradients(narrow, case)] == [dtype, dtype]


# ---- torchvision, and slopes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed, columns", [(0, 2), (1, 21), (2, 91), (3, 21)])
def test_loss_equals_torchvision(seed, columns):
    """Call torchvision's own method on an SSD without a network. It does not know ignored rows."""
    case = random_case(seed, images=4, rows=800, columns=columns, one_in=25)
    case = leaf(case._replace(matched_idxs=case.matched_idxs.clamp(min=-1)))
    assert not near_the_border(case, LossSpec()).any() and (case.matched_idxs >= 0).sum() > 60
    model = SimpleNamespace(box_coder=BoxCoder((10.0, 10.0, 5.0, 5.0)), neg_to_pos_ratio=3)
    targets = [{"boxes": b, "labels": x} for b, x in zip(case.gt_boxes, case.gt_labels, strict=True)]
    heads = {"cls_logits": case.cls_logits, "bbox_regression": case.bbox_regression}
    anchors = [case.default_boxes] * len(targets)
    theirs = SSD.compute_loss(model, targets, heads, anchors, list(case.matched_idxs))
    coder = preset("torchvision_ssd300_vgg16").coder
    ours = reference.multibox_loss(*case, coder=coder, loss=LossSpec())
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-5, atol=0)
    for weights in ((1.0, 1.0), (0.5, -3.0)):
        for a, b in zip(gradients(ours, case, weights), gradients(theirs, case, weights), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-8)
        theirs = SSD.compute_loss(model, targets, heads, anchors, list(case.matched_idxs))
        ours = reference.multibox_loss(*case, coder=coder, loss=LossSpec())


@pytest.mark.parametrize("coder", CODERS)
@pytest.mark.parametrize("name", SPECS)
def test_gradient_is_the_slope(name, coder):
    loss, coder = SPECS[name], CODERS[coder]
    case = random_case(5, images=3, rows=17, columns=4, background=loss.background, one_in=5).to(torch.float64)
    case = leaf(case._replace(bbox_regression=case.bbox_regression * 3))

    def losses(logits, deltas):
        return tuple(reference.multibox_loss(logits, deltas, *case[2:], coder=coder, loss=loss).values())

    values = losses(*case[:2])
    assert values[0] > 0 and values[1] > 0 and values[0].dtype == torch.float64
    assert torch.autograd.gradcheck(losses, case[:2])


# ---- the spec -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"background": -2}, "background: expected a column or -1, got -2"),
        ({"background": None}, r"background: expected a column or -1 \(None: with .* \"focal\"\), got None"),
        ({"background": True}, "background: expected a column or -1, got True"),
        ({"background": 2**31}, "background: expected a column or -1"),
        ({"negatives_per_positive": -1.0}, r"negatives_per_positive: expected a number in \[0, 2\*\*31\), got -1.0"),
        ({"negatives_per_positive": inputs.INF}, r"negatives_per_positive: expected a number in .*, got inf"),
        ({"negatives_per_positive": inputs.NAN}, r"negatives_per_positive: expected a number in .*, got nan"),
        ({"negatives_per_positive": "3"}, "negatives_per_positive: expected a number in .*, got '3'"),
        ({"min_negatives": -1}, r"min_negatives: expected an int in \[0, 2\*\*31\), got -1"),
        ({"min_negatives": 1.0}, r"min_negatives: expected an int in .*, got 1.0"),
        ({"min_negatives": 2**31}, r"min_negatives: expected an int in .*, got 2147483648"),
        ({"beta": -0.1}, "beta: expected a finite number >= 0, got -0.1"),
        ({"beta": inputs.NAN}, "beta: expected a finite number >= 0, got nan"),
        ({"normalizer": "batch"}, "normalizer: expected 'positives' or 'positives_per_image' or .*, got 'batch'"),
    ],
)
def test_rejected_fields(fields, message):
    with pytest.raises(ValueError, match=f"LossSpec: {message}"):
        LossSpec(**fields)


def test_spec_is_frozen_and_hashable():
    assert {LossSpec(), LossSpec(beta=1.0)} == {LossSpec()}
    with pytest.raises(AttributeError):
        LossSpec().beta = 2.0
