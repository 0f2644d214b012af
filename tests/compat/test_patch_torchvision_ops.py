"""torchvision.ops.nms and batched_nms, patched: the same indices as before"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign, batched_nms, nms

import ssd_fast
from helpers.torchvision_ops import THRESHOLDS, boxes_of, calls_here, scores_of
from ssd_fast.compat import patch_torchvision_ops

pytestmark = pytest.mark.usefixtures("one_thread")

DTYPES = [torch.float32, torch.float64]


def nms_by_class(boxes: Tensor, scores: Tensor, idxs: Tensor, threshold: float) -> Tensor:
    """What torchvision's nms keeps of each class, by descending score; of equal scores the lower index first."""
    groups = [(idxs == value).nonzero()[:, 0] for value in idxs.unique()]
    kept = torch.cat([group[nms(boxes[group], scores[group], threshold)] for group in groups]).sort().values
    return kept[scores[kept].sort(descending=True, stable=True).indices]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("boxes", ["apart", "crowded", "grid", "identical", "negative", "strange"])
@pytest.mark.parametrize("scores", ["distinct", "tied", "equal", "infinite"])
def test_patched_nms_keeps_same_indices(boxes, scores, dtype):
    for n in (1, 33, 257):
        arguments = boxes_of(boxes, n, dtype), scores_of(scores, n, dtype)
        expected = [nms(*arguments, threshold) for threshold in THRESHOLDS]
        with patch_torchvision_ops(), calls_here() as calls:
            actual = [nms(*arguments, threshold) for threshold in THRESHOLDS]
        assert calls == ["nms"] * len(THRESHOLDS)
        for x, y in zip(actual, expected, strict=True):
            assert x.dtype == torch.int64 and torch.equal(x, y)


@pytest.mark.parametrize("dtype", DTYPES)
def test_threshold_beside_iou_is_compared_as_by_torchvision(dtype):
    """Thresholds that float32 does not have, beside the IoU of two boxes: the float32 nearest to some is the IoU."""
    boxes = boxes_of("crowded", 40, dtype)
    boxes[1::2] = boxes[::2] + torch.rand(20, 1, dtype=dtype)
    scores, decisions = torch.tensor([0.9, 0.8], dtype=dtype), set()
    for pair in boxes.split(2):
        iou = float(ssd_fast.reference.box_iou(pair, pair)[0, 1])
        near = [np.nextafter(dtype_of(iou), dtype_of(end)) for dtype_of in (np.float32, np.float64) for end in (0, 1)]
        for threshold in [iou, *map(float, near)]:
            expected = nms(pair, scores, threshold)
            with patch_torchvision_ops():
                assert torch.equal(nms(pair, scores, threshold), expected), (iou, threshold)
            decisions.add((threshold < iou, len(expected)))
    assert decisions == {(True, 1), (False, 2)}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [200, 1500])  # torchvision moves the boxes, or runs one NMS for each class
@pytest.mark.parametrize("boxes", ["crowded", "grid", "negative", "strange"])
def test_patched_batched_nms_keeps_what_nms_keeps_of_each_class(boxes, n, dtype):
    arguments = boxes_of(boxes, n, dtype), scores_of("tied", n, dtype), torch.randint(-3, 4, (n,))
    for threshold in (0.3, 0.5, 0.7):
        expected = nms_by_class(*arguments, threshold)
        with patch_torchvision_ops(), calls_here() as calls:
            assert torch.equal(batched_nms(*arguments, threshold), expected)
        assert calls == ["batched_nms"]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.int16, torch.int32, torch.float32, torch.float16])
def test_classes_of_any_dtype_give_the_same(dtype):
    boxes, scores = boxes_of("crowded", 300, torch.float32), scores_of("distinct", 300, torch.float32)
    idxs = torch.randint(2 if dtype == torch.bool else 7, (300,)).to(dtype)
    expected = batched_nms(boxes, scores, idxs, 0.5)
    with patch_torchvision_ops(), calls_here() as calls:
        assert torch.equal(batched_nms(boxes, scores, idxs, 0.5), expected)
    assert calls == ["nms" if dtype.is_floating_point else "batched_nms"]  # for floats, torchvision moves the boxes


