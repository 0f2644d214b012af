"""Patched torchvision SSDs in training: the same losses and gradients, and faulty ground truth named."""

from __future__ import annotations

import copy
import math
import warnings

import pytest
import torch
from torch import Tensor
from torchvision.models.detection import ssd300_vgg16, ssdlite320_mobilenet_v3_large
from torchvision.models.detection._utils import Matcher
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD

from helpers.patch_models import COLUMNS, assert_same_step, images, step, tiny_ssd
from ssd_fast.compat import patch, patched, unpatch
from ssd_fast.compat.torchvision.training import FusedForward, FusedLoss
from ssd_fast.ground_truth import GroundTruthError

pytestmark = pytest.mark.usefixtures("one_thread")


SIZES = ((64, 64), (50, 90), (120, 60), (64, 64))
COUNTS = (3, 0, 12, 1)


def scenes(columns: int = COLUMNS, sizes=SIZES, counts=COUNTS, seed: int = 3) -> tuple[list[Tensor], list[dict]]:
    generator = torch.Generator().manual_seed(seed)
    targets = []
    for (height, width), count in zip(sizes, counts, strict=True):
        limits = torch.tensor([width, height])
        corners = torch.rand(count, 2, generator=generator) * limits * 0.7
        sides = (0.05 + 0.25 * torch.rand(count, 2, generator=generator)) * limits
        labels = torch.randint(1, columns, (count,), generator=generator)
        targets.append({"boxes": torch.cat((corners, corners + sides), 1), "labels": labels})
    return images(*sizes), targets


@pytest.mark.parametrize("seed", range(5))
def test_patched_tiny_model_takes_same_training_step(seed):
    assert_same_step(tiny_ssd(), *scenes(seed=seed))


@pytest.mark.parametrize("make", [ssd300_vgg16, ssdlite320_mobilenet_v3_large])
def test_patched_torchvision_model_takes_same_training_step(make):
    torch.manual_seed(0)
    model = make(weights=None, weights_backbone=None, num_classes=21)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.0  # two forward passes of the same model
    assert_same_step(model, *scenes(21, ((300, 400), (320, 320)), (4, 9)))


def test_loss_without_ground_truth_is_zero():
    batch, targets = scenes(counts=(0, 0, 0, 0))
    model = patch(tiny_ssd()).train()
    losses = model(batch, targets)
    assert {name: loss.item() for name, loss in losses.items()} == {"bbox_regression": 0, "classification": 0}
    assert sum(losses.values()).requires_grad


def test_patched_loss_reads_settings_at_every_call():
    model = patch(tiny_ssd())
    batch, targets = scenes()
    before, _ = step(model, batch, targets)
    model.proposal_matcher.high_threshold = model.proposal_matcher.low_threshold = 0.2
    model.neg_to_pos_ratio = 1.0
    model.box_coder.weights = (1.0, 1.0, 1.0, 1.0)
    after, _ = step(model, batch, targets)
    assert after != pytest.approx(before, rel=1e-2)
    assert_same_step(model, batch, targets)


def test_eval_and_training_may_alternate():
    model = patch(tiny_ssd())
    batch, targets = scenes()
    losses, _ = step(model, batch, targets)
    with torch.no_grad():
        assert "scores" in model.eval()(batch)[0]
    assert step(model, batch, targets)[0] == losses
    with patched(model), pytest.raises(AssertionError, match="targets should not be none"):
        model.train()(batch)  # torchvision's own message


