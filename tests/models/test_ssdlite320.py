"""SSDLite320 MobileNetV3-Large against torchvision's: names, heads, detections and saved files."""

from __future__ import annotations

import pytest
import torch

from helpers import weight_recipes
from helpers.comparators import Limits, assert_same_detections
from ssd_fast.detector import Detector
from ssd_fast.models import load_network, load_weights, ssdlite320_mobilenet_v3_large


@pytest.fixture(scope="module")
def theirs():
    """A function make(num_classes, reduced_tail) -> torchvision's network with weights from weight_recipes.py."""
    detection = pytest.importorskip("torchvision.models.detection", reason="torchvision is the oracle of these tests")
    from torchvision.models import mobilenet_v3_large

    def make(num_classes: int, reduced_tail: bool):
        network = detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=num_classes)
        if not reduced_tail:  # as torchvision builds it from ImageNet's weights
            network = with_full_tail(detection.ssdlite, mobilenet_v3_large, network, num_classes)
        shapes = [(name, tensor.shape) for name, tensor in network.state_dict().items()]
        network.load_state_dict(weight_recipes.weights(shapes))
        return network.eval()

    return make


def with_full_tail(ssdlite, mobilenet_v3_large, network, num_classes):
    """Assemble torchvision's parts as its function does after it has downloaded the backbone's weights."""
    norm = ssdlite.partial(torch.nn.BatchNorm2d, eps=0.001, momentum=0.03)
    backbone = mobilenet_v3_large(weights=None, norm_layer=norm, reduced_tail=False)
    network.backbone = ssdlite._mobilenet_extractor(backbone, 6, norm)
    network.head = ssdlite.SSDLiteHead([672, 960, 512, 256, 256, 128], [6] * 6, num_classes, norm)
    return network


@pytest.mark.parametrize(("num_classes", "reduced_tail"), [(91, True), (5, True), (5, False)])
@torch.no_grad()
def test_heads_equal_torchvision(theirs, num_classes, reduced_tail, tmp_path):
    original = theirs(num_classes, reduced_tail)
    network = ssdlite320_mobilenet_v3_large(num_classes, reduced_tail).eval()
    expected = {name: tensor.shape for name, tensor in original.state_dict().items()}
    assert len(expected) == 476
    assert {name: tensor.shape for name, tensor in network.state_dict().items()} == expected

    torch.save(original.state_dict(), tmp_path / "theirs.pth")
    load_weights(network, tmp_path / "theirs.pth", "torchvision")
    image = weight_recipes.image(320)
    heads = original.head(list(original.backbone(image).values()))
    bbox_regression, cls_logits = network(image)
    assert heads["cls_logits"].abs().max() > 5  # not an agreement of zeros
    torch.testing.assert_close(bbox_regression, heads["bbox_regression"], rtol=0, atol=1e-5)
    torch.testing.assert_close(cls_logits, heads["cls_logits"], rtol=0, atol=1e-5)

    found, _ = load_network(tmp_path / "theirs.pth")
    assert found.name == network.name and found.num_classes == num_classes and found.reduced_tail == reduced_tail
    assert all(torch.equal(tensor, found.state_dict()[name]) for name, tensor in network.state_dict().items())


def test_batch_norms_have_torchvision_settings(theirs):
    """Compare eps and momentum, which a state_dict does not hold."""

    def settings(network: torch.nn.Module) -> dict[str, tuple[float, float | None]]:
        norms = {name: module for name, module in network.named_modules() if isinstance(module, torch.nn.BatchNorm2d)}
        return {name: (norm.eps, norm.momentum) for name, norm in norms.items()}

    expected = settings(theirs(2, True))
    assert len(expected) == 70
    assert settings(ssdlite320_mobilenet_v3_large(2)) == expected


@torch.no_grad()
def test_detections_equal_torchvision(theirs):
    original = theirs(5, True)
    network = ssdlite320_mobilenet_v3_large(5)
    network.load_state_dict(original.state_dict())
    detector = Detector(network)
    photo = torch.rand((3, 240, 400), generator=torch.Generator().manual_seed(3))
    expected = original([photo])
    assert len(expected[0]["scores"]) > 20
    assert_same_detections(
        detector(photo), expected, Limits(score_threshold=0.001, iou_threshold=0.55, top_k=300, keep_top_k=300)
    )


def test_load_weights_advises_to_exclude_class_head(theirs, tmp_path):
    torch.save(theirs(91, True).state_dict(), tmp_path / "coco.pth")
    network = ssdlite320_mobilenet_v3_large(4)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(ValueError) as raised:
        load_weights(network, tmp_path / "coco.pth")
    assert "12 of another shape" in str(raised.value)
    advice = 'The file has 91 class columns, the network 4: exclude=("head.classification_head.module_list",)'
    assert advice in str(raised.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    load_weights(network, tmp_path / "coco.pth", exclude=("head.classification_head.module_list",))
    for name, tensor in network.state_dict().items():
        same = torch.equal(tensor, before[name])
        assert same == name.startswith("head.classification_head") or "num_batches" in name, name


def test_load_weights_names_full_tail(theirs, tmp_path):
    torch.save(theirs(5, False).state_dict(), tmp_path / "fine_tuned.pth")
    with pytest.raises(ValueError, match="make the network with reduced_tail=False"):
        load_weights(ssdlite320_mobilenet_v3_large(5), tmp_path / "fine_tuned.pth")


def test_load_weights_takes_file_without_batch_counters(tmp_path):
    network = ssdlite320_mobilenet_v3_large(2)
    tensors = {name: tensor for name, tensor in network.state_dict().items() if "num_batches" not in name}
    torch.save(tensors, tmp_path / "old.pth")
    other = ssdlite320_mobilenet_v3_large(2)
    load_weights(other, tmp_path / "old.pth")
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in tensors.items())