@pytest.mark.parametrize(
    ("rows", "idxs", "moved", "exact"),
    [
        # 90 * 1001 is added to class 90, where floats are 2^-7 apart; the IoU of its boxes is above 0.5 by 2^-13.
        ([[0, 0, 10, 10], [0, 0, 10, 20 - 2**-9], [0, 0, 1, 1000]], [90, 90, 0], [0, 1, 2], [0, 2]),
        # Class 1 moves by 11, onto class 0.
        ([[0, 0, 10, 10], [-11, -11, -1, -1]], [0, 1], [0], [0, 1]),
        # One NaN makes every offset NaN.
        ([[0, 0, 10, 10], [0, 0, 10, 10], [torch.nan, 0, 1, 1]], [0, 0, 1], [0, 1, 2], [0, 2]),
    ],
)
def test_patched_batched_nms_does_not_move_boxes(rows, idxs, moved, exact):
    boxes, idxs = torch.tensor(rows, dtype=torch.float32), torch.tensor(idxs)
    scores = torch.arange(len(boxes), 0, -1.0)
    assert batched_nms(boxes, scores, idxs, 0.5).tolist() == moved
    assert nms_by_class(boxes, scores, idxs, 0.5).tolist() == exact
    with patch_torchvision_ops():
        assert batched_nms(boxes, scores, idxs, 0.5).tolist() == exact


class Backbone(nn.Module):
    """Two feature maps of 32 channels."""

    out_channels = 32

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 32, 8, stride=8), nn.Conv2d(32, 32, 2, stride=2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        first = self.first(x)
        return OrderedDict([("0", first), ("1", self.second(first))])


def faster_rcnn() -> nn.Module:
    anchors = AnchorGenerator(((16,), (32,)), ((0.5, 1.0, 2.0),) * 2)
    pool = MultiScaleRoIAlign(["0", "1"], 7, 2)
    return FasterRCNN(
        Backbone(), 5, rpn_anchor_generator=anchors, box_roi_pool=pool, min_size=128, max_size=128, box_score_thresh=0.1
    )


def retinanet() -> nn.Module:
    anchors = AnchorGenerator(((16,), (32,)), ((0.5, 1.0, 2.0),) * 2)
    return RetinaNet(Backbone(), 5, anchor_generator=anchors, min_size=128, max_size=128, score_thresh=0.005)


def fcos() -> nn.Module:
    anchors = AnchorGenerator(((8,), (16,)), ((1.0,),) * 2)
    return FCOS(Backbone(), 5, anchor_generator=anchors, min_size=128, max_size=128, score_thresh=0.005)


@pytest.mark.parametrize("make", [faster_rcnn, retinanet, fcos])
def test_detectors_find_the_same(make: Callable[[], Any]) -> None:
    model = make().eval()
    images = [torch.rand(3, 128, 128), torch.rand(3, 100, 120)]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("weight"):
                parameter.copy_(torch.randn_like(parameter) * 1.5 * parameter[0].numel() ** -0.5)
        expected = model(images)
        with patch_torchvision_ops(), calls_here() as calls:
            actual = model(images)
    assert len(calls) >= len(images) and set(calls) == {"batched_nms"}
    for x, y in zip(actual, expected, strict=True):
        assert len(x["scores"].unique()) > 20, len(x["scores"])
        assert x.keys() == y.keys() and all(torch.equal(x[key], y[key]) for key in x)


def test_nms_on_gpu_keeps_same_indices(cuda):
    """Whole numbers, whose products are exact, so that fused additions change nothing."""
    if not ssd_fast.cuda_status().startswith("available"):
        pytest.skip("this build has no CUDA kernels")
    for dtype in DTYPES:
        boxes, scores = boxes_of("grid", 500, dtype).to(cuda), scores_of("distinct", 500, dtype).to(cuda)
        expected = [torchvision.ops.nms(boxes, scores, threshold) for threshold in THRESHOLDS]
        with patch_torchvision_ops(), calls_here() as calls:
            for threshold, kept in zip(THRESHOLDS, expected, strict=True):
                assert torch.equal(torchvision.ops.nms(boxes, scores, threshold), kept)
        assert calls == ["nms"] * len(THRESHOLDS)
