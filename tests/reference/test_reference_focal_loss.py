"""The specification of the focal loss against a hand-worked table, torchvision's loss and numerical slopes."""

from __future__ import annotations

import math

import pytest
import torch

from helpers import inputs
from helpers.checks import one_thread
from helpers.focal_losses import by_hand, torchvision_loss
from helpers.loss_cases import CODERS, FOCAL_HANDS, FOCAL_SPECS, PLAIN, focal_hand_case, leaf, random_case
from ssd_fast import reference
from ssd_fast.specs import LossSpec

INF, NAN = inputs.INF, inputs.NAN


@pytest.fixture(autouse=True)
def single_threaded():
    with one_thread():
        yield


def focal(**fields):
    return LossSpec(**{"classification": "focal", "background": None, **fields})


def gradients(losses, case):
    return torch.autograd.grad(sum(losses.values()), case[:2])


def test_by_hand():
    """With gamma 2 a column costs (1 - p)^2 * -log p; the target column counts 1/4, the others 3/4."""
    for name, of_rows in FOCAL_HANDS.items():
        loss = LossSpec(classification="focal", background=of_rows.background)
        case = leaf(focal_hand_case())
        for arguments in (case, case.packed()):
            losses = reference.multibox_loss(*arguments, coder=PLAIN, loss=loss)
            assert losses["bbox_regression"].item() == pytest.approx(1 / 2, rel=1e-6), name
            assert losses["classification"].item() == pytest.approx(by_hand(of_rows), rel=1e-6), name
        grad_logits, _ = gradients(losses, case)
        assert grad_logits[0].ne(0).all(-1).tolist() == [True, True, False, True]
        assert grad_logits[0, 2].tolist() == [0, 0, 0]


