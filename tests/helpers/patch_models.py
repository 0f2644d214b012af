"""torchvision's SSDs, small ones of the same class, and comparisons for the tests of patched ones."""

from __future__ import annotations

import warnings
from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import ssd300_vgg16, ssdlite320_mobilenet_v3_large
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD

from helpers.comparators import Limits
from ssd_fast.compat import patched, unpatch

SIDE, COLUMNS = 64, 5

MODELS = {
    "ssd300": (ssd300_vgg16, (38, 19, 10, 5, 3, 1), 300),
    "ssdlite320": (ssdlite320_mobilenet_v3_large, (20, 10, 5, 3, 2, 1), 320),
}


def make_torchvision_model(name: str) -> tuple[SSD, tuple[int, ...], int]:
    """Make one of MODELS, untrained, with 91 columns; return the model, and the sides of its maps and its input."""
    make, maps, side = MODELS[name]
    return make(weights=None, weights_backbone=None).eval(), maps, side


class TinyBackbone(nn.Module):
    """Two feature maps, 8x8 and 4x4."""

    out_channels = (8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 8, stride=8)
        self.second = nn.Conv2d(8, 8, 2, stride=2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        first = self.first(x)
        return OrderedDict([("first", first), ("second", self.second(first))])


def tiny_ssd(cls: type[SSD] = SSD) -> SSD:
    torch.manual_seed(7)
    model = cls(TinyBackbone(), DefaultBoxGenerator([[2], [2, 3]]), (SIDE, SIDE), COLUMNS).eval()
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter.mul_(8)
    return model


def imitate_training(model: SSD, batch: list[Tensor], candidates: int = 160) -> None:
    """Give untrained heads logits that differ from cell to cell, and at least so many candidates in each image."""
    transformed, _ = model.transform(batch)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.train().momentum = 1.0
        tensors = transformed.tensors.repeat(2 if len(batch) == 1 else 1, 1, 1, 1)  # batch norm needs two values
        cls_logits = model.head(list(model.backbone(tensors).values()))["cls_logits"]
        model.eval()
        gain = 2 / cls_logits.std().item()
        low, high = 0.0, 50.0
        for _ in range(30):
            middle = (low + high) / 2
            shifted = cls_logits * gain
            shifted[..., 0] += middle
            many = (shifted.softmax(-1)[..., 1:] > model.score_thresh).sum((1, 2)).min() > candidates
            low, high = (middle, high) if many else (low, middle)
        for module in model.head.classification_head.module_list:
            last = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)][-1]
            last.weight.mul_(gain)
            last.bias.mul_(gain)[:: cls_logits.shape[-1]].add_(high)


def scripted(model: SSD) -> torch.jit.ScriptModule:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates torch.jit.script
        return torch.jit.script(model)


def images(*sizes: tuple[int, int], seed: int = 1) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(3, height, width, generator=generator) for height, width in sizes]


def head_outputs(n: int, p: int, c: int, background: float, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    cls_logits = 2 * torch.randn(n, p, c, generator=generator)
    cls_logits[..., 0] += background
    return {"cls_logits": cls_logits, "bbox_regression": torch.randn(n, p, 4, generator=generator)}


def anchors_of(model: SSD, maps: tuple[int, ...], side: int, n: int) -> list[Tensor]:
    batch = ImageList(torch.zeros(1, 3, side, side), [(side, side)] * n)
    return model.anchor_generator(batch, [torch.zeros(1, 1, size, size) for size in maps])


def limits(model: SSD, columns: int) -> Limits:
    return Limits(
        model.score_thresh,
        model.nms_thresh,
        model.detections_per_img,
        model.topk_candidates,
        largest_coordinate=columns * (model.transform.fixed_size[0] + 1),  # torchvision shifts classes apart
    )


def assert_same_dicts(actual: list[dict[str, Tensor]], expected: list[dict[str, Tensor]]) -> None:
    assert len(actual) == len(expected)
    for ours, theirs in zip(actual, expected, strict=True):
        assert list(ours) == list(theirs) == ["boxes", "scores", "labels"]
        for field in ours:
            assert ours[field].dtype == theirs[field].dtype and ours[field].shape == theirs[field].shape
            torch.testing.assert_close(ours[field], theirs[field], rtol=0, atol=1e-4)


def step(model: SSD, batch, targets) -> tuple[dict[str, float], list[Tensor]]:
    """Return the losses and the gradients of all parameters."""
    model.train().zero_grad()
    losses = model(batch, targets)
    assert list(losses) == ["bbox_regression", "classification"]
    sum(losses.values()).backward()
    grads = [p.grad.clone() for p in model.parameters() if p.requires_grad]
    return {name: loss.item() for name, loss in losses.items()}, grads


def assert_same_step(model: SSD, batch, targets) -> None:
    expected, expected_grads = step(unpatch(model), batch, targets)
    with patched(model):
        actual, grads = step(model, batch, targets)
    assert actual == pytest.approx(expected, rel=1e-5)
    largest = max(grad.abs().max().item() for grad in expected_grads)
    assert largest > 0
    for ours, theirs in zip(grads, expected_grads, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * largest)