def test_patched_model_can_be_copied_and_scripted():
    model = patch(tiny_ssd())
    twin = copy.deepcopy(model)
    assert twin.forward.model is twin and twin.compute_loss.model is twin
    assert repr(twin.forward) == "FusedForward of SSD" and repr(twin.compute_loss) == "FusedLoss of SSD"
    assert step(twin, *scenes())[0] == step(model, *scenes())[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates torch.jit.script; torchvision warns of the scripted result
        scripted = [torch.jit.script(ssd.train())(*scenes())[0] for ssd in (model, tiny_ssd())]
    assert scripted[0] == scripted[1]
    assert isinstance(model.forward, FusedForward)
    for method in ("forward", "compute_loss", "postprocess_detections", "__prepare_scriptable__"):
        assert method in model.__dict__ and method not in unpatch(twin).__dict__


def test_subclass_with_own_forward_keeps_it_and_gets_fused_loss():
    class MySSD(SSD):
        calls = 0

        def forward(self, images, targets=None):
            self.calls += 1
            return super().forward(images, targets)

    model = patch(tiny_ssd(MySSD))
    assert isinstance(model.compute_loss, FusedLoss) and "forward" not in model.__dict__
    assert_same_step(model, *scenes())
    assert model.calls == 2


def test_subclass_with_own_loss_keeps_it():
    class MySSD(SSD):
        def compute_loss(self, targets, head_outputs, anchors, matched_idxs):
            losses = super().compute_loss(targets, head_outputs, anchors, matched_idxs)
            return {name: 2 * loss for name, loss in losses.items()}

    model = tiny_ssd(MySSD)
    assert "compute_loss" not in patch(model).__dict__
    assert_same_step(model, *scenes())


def test_other_matcher_stays_in_use():
    model = tiny_ssd()
    model.proposal_matcher = Matcher(0.4, 0.2, allow_low_quality_matches=True)
    batch, targets = scenes(counts=(3, 2, 12, 1))
    assert_same_step(model, batch, targets)


class ShiftedBoxes(DefaultBoxGenerator):
    """Gives every image different anchors."""

    def forward(self, image_list, feature_maps):
        anchors = super().forward(image_list, feature_maps)
        return [boxes + 2.0 * index for index, boxes in enumerate(anchors)]


def test_anchors_may_differ_from_image_to_image():
    model = tiny_ssd()
    model.anchor_generator = ShiftedBoxes([[2], [2, 3]])
    assert_same_step(model, *scenes())


@pytest.mark.parametrize(
    ("box", "label", "reason"),
    [
        ((5, 5, 5, 9), 1, "no width"),
        ((5, 5, 9, 5), 1, "no height"),
        ((5, math.nan, 9, 9), 1, "not finite"),
        ((5, 5, 9, 9), COLUMNS, r"the label is not in \[0, 5\)"),
        ((5, 5, 9, 9), 0, "the label is the background's"),
    ],
)
def test_patched_training_names_faulty_ground_truth(box, label, reason):
    batch, targets = scenes()
    targets[2]["boxes"][7] = torch.tensor(box, dtype=torch.float32)
    targets[2]["labels"][7] = label
    with pytest.raises(GroundTruthError, match=rf"targets\[2\]: ground truth 7 \[5, .*{reason}"):
        patch(tiny_ssd()).train()(batch, targets)


def test_refused_target_changes_nothing():
    batch, targets = scenes()
    targets[2]["labels"][7] = COLUMNS
    model = patch(tiny_ssd()).train()
    calls = []
    model.backbone.register_forward_hook(lambda *_: calls.append(1))
    with pytest.raises(GroundTruthError):
        model(batch, targets)
    assert not calls, "no batch norm has seen the images"
    with pytest.raises(ValueError, match="targets: expected 4, one per image, got 5"):
        model(batch, [*targets, targets[0]])


def test_data_parallel_replicas_have_own_fused_methods():
    model = patch(tiny_ssd())
    replica = model._replicate_for_data_parallel()
    for method in ("forward", "compute_loss", "postprocess_detections"):
        assert getattr(replica, method).model is replica and getattr(model, method).model is model
    assert type(replica) is SSD and "_replicate_for_data_parallel" not in unpatch(model).__dict__


def test_patched_training_refuses_wrong_labels_and_settings():
    batch, targets = scenes()
    model = patch(tiny_ssd()).train()
    with pytest.raises(ValueError, match=r"targets\[0\]\['labels'\]: expected shape \[3\], got \[2\]"):
        model(batch, [{**targets[0], "labels": torch.ones(2)}, *targets[1:]])
    model.neg_to_pos_ratio = 2.5
    with pytest.raises(ValueError, match="neg_to_pos_ratio: expected a whole number, got 2"):
        model(batch, targets)


def test_patched_training_widens_heads_under_autocast():
    """The loss of bfloat16 heads is that of the same heads widened to float32."""
    model = patch(tiny_ssd()).train()
    batch, targets = scenes()
    with torch.autocast("cpu", torch.bfloat16):
        losses = model(batch, targets)
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    sum(losses.values()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    plain = {name: loss.item() for name, loss in model(batch, targets).items()}
    assert {name: loss.item() for name, loss in losses.items()} == pytest.approx(plain, rel=0.05)
