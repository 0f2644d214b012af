"""The checks of torchvision's own SSD training tests, written anew, on the model unpatched and patched.

They cover refused targets and images, images without objects, and unchanged images and targets.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torchvision.models.detection.ssd import SSD

from helpers.checks import assert_same_bits
from helpers.patch_models import images, tiny_ssd
from ssd_fast.compat import patch, unpatch

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(params=[unpatch, patch], ids=["torchvision", "patched"])
def treated(request) -> Callable[[SSD], SSD]:
    """Leave a model as it is, or patch it."""
    return request.param


DEGENERATE = torch.tensor([[1, 3, 1, 4], [2, 4, 3, 4]])  # no width; no height


@pytest.mark.parametrize(
    "targets",
    [
        None,
        [{"boxes": 0.0}],
        [{"boxes": torch.ones(4)}],
        [{"boxes": torch.ones(1, 5)}],
        [{"boxes": DEGENERATE}],
        [{"boxes": DEGENERATE.float(), "labels": torch.ones(2, dtype=torch.int64)}],
    ],
    ids=["none", "no tensor", "one axis", "five corners", "degenerate", "degenerate, with labels"],
)
def test_malformed_targets_are_refused(treated, targets):
    with pytest.raises(AssertionError):
        treated(tiny_ssd()).train()(images((64, 64)), targets)


def test_boxes_without_labels_are_refused(treated):
    with pytest.raises(KeyError, match="labels"):
        treated(tiny_ssd()).train()(images((64, 64)), [{"boxes": torch.tensor([[5.0, 5, 9, 9]])}])


def test_degenerate_targets_are_refused_in_eval_mode(treated):
    with pytest.raises(AssertionError):
        treated(tiny_ssd())(images((64, 64)), [{"boxes": DEGENERATE.float()}])


def test_uint8_images_are_refused(treated):
    for model in (treated(tiny_ssd()), treated(tiny_ssd()).train()):
        target = {"boxes": torch.tensor([[5.0, 5, 40, 40]]), "labels": torch.tensor([1])}
        with pytest.raises(TypeError, match="floating"):
            model([torch.zeros(3, 64, 64, dtype=torch.uint8)], [target])


NOTHING = {
    "boxes": torch.zeros(0, 4),
    "labels": torch.zeros(0, dtype=torch.int64),
    "image_id": 4,
    "area": torch.zeros(0),
    "iscrowd": torch.zeros(0, dtype=torch.int64),
}


def test_image_without_objects_has_zero_loss(treated):
    model = treated(tiny_ssd()).train()
    losses = model(images((100, 100)), [NOTHING])
    assert losses["bbox_regression"] == 0 and losses["classification"] == 0  # no positives, so no negatives to mine
    sum(losses.values()).backward()
    assert not any(parameter.grad.any() for parameter in model.parameters() if parameter.grad is not None)


def test_image_without_objects_adds_nothing_to_loss(treated):
    target = {"boxes": torch.tensor([[5.0, 5, 40, 40]]), "labels": torch.tensor([1])}
    model, (first, second) = treated(tiny_ssd()).train(), images((64, 64), (64, 64))
    alone, both = model([first], [target]), model([first, second], [target, NOTHING])
    for name, loss in alone.items():
        assert loss > 0 and both[name].item() == pytest.approx(loss.item(), rel=1e-6)


def test_training_leaves_images_and_targets_alone(treated):
    batch = images((70, 90), (40, 33))
    targets = [{"boxes": torch.tensor([[5.0, 5, 30, 30]]), "labels": torch.tensor([n])} for n in (1, 2)]
    given, before = [*batch, *targets], copy.deepcopy((batch, targets))
    treated(tiny_ssd()).train()(batch, targets)
    assert_same_bits((batch, targets), before)
    assert all(one is other for one, other in zip([*batch, *targets], given, strict=True))
