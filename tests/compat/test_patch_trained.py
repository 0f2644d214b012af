"""A trained network in torchvision's SSD gives the same detections, losses and gradients, patched and unpatched.

The network is the SSDLite300 for COCO that ships with this package, so that the head outputs are real.
"""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD

import ssd_fast
from helpers.comparators import assert_same_detections
from helpers.patch_models import assert_same_step, limits
from ssd_fast.assets import COCO_CLASSES, asset_path
from ssd_fast.images import as_image_tensor
from ssd_fast.models import load_network

SIDE, ROWS = 300, 1917
VOC_COLUMNS = [0, 5, 2, 16, 9, 44, 6, 3, 17, 62, 21, 67, 18, 19, 4, 1, 64, 20, 63, 7, 72]  # VOC's classes among COCO's


pytestmark = pytest.mark.usefixtures("one_thread")


class Network(nn.Module):
    """A backbone that is a whole network: its maps are the network's outputs, with offsets in torchvision's order."""

    def __init__(self, columns: list[int]) -> None:
        super().__init__()
        self.network, _ = load_network(asset_path("ssdlite300_mobilenet_v2_coco.safetensors"))
        self.columns = columns

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        bbox_regression, cls_logits = self.network(batch)
        xywh = bbox_regression[..., [1, 0, 3, 2]]
        return OrderedDict(bbox_regression=xywh, cls_logits=cls_logits[..., self.columns])


class Head(nn.Module):
    def forward(self, maps: list[Tensor]) -> dict[str, Tensor]:
        return {"bbox_regression": maps[0], "cls_logits": maps[1]}


class Anchors(nn.Module):
    """The default boxes that the network was trained with, in pixels."""

    def forward(self, batch: ImageList, maps: list[Tensor]) -> list[Tensor]:
        boxes = SIDE * ssd_fast.default_boxes(ssd_fast.preset("tf_ssdlite_mobilenet_v2").default_boxes)
        assert boxes.shape == (ROWS, 4)
        return [boxes] * len(batch.image_sizes)


@pytest.fixture(scope="module", params=[91, 21])
def trained(request) -> SSD:
    columns = list(range(91)) if request.param == 91 else VOC_COLUMNS
    half = [0.5] * 3
    return SSD(Network(columns), Anchors(), (SIDE, SIDE), len(columns), half, half, head=Head())


def photos(n: int) -> list[Tensor]:
    """Return images of different sizes: three photos, and mirrored, stretched and cropped ones."""
    cat, cup, astronaut = (
        as_image_tensor(asset_path(f"{name}.jpg")) / 255 for name in ("chelsea", "coffee", "astronaut")
    )
    small = nn.functional.interpolate(astronaut[None], (200, 350))[0]
    parts = astronaut[:, :300], cup[:, :, 100:450], cat[:, 20:, 60:400]
    return [cat, astronaut, cup, cat.flip(-1), small, *parts][:n]


SHOWN_CLASSES = ["cat", "person", "cup", "cat", "person", "person", "cup", "cat"]


@torch.no_grad()
def confident(model: SSD, batch: list[Tensor]) -> list[dict[str, Tensor]]:
    found = model.eval()(batch)
    return [{field: values[image["scores"] > 0.4] for field, values in image.items()} for image in found]


@pytest.mark.parametrize("n", [1, 8])
@pytest.mark.parametrize("score_thresh", [0.01, 0.001])
def test_patched_trained_model_finds_same_in_photos(trained, n, score_thresh):
    batch, columns = photos(n), trained.backbone.columns
    assert len({image.shape for image in batch}) >= n - 1
    trained.score_thresh = score_thresh  # SSD300's, SSDlite's
    with torch.no_grad():
        expected = trained.eval()(batch)
        with ssd_fast.patched(trained):
            actual = trained(batch)
    comparison = assert_same_detections(actual, expected, limits(trained, len(columns)))
    assert comparison.pairs >= (n if score_thresh == 0.01 else 50 * n) and not comparison.excused
    for shown, image in zip(SHOWN_CLASSES, confident(trained, batch), strict=False):
        names = [COCO_CLASSES[columns[label]] for label in image["labels"].tolist()]
        assert shown in names or COCO_CLASSES.index(shown) not in columns, names  # VOC has no cups
    report = ssd_fast.compare(trained, batch)
    assert report.agrees and report.pairs == report.detections == comparison.pairs


@pytest.mark.parametrize("n", [1, 8])
def test_patched_trained_model_has_same_losses_on_photos(trained, n):
    """The ground truth is the network's own detections, moved a little so that there is something to learn."""
    batch = photos(n)
    targets = [{**image, "boxes": image["boxes"] * 0.95} for image in confident(trained, batch)]
    assert all(len(target["labels"]) >= 1 for target in targets)
    assert_same_step(trained, batch, targets)
