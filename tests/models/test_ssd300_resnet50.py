"""NVIDIA's SSD300 ResNet-50: its default boxes, its backbone against torchvision's, training, detections, refusals.

test_weight_layouts.py compares its heads with the original's.
"""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest
import torch

import ssd_fast
from helpers import goldens, weight_recipes
from helpers.inputs import head_maps, nvidia_heads
from ssd_fast import SSDCriterion, load_detector
from ssd_fast.assets import asset_path
from ssd_fast.compat.nvidia import dboxes300_coco
from ssd_fast.images import as_image_tensor
from ssd_fast.models import load_network, load_weights, save_weights, ssd300_resnet50

NVIDIA = ssd_fast.preset("nvidia_ssd300_coco")
CHELSEA = asset_path("chelsea.jpg")


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A checkpoint of NVIDIA's network in DistributedDataParallel, with heads small enough for scores of all sizes."""
    tensors = weight_recipes.weights(goldens.load("weight_layouts", "nvidia_ssd300_resnet50")["tensors"])
    for name, tensor in tensors.items():
        tensor *= 0.02 if name.startswith("loc") else 0.2 if name.startswith("conf") else 1
    path = tmp_path_factory.mktemp("nvidia") / "epoch_64.pt"
    weight_recipes.save_as_nvidia({f"module.{name}": tensor for name, tensor in tensors.items()}, path)
    return path


def test_default_boxes_are_those_of_nvidia_reordered():
    spec = ssd300_resnet50(2).preset.default_boxes
    ours = ssd_fast.default_boxes(spec)
    reordered = nvidia_heads(ours[None], spec)[0].T
    assert not torch.equal(ours, reordered)
    assert torch.equal(reordered, ssd_fast.default_boxes(NVIDIA.default_boxes))
    torch.testing.assert_close(reordered, dboxes300_coco()(order="ltrb"), rtol=0, atol=1.2e-7)  # 1 ulp


def test_preset_differs_from_nvidia_only_in_orders():
    ours, theirs = ssd300_resnet50(2).preset.to_dict(), NVIDIA.to_dict()
    different = {
        (spec, field): (ours[spec][field], theirs[spec][field])
        for spec in ours
        if spec != "name"
        for field in ours[spec]
        if ours[spec][field] != theirs[spec][field]
    }
    assert ours["name"] == theirs["name"] and different == {
        ("default_boxes", "row_order"): ("HWA", "AHW"),
        ("postprocess", "row_order"): ("HWA", "AHW"),
        ("postprocess", "channel_order"): ("AC", "CA"),
    }


@torch.no_grad()
def test_detections_equal_those_by_nvidia_preset(checkpoint, tmp_path):
    detector = load_detector(checkpoint, device="cpu")
    assert detector.network.num_classes == 81 and len(detector.classes) == 81
    found = detector(CHELSEA)

    photo = PIL.Image.open(CHELSEA)  # the original's preparation, which rounds to gray levels
    pixels = torch.from_numpy(np.array(photo.resize((300, 300), PIL.Image.Resampling.BILINEAR))).permute(2, 0, 1) / 255
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    batch, _ = detector.network.preprocessing(as_image_tensor(CHELSEA)[None])
    torch.testing.assert_close(batch[0], (pixels - mean) / std, rtol=0, atol=1 / 255 / 0.224)

    spec = detector.network.preset.default_boxes
    bbox_regression, cls_logits = detector.network(batch)
    expected = ssd_fast.postprocess(
        head_maps(cls_logits, spec, "CA", "HWA"),
        head_maps(bbox_regression, spec, "CA", "HWA"),
        ssd_fast.default_boxes(NVIDIA.default_boxes),
        NVIDIA.postprocess,
        coder=NVIDIA.coder,
        image_sizes=(1, 1),
        original_sizes=(photo.height, photo.width),
    )
    assert 50 < found.counts[0] <= 200 and len(found.labels[0].unique()) > 10
    assert found.scores[0, 0] > 0.5 and (found.boxes[0].amax(0) > torch.tensor([0, 0, 300, 200])).all()
    for field in ("counts", "labels", "scores", "boxes"):
        assert torch.equal(getattr(found, field), getattr(expected, field)), field

    save_weights(detector.network, tmp_path / "own.safetensors")
    again = load_detector(tmp_path / "own.safetensors", device="cpu")
    assert again.preset == detector.preset and again.network.preprocessing == detector.network.preprocessing
    assert torch.equal(again(CHELSEA).boxes, found.boxes)


