"""Patching changes nothing but a model's detections, and refuses unsuitable models by name."""

from __future__ import annotations

import copy
import io
import math
import pickle
import subprocess
import sys

import pytest
import torch
from torch import nn
from torchvision.models.detection import FasterRCNN, RetinaNet
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.ssd import SSD

from helpers.patch_models import (
    assert_same_dicts,
    images,
    scripted,
    tiny_ssd,
)
from ssd_fast.compat import patch, patched, unpatch

pytestmark = pytest.mark.usefixtures("one_thread")


def test_patch_keeps_training_state_dict_and_gradients():
    model = tiny_ssd()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    names = [name for name, _ in model.named_modules()]
    patch(model)
    assert list(model.state_dict()) == list(before) and [name for name, _ in model.named_modules()] == names
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model.load_state_dict(before)
    targets = [{"boxes": torch.tensor([[5.0, 5.0, 40.0, 40.0]]), "labels": torch.tensor([1])}]
    expected = unpatch(model).train()(images((64, 64)), targets)
    losses = patch(model)(images((64, 64)), targets)
    approximately = pytest.approx({name: loss.item() for name, loss in expected.items()}, rel=1e-6)
    assert {name: loss.item() for name, loss in losses.items()} == approximately
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in model.head.parameters())


def through_pickle(model: SSD) -> SSD:
    return pickle.loads(pickle.dumps(model))


def through_file(model: SSD) -> SSD:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("copy_of", [copy.deepcopy, through_pickle, through_file])
def test_copies_of_patched_model_are_patched_and_independent(copy_of):
    model = patch(tiny_ssd())
    twin = copy_of(model)
    assert twin.postprocess_detections.model is twin
    with torch.no_grad():
        assert_same_dicts(twin(images((64, 64))), model(images((64, 64))))
        model.detections_per_img = 3
        assert len(twin(images((64, 64)))[0]["scores"]) > 3 == len(model(images((64, 64)))[0]["scores"])
    assert "postprocess_detections" not in unpatch(twin).__dict__
    assert "postprocess_detections" in model.__dict__


def test_patch_twice_and_unpatch():
    model = tiny_ssd()
    assert unpatch(model) is model  # nothing to undo
    assert patch(model) is model
    fused = model.postprocess_detections
    assert repr(fused) == "FusedPostprocess of SSD"
    assert patch(model).postprocess_detections is fused
    with patched(model) as same:
        assert same is model and model.postprocess_detections is fused
    assert model.postprocess_detections is fused  # patched before, patched after
    assert unpatch(model) is model and model.postprocess_detections.__func__ is SSD.postprocess_detections
    with pytest.raises(KeyError), patched(model):
        raise KeyError
    assert "postprocess_detections" not in model.__dict__


def test_subclass_that_keeps_postprocess_is_patched():
    class MySSD(SSD):
        pass

    model = tiny_ssd(MySSD)
    expected = model(images((64, 64)))
    assert_same_dicts(patch(model)(images((64, 64))), [{k: v.detach() for k, v in expected[0].items()}])


def overriding() -> SSD:
    class OtherSSD(SSD):
        def postprocess_detections(self, *args):
            return []

    return tiny_ssd(OtherSSD)


def with_instance_override() -> SSD:
    model = tiny_ssd()
    model.postprocess_detections = lambda *args: []
    return model


def with_other_coder() -> SSD:
    class LinearCoder(BoxCoder):
        def decode_single(self, rel_codes, boxes):
            return boxes + rel_codes

    model = tiny_ssd()
    model.box_coder = LinearCoder((10.0, 10.0, 5.0, 5.0))
    return model


def backbone() -> nn.Module:
    layer = nn.Conv2d(3, 4, 3)
    layer.out_channels = 4
    return layer


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RetinaNet(backbone(), 2), "got RetinaNet"),
        (lambda: FasterRCNN(backbone(), 2), "got FasterRCNN"),
        (lambda: nn.Linear(2, 2), "expected a torchvision SSD .*, got Linear"),
        (lambda: None, "got NoneType"),
        (lambda: nn.DataParallel(tiny_ssd()), r"got DataParallel; it wraps one: patch\(model.module\)"),
        (lambda: scripted(tiny_ssd()), "got RecursiveScriptModule, a scripted model"),
        (overriding, "OtherSSD has its own postprocess_detections"),
        (with_instance_override, "SSD has its own postprocess_detections"),
        (with_other_coder, "box_coder: expected torchvision's BoxCoder, got LinearCoder"),
    ],
)
def test_patch_refuses_models_by_name(make, message):
    model = make()
    with pytest.raises(TypeError, match=message):
        patch(model)


def test_patch_refuses_missing_attributes_and_strange_coders():
    model = tiny_ssd()
    del model.nms_thresh
    with pytest.raises(AttributeError, match="SSD has no attribute 'nms_thresh'"):
        patch(model)
    with pytest.raises(TypeError, match="unpatch: model: expected a torchvision SSD, got Linear"):
        unpatch(nn.Linear(2, 2))
    with pytest.raises(TypeError, match=r"^patched: model: expected a torchvision SSD .*, got Linear"):
        patched(nn.Linear(2, 2)).__enter__()
    model = patch(tiny_ssd())
    model.box_coder = object()
    with pytest.raises(TypeError, match="box_coder: expected torchvision's BoxCoder, got object"):
        model(images((64, 64)))


def test_thresholds_above_one_act_as_in_torchvision():
    """No score passes such a threshold, and no IoU: nothing is found, and nothing is suppressed."""
    for attribute, value in (("score_thresh", 1.5), ("nms_thresh", 45.0)):
        model = tiny_ssd()
        setattr(model, attribute, value)
        expected = unpatch(model)(images((64, 64)))
        found = patch(model)(images((64, 64)))
        assert len(found[0]["scores"]) == len(expected[0]["scores"])
        assert (len(found[0]["scores"]) == 0) == (attribute == "score_thresh")


@pytest.mark.parametrize(
    "attribute, value, expected",
    [
        ("nms_thresh", math.nan, "a finite number >= 0, got nan"),
        ("nms_thresh", math.inf, "a finite number >= 0, got inf"),
        ("nms_thresh", -0.1, "a finite number >= 0, got -0.1"),
        ("score_thresh", math.nan, "a finite number, got nan"),
        ("score_thresh", math.inf, "a finite number, got inf"),
    ],
)
def test_patched_model_names_attribute_of_wrong_threshold(attribute, value, expected):
    model = patch(tiny_ssd())
    setattr(model, attribute, value)
    with pytest.raises(ValueError, match=f"^postprocess_detections: model.{attribute}: expected {expected}"):
        model(images((64, 64)))


def test_patch_without_torchvision_says_how_to_install_it():
    script = """
import sys
import ssd_fast, ssd_fast.compat
assert "torchvision" not in sys.modules
sys.modules["torchvision"] = None
try:
    ssd_fast.compat.patch(None)
except ImportError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "pip install ssd_fast[torchvision]" in result.stdout and "patch: torchvision" in result.stdout
