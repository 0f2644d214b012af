"""The networks, compared with torchvision's and TensorFlow's numbers, and the loading of weights."""

from __future__ import annotations

import hashlib
import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from ssd_fast.assets import COCO_CLASSES, asset_path
from ssd_fast.models import (
    list_networks,
    load_network,
    load_weights,
    make_network,
    save_weights,
    ssd300_resnet50,
    ssd300_vgg16,
    ssdlite300_mobilenet_v2,
    ssdlite320_mobilenet_v3_large,
)

SSDLITE_WEIGHTS = "ssdlite300_mobilenet_v2_coco.safetensors"


@pytest.fixture(scope="module")
def torchvision_ssd300():
    detection = pytest.importorskip("torchvision.models.detection", reason="torchvision is the oracle of these tests")
    torch.manual_seed(0)
    return detection.ssd300_vgg16(weights=None, weights_backbone=None).eval()


def test_ssd300_has_parameters_of_torchvision(torchvision_ssd300):
    expected = {name: tensor.shape for name, tensor in torchvision_ssd300.state_dict().items()}
    assert len(expected) == 71
    assert {name: tensor.shape for name, tensor in ssd300_vgg16().state_dict().items()} == expected


@torch.no_grad()
def test_ssd300_heads_equal_torchvision(torchvision_ssd300, tmp_path):
    path = tmp_path / "ssd300.pth"
    torch.save(torchvision_ssd300.state_dict(), path)
    network = ssd300_vgg16().eval()
    load_weights(network, path, "torchvision")
    images = torch.randn((2, 3, 300, 300), generator=torch.Generator().manual_seed(1)) * 60
    expected = torchvision_ssd300.head(list(torchvision_ssd300.backbone(images).values()))
    bbox_regression, cls_logits = network(images)
    assert expected["cls_logits"].abs().max() > 1  # not an agreement of zeros
    torch.testing.assert_close(bbox_regression, expected["bbox_regression"], rtol=0, atol=1e-5)
    torch.testing.assert_close(cls_logits, expected["cls_logits"], rtol=0, atol=1e-5)


@torch.no_grad()
def test_ssdlite300_heads_equal_unfolded_network():
    # Computed with the original float32 weights, batch norms unfolded, on this synthetic image.
    y, x = torch.arange(300.0).view(-1, 1), torch.arange(300.0)
    waves = torch.stack([torch.sin(x / 17) * torch.cos(y / 23), (x - y) / 300, torch.sin((x + y) / 41)])
    expected_boxes = [
        [1.0983, -0.3538, -2.9450, -3.9397],
        [0.1590, -0.2538, -0.0417, 1.1246],
        [0.0895, 0.1338, 1.4696, -0.6414],
        [0.8025, 0.9059, -0.6009, -0.1062],
        [0.1016, -1.2055, 0.2545, 2.1117],
        [0.0931, -0.0466, -2.5237, 0.4911],
    ]
    network, _ = load_network(asset_path(SSDLITE_WEIGHTS))
    bbox_regression, cls_logits = network.eval()(waves[None])
    torch.testing.assert_close(bbox_regression[0, ::383], torch.tensor(expected_boxes), rtol=0, atol=0.05)
    torch.testing.assert_close(
        cls_logits[0, ::383, :2],
        torch.tensor(
            [
                [2.6706, -5.2490],
                [2.0828, -4.6053],
                [2.0199, -5.0952],
                [1.9899, -5.6019],
                [1.8046, -8.5445],
                [2.7121, -5.1465],
            ]
        ),
        rtol=0,
        atol=0.05,
    )