@torch.no_grad()
def test_backbone_takes_torchvision_weights():
    resnet50 = pytest.importorskip("torchvision.models", reason="torchvision is the oracle of this test").resnet50
    original = resnet50()
    tensors = weight_recipes.weights((name, tensor.shape) for name, tensor in original.state_dict().items())
    original.load_state_dict(tensors)
    backbone = ssd300_resnet50(2).eval().backbone
    left = backbone.load_state_dict(original.state_dict(), strict=False)
    assert all(name.startswith("extra.") for name in left.missing_keys)
    assert {name.split(".")[0] for name in left.unexpected_keys} == {"layer4", "fc"}

    original.layer3[0].conv2.stride = original.layer3[0].downsample[0].stride = (1, 1)
    stages = torch.nn.Sequential(*list(original.eval().children())[:7])
    image = weight_recipes.image(300)
    (first, *_), expected = backbone(image), stages(image)
    assert expected.shape == (1, 1024, 38, 38) and expected.max() > 1
    torch.testing.assert_close(first, expected, rtol=1e-5, atol=1e-5)

    norms = [module for module in (*backbone.modules(), *stages.modules()) if isinstance(module, torch.nn.BatchNorm2d)]
    assert len(norms) == 53 + 43 and {(norm.eps, norm.momentum) for norm in norms} == {(1e-5, 0.1)}


def test_initial_weights_are_those_of_original():
    """He's initialization, by fan-out, for ResNet's convolutions, Xavier's for the others, torch's for biases."""
    network = ssd300_resnet50()
    weights = dict(network.named_parameters())
    for name, expected in {
        "backbone.layer1.0.conv2.weight": (2 / (64 * 9)) ** 0.5,
        "backbone.layer3.5.conv3.weight": (2 / 1024) ** 0.5,
        "backbone.layer2.0.downsample.0.weight": (2 / 512) ** 0.5,
        "backbone.extra.0.3.weight": (2 / (9 * (256 + 512))) ** 0.5,
        "head.classification_head.module_list.0.weight": (2 / (9 * (1024 + 324))) ** 0.5,
        "head.regression_head.module_list.5.weight": (2 / (9 * (256 + 16))) ** 0.5,
    }.items():
        assert weights[name].std().item() == pytest.approx(expected, rel=0.03), name
    bias = weights["head.classification_head.module_list.0.bias"]
    assert 0.9 < bias.abs().max() * (9 * 1024) ** 0.5 <= 1
    for name in ("backbone.bn1", "backbone.layer3.0.bn3", "backbone.extra.4.4"):
        assert (weights[f"{name}.weight"] == 1).all() and (weights[f"{name}.bias"] == 0).all()


def test_ssd300_resnet50_learns():
    """In two steps on two images the loss falls, and every batch norm counts."""
    torch.manual_seed(0)
    network = ssd300_resnet50(4).train()
    criterion = SSDCriterion.from_preset(network.preset)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)
    boxes = [torch.tensor([[0.1, 0.2, 0.4, 0.7]]), torch.tensor([[0.0, 0.0, 0.9, 0.9], [0.5, 0.5, 0.6, 0.6]])]
    labels = [torch.tensor([1]), torch.tensor([2, 3])]
    images = torch.cat([weight_recipes.image(300), weight_recipes.image(300).flip(3)])
    losses = []
    for _ in range(2):
        bbox_regression, cls_logits = network(images)
        loss = sum(criterion(cls_logits, bbox_regression, boxes, labels).values())
        optimizer.zero_grad()
        loss.backward()
        assert all(parameter.grad.isfinite().all() for parameter in network.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[1] < 0.95 * losses[0], losses
    counters = [tensor.item() for name, tensor in network.state_dict().items() if name.endswith("num_batches_tracked")]
    assert counters == [2] * 53


def test_load_weights_advises_to_exclude_class_head(checkpoint):
    network = ssd300_resnet50(4)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(ValueError) as raised:
        load_weights(network, checkpoint)
    assert "does not fit SSD300ResNet50: 12 of another shape" in str(raised.value)
    advice = 'The file has 81 class columns, the network 4: exclude=("head.classification_head.module_list",)'
    assert advice in str(raised.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    load_weights(network, checkpoint, "nvidia", exclude="head.classification_head")
    for name, tensor in network.state_dict().items():
        same = torch.equal(tensor, before[name])
        assert same == name.startswith("head.classification_head") or "num_batches" in name, name


@pytest.mark.parametrize("depth", [18, 34, 101, 152])
def test_other_resnets_are_refused(depth, tmp_path):
    models = pytest.importorskip("torchvision.models", reason="the other networks are made of torchvision's")
    with torch.device("meta"):
        stages = torch.nn.Sequential(*list(getattr(models, f"resnet{depth}")().children())[:7])
    names = [f"feature_extractor.feature_extractor.{name}" for name in stages.state_dict()]
    tensors = {name: torch.zeros(1) for name in names} | {"loc.0.bias": torch.zeros(16), "conf.0.bias": torch.zeros(8)}
    weight_recipes.save_as_nvidia(tensors, tmp_path / "theirs.pt")
    message = r"does not fit SSD300ResNet50(.*\n)+.*The file's ResNet is not ResNet-50, the only ResNet"
    for refused in (load_network, lambda path: load_weights(ssd300_resnet50(2), path)):
        with pytest.raises(ValueError, match=message):
            refused(tmp_path / "theirs.pt")