def test_first_row_by_hand_in_numbers():
    """The first row of the table is 3/4 (1/2)^2 ln 2 + (1/4 + 3/4) (1/4)^2 ln(4/3); its slopes follow."""
    case = focal_hand_case()
    case.matched_idxs[0, [1, 3]] = -2
    case = leaf(case)
    losses = reference.multibox_loss(*case, coder=PLAIN, loss=focal())
    ln2, ln43 = math.log(2), math.log(4 / 3)
    assert losses["classification"].item() == pytest.approx(3 / 16 * ln2 + 1 / 16 * ln43, rel=1e-6)
    slopes = [
        3 / 4 * (1 / 4) * (2 * (1 / 2) * ln2 + 1 / 2),  # weight (1 - p)^2 (2 p ln(1/p) + 1 - p)
        -1 / 4 * (1 / 16) * (2 * (3 / 4) * ln43 + 1 / 4),
        3 / 4 * (1 / 16) * (2 * (3 / 4) * ln43 + 1 / 4),
    ]
    torch.testing.assert_close(gradients(losses, case)[0][0, 0], torch.tensor(slopes), rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", FOCAL_SPECS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_focal_loss_equals_torchvision(name, dtype):
    """torchvision's function and gradients, on one-hot targets, for logits up to 15, above which it cancels."""
    loss = FOCAL_SPECS[name]
    for seed, columns in ((1, 3), (2, 21), (3, 91)):
        case = leaf(random_case(seed, images=4, rows=300, columns=columns, background=loss.background).to(dtype))
        ours = reference.multibox_loss(*case, coder=PLAIN, loss=loss)["classification"]
        theirs = torchvision_loss(case, loss)
        assert theirs > 0 and ours.dtype == dtype
        precise = 1e-10 if dtype == torch.float64 else 1e-4 if loss.focal_gamma > 9 else 1e-5
        torch.testing.assert_close(ours, theirs, rtol=precise, atol=0)
        (our_grad,), (their_grad,) = (torch.autograd.grad(x, case[:1]) for x in (ours, theirs))
        torch.testing.assert_close(our_grad, their_grad, rtol=10 * precise, atol=1e-9)


@pytest.mark.parametrize("coder", CODERS)
@pytest.mark.parametrize("name", FOCAL_SPECS)
def test_gradient_is_the_slope(name, coder):
    loss, coder = FOCAL_SPECS[name], CODERS[coder]
    case = random_case(5, images=3, rows=17, columns=4, background=loss.background, one_in=5).to(torch.float64)
    case = leaf(case)

    def losses(logits, deltas):
        return tuple(reference.multibox_loss(logits, deltas, *case[2:], coder=coder, loss=loss).values())

    assert all(value > 0 and value.dtype == torch.float64 for value in losses(*case[:2]))
    assert torch.autograd.gradcheck(losses, case[:2])


def test_loss_of_nothing_selected_is_zero():
    case = random_case(1, background=None)
    nothing = [
        case._replace(matched_idxs=torch.full_like(case.matched_idxs, -2)),
        random_case(1, images=0),
        random_case(1, rows=0),
    ]
    for arguments in map(leaf, nothing):
        losses = reference.multibox_loss(*arguments, coder=PLAIN, loss=focal())
        assert [value.item() for value in losses.values()] == [0, 0]
        for grad, x in zip(gradients(losses, arguments), arguments[:2], strict=True):
            assert grad.shape == x.shape and not grad.any()
    without = case._replace(matched_idxs=case.matched_idxs.clamp(max=-1))  # background is still trained
    assert reference.multibox_loss(*without, coder=PLAIN, loss=focal())["classification"] > 0
    images = focal(normalizer="positives_per_image")  # an image without positives contributes nothing
    assert reference.multibox_loss(*without, coder=PLAIN, loss=images)["classification"] == 0


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_infinite_and_nan_logits_by_hand(gamma):
    """In row 0, column 1 is a target and column 2 is not: where they are right, their losses and slopes vanish."""
    loss = focal(focal_gamma=gamma)
    for column, logit, value, slope in (
        (1, INF, 0, 0),
        (1, -INF, INF, -0.25),
        (2, INF, INF, 0.75),
        (2, -INF, 0, 0),
        (1, NAN, NAN, NAN),
        (2, NAN, NAN, NAN),
    ):
        case = focal_hand_case()
        case.matched_idxs[0, [1, 3]] = -2
        case.cls_logits[0, 0] = torch.tensor([-INF, INF, -INF])  # all right
        case.cls_logits[0, 1:] = torch.tensor([NAN, INF, -INF])  # ignored
        case.cls_logits[0, 0, column] = logit
        case = leaf(case)
        losses = reference.multibox_loss(*case, coder=PLAIN, loss=loss)
        assert losses["classification"].item() == pytest.approx(value, nan_ok=True)
        grad_logits, _ = gradients(losses, case)
        expected = torch.zeros(1, 4, 3)
        expected[0, 0, column] = slope
        torch.testing.assert_close(grad_logits, expected, equal_nan=True)


# ---- the spec -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"classification": "sigmoid"}, "classification: expected 'softmax' or 'focal', got 'sigmoid'"),
        (
            {"classification": "softmax", "background": None},
            r'background: expected a column or -1 \(None: with classification "focal"\), got None',
        ),
        ({"background": -2}, "background: expected a column, -1 or None, got -2"),
        ({"background": True}, "background: expected a column, -1 or None, got True"),
        (
            {"negatives_per_positive": 1.0},
            "negatives_per_positive: expected 3.0, since the focal loss mines nothing, got 1.0",
        ),
        ({"min_negatives": 1}, "min_negatives: expected 0, since the focal loss mines nothing, got 1"),
        *(
            ({"focal_alpha": value}, f"focal_alpha: expected a number between 0 and 1, or None for .*, got {value}")
            for value in (0.0, 1.0, -1, NAN, True)
        ),
        *(
            ({"focal_gamma": value}, rf"focal_gamma: expected a number in \[0, 2\*\*31\), got {value}")
            for value in (-0.1, NAN, INF, None)
        ),
        (
            {"classification": "softmax", "background": 0, "focal_gamma": 1.0},
            'focal_gamma: expected 2.0, since classification is "softmax", got 1.0',
        ),
        (
            {"classification": "softmax", "background": 0, "focal_alpha": None},
            'focal_alpha: expected 0.25, since classification is "softmax", got None',
        ),
    ],
)
def test_rejected_fields(fields, message):
    with pytest.raises(ValueError, match=f"^LossSpec: {message}"):
        focal(**fields)