@pytest.mark.parametrize(
    ("make", "num_boxes", "maps", "boxes_per_cell"),
    [
        (ssd300_vgg16, 8732, (38, 19, 10, 5, 3, 1), (4, 6, 6, 6, 4, 4)),
        (ssd300_resnet50, 8732, (38, 19, 10, 5, 3, 1), (4, 6, 6, 6, 4, 4)),
        (ssdlite300_mobilenet_v2, 1917, (19, 10, 5, 3, 2, 1), (3, 6, 6, 6, 6, 6)),
        (ssdlite320_mobilenet_v3_large, 3234, (20, 10, 5, 3, 2, 1), (6, 6, 6, 6, 6, 6)),
    ],
)
@pytest.mark.parametrize("num_classes", [91, 4])
@torch.no_grad()
def test_heads_have_shapes_and_row_order(make, num_boxes, maps, boxes_per_cell, num_classes):
    network = make(num_classes).eval()
    assert network.num_classes == num_classes
    images = torch.randn((2, 3, *network.preprocessing.size), generator=torch.Generator().manual_seed(2))
    bbox_maps, cls_maps = network.head_maps(images)
    assert [tuple(m.shape) for m in bbox_maps] == [(2, a * 4, s, s) for s, a in zip(maps, boxes_per_cell, strict=True)]
    assert [tuple(m.shape) for m in cls_maps] == [
        (2, a * num_classes, s, s) for s, a in zip(maps, boxes_per_cell, strict=True)
    ]
    bbox_regression, cls_logits = network(images)
    assert bbox_regression.shape == (2, num_boxes, 4) and cls_logits.shape == (2, num_boxes, num_classes)
    # the third box of the cell in row 1, column 2 of the second map, column 3 of its outputs
    first = maps[0] ** 2 * boxes_per_cell[0]
    row = first + (maps[1] + 2) * boxes_per_cell[1] + 2
    assert cls_logits[1, row, 3] == cls_maps[1][1, 2 * num_classes + 3, 1, 2]
    assert bbox_regression[1, row, 3] == bbox_maps[1][1, 2 * 4 + 3, 1, 2]


@pytest.mark.parametrize("name", list_networks())
def test_head_maps_are_those_of_preset(name):
    with torch.device("meta"):
        network = make_network(name, 3)
        bbox_maps, cls_maps = network.head_maps(torch.zeros((2, 3, *network.preprocessing.size)))
    spec = network.preset.default_boxes
    cells = list(zip(spec.boxes_per_cell, spec.feature_maps, strict=True))
    assert spec.image_size == network.preprocessing.size
    assert [tuple(m.shape) for m in bbox_maps] == [(2, boxes * 4, *size) for boxes, size in cells]
    assert [tuple(m.shape) for m in cls_maps] == [(2, boxes * 3, *size) for boxes, size in cells]


@pytest.mark.parametrize(("name", "num_boxes"), [("ssd512_vgg16", 24564), ("ssdlite320_mobilenet_v3_large", 3234)])
def test_networks_have_published_numbers_of_default_boxes(name, num_boxes):
    with torch.device("meta"):
        network = make_network(name, 21).eval()
        bbox_regression, cls_logits = network(torch.zeros((1, 3, *network.preprocessing.size)))
    assert bbox_regression.shape == (1, num_boxes, 4) and cls_logits.shape == (1, num_boxes, 21)


@pytest.mark.parametrize("name", list_networks())
def test_every_parameter_gets_a_gradient(name):
    with torch.device("meta"):
        network = make_network(name, 3)
        bbox_regression, cls_logits = network(torch.zeros((2, 3, *network.preprocessing.size)))
    (bbox_regression.square().mean() + cls_logits.square().mean()).backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []


def test_num_classes_counts_background():
    with pytest.raises(ValueError, match="num_classes"):
        ssdlite300_mobilenet_v2(1)


def test_assets_are_those_of_provenance_table():
    table = asset_path("PROVENANCE.md").read_text()
    rows = re.findall(r"^\| `([\w.]+)` \|.*\| `([0-9a-f]{64})` \|$", table, re.MULTILINE)
    assert len(rows) == 4
    for name, digest in rows:
        assert hashlib.sha256(asset_path(name).read_bytes()).hexdigest() == digest, name
    with pytest.raises(FileNotFoundError, match=r"chelsea\.jpg"):
        asset_path("dog.jpg")


def test_every_column_has_a_class_name():
    assert len(COCO_CLASSES) == 91 and all(isinstance(name, str) and name for name in COCO_CLASSES)
    assert [COCO_CLASSES[i] for i in (0, 1, 17, 47, 90)] == ["background", "person", "cat", "cup", "toothbrush"]
    assert COCO_CLASSES.count("n/a") == 10


def test_half_precision_files_fill_float32_parameters(tmp_path):
    network = ssdlite300_mobilenet_v2(5)
    save_file({name: tensor.half() for name, tensor in network.state_dict().items()}, tmp_path / "half.safetensors")
    other = ssdlite300_mobilenet_v2(5)
    load_weights(other, tmp_path / "half.safetensors")
    for name, tensor in other.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, network.state_dict()[name].half().float())


@pytest.mark.parametrize("name", list_networks())
def test_load_network_draws_no_numbers(name, tmp_path):
    network = make_network(name, 3)
    save_weights(network, tmp_path / "weights.safetensors")
    before = torch.get_rng_state()
    restored, _ = load_network(tmp_path / "weights.safetensors")
    assert torch.equal(torch.get_rng_state(), before) and restored.training
    assert all(
        torch.equal(a, b) for a, b in zip(network.state_dict().values(), restored.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("make", [ssd300_vgg16, ssd300_resnet50, ssdlite300_mobilenet_v2])
def test_load_network_restores_network_from_file(make, tmp_path):
    network = make(3)
    save_weights(network, tmp_path / "mine.safetensors", classes=("background", "cup", "spoon"))
    restored, classes = load_network(tmp_path / "mine.safetensors")
    assert type(restored) is type(network) and restored.num_classes == 3
    assert classes == ("background", "cup", "spoon")
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), restored.parameters(), strict=True))
    for key in ("model", "state_dict"):
        torch.save({key: network.state_dict(), "epoch": 7}, tmp_path / "checkpoint.pth")
        assert load_network(tmp_path / "checkpoint.pth")[1] is None
    with pytest.raises(ValueError, match="safetensors"):
        save_weights(network, tmp_path / "mine.pth")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        *((name, {}) for name in list_networks()),
        ("ssd300_vgg16", {"conv4_3_norm": "batch_norm"}),
        ("ssd_tiny", {"size": (32, 64)}),
        ("ssd_tiny", {"size": (32, 32)}),
    ],
)
@torch.no_grad()
def test_min_training_batch_is_enough_for_training(name, arguments):
    network = make_network(name, 2, **arguments).train()
    images = torch.zeros(2, 3, *network.preprocessing.size)
    if network.min_training_batch == 2:
        with pytest.raises(ValueError, match="Expected more than 1 value per channel when training"):
            network(images[:1])
    assert network(images[: network.min_training_batch])[0].isfinite().all()


def test_excluded_parameters_keep_their_values():
    network = ssdlite300_mobilenet_v2(4)
    before = network.class_heads[0].predict.weight.clone()
    for exclude, wrong in (("", "''"), (("class_head.",), "'class_head.'"), (["class_heads", "typo"], "'typo'")):
        message = rf"exclude: expected prefixes of SSDLite300MobileNetV2's parameter names, got {wrong}$"
        with pytest.raises(ValueError, match=message):
            load_weights(network, asset_path(SSDLITE_WEIGHTS), exclude=exclude)
    assert torch.equal(network.class_heads[0].predict.weight, before)
    load_weights(network, asset_path(SSDLITE_WEIGHTS), exclude="class_heads")
    assert torch.equal(network.class_heads[0].predict.weight, before)
    assert torch.equal(network.stem.weight, load_file(asset_path(SSDLITE_WEIGHTS))["stem.weight"])


def test_load_weights_lists_tensors_that_do_not_fit(tmp_path):
    network = ssdlite300_mobilenet_v2()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    tensors = load_file(asset_path(SSDLITE_WEIGHTS))
    damaged = {**tensors, "stem.bias": torch.zeros(7), "surplus": torch.zeros(1)}
    del damaged["last.weight"]
    save_file(damaged, tmp_path / "other.safetensors")
    with pytest.raises(ValueError) as raised:
        load_weights(network, tmp_path / "other.safetensors")
    lines = str(raised.value).splitlines()
    assert lines[0] == (
        f"load_weights: {tmp_path / 'other.safetensors'} does not fit SSDLite300MobileNetV2: "
        "1 missing, 1 unknown, 1 of another shape"
    )
    assert [re.split(r"  +", line.strip()) for line in lines[1:]] == [
        ["tensor", "in the file", "in the network"],
        ["last.weight", "-", "(1280, 320, 1, 1)"],
        ["surplus", "(1,)", "-"],
        ["stem.bias", "(7,)", "(32,)"],
    ]
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())

    with pytest.raises(ValueError, match="does not fit SSD300VGG16: 71 missing, 176 unknown"):
        load_weights(ssd300_vgg16(), asset_path(SSDLITE_WEIGHTS))
    with pytest.raises(ValueError, match=r"The file has 91 class columns, the network 3: exclude=\(\"class_heads\",\)"):
        load_weights(ssdlite300_mobilenet_v2(3), asset_path(SSDLITE_WEIGHTS))
    save_file({"fc.weight": torch.zeros(1)}, tmp_path / "classifier.safetensors")
    with pytest.raises(ValueError, match=r"no known network.*fc\.weight"):
        load_network(tmp_path / "classifier.safetensors")
