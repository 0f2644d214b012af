"""The kernels compared with torch and torchvision: first the detections, then the times."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...compat import patched
from ...detector import Detector
from ...images import as_image_tensors
from ...models._uninitialized import without_weights
from ...ops import postprocess
from ...specs import BoxCoderSpec
from .baseline import torch_postprocess
from .heads import trained_like_heads

__all__ = ["Row", "detector_rows", "patch_rows"]

Detect = Callable[[], list[dict[str, Tensor]]]

_SCORE_THRESHOLD = 0.08  # on the shipped photos, no score or IoU is close enough to a threshold to be rounded past it
_SCORE_TOLERANCE, _BOX_TOLERANCE = 1e-5, 1e-2
_SECONDS, _FEWEST_RUNS, _MOST_RUNS = 2.0, 3, 60


@dataclass(frozen=True)
class Row:
    """One comparison: `same` of `total` detections are identical and in the same place; milliseconds are medians."""

    what: str
    rival: str
    device: str
    images: int
    same: int
    total: int
    rival_ms: float
    ours_ms: float

    @property
    def ratio(self) -> float:
        return self.rival_ms / self.ours_ms

    def as_dict(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "ratio": self.ratio}


def detector_rows(detector: Detector, photos: Sequence[Path], batches: Iterable[int] = (1, 8)) -> list[Row]:
    """Compare the shipped detector without its network: postprocess alone, and with preprocessing (plain torch)."""
    rows = []
    for count in batches:
        rows += _detector_rows(detector, [photos[i % len(photos)] for i in range(count)])
    return rows


def _detector_rows(detector: Detector, photos: Sequence[Path]) -> list[Row]:
    network, preset, boxes = detector.network, detector.preset, detector._default_boxes
    spec = dataclasses.replace(preset.postprocess, score_threshold=_SCORE_THRESHOLD)
    images = as_image_tensors(photos, detector.device)
    batch, original_sizes = network.preprocessing(images)
    with torch.no_grad():
        bbox_maps, cls_maps = network.head_maps(batch)

    def ours(sizes: Tensor = original_sizes) -> list[dict[str, Tensor]]:
        window = preset.default_boxes.extent
        return postprocess(
            cls_maps, bbox_maps, boxes, spec, coder=preset.coder, image_sizes=window, original_sizes=sizes
        ).to_list()

    def rival(sizes: Tensor = original_sizes) -> list[dict[str, Tensor]]:
        return torch_postprocess(cls_maps, bbox_maps, boxes, preset, spec, sizes)

    def ours_from_images() -> list[dict[str, Tensor]]:
        return ours(network.preprocessing(images)[1])

    def rival_from_images() -> list[dict[str, Tensor]]:
        return rival(network.preprocessing(images)[1])

    count, rival_name = len(photos), "the same steps in torch and torchvision.ops, on the photos' head maps"
    return [
        _compare("detector: postprocess", rival_name, detector.device, count, rival, ours),
        _compare(
            "detector: pre + postprocess", rival_name, detector.device, count, rival_from_images, ours_from_images
        ),
    ]


def patch_rows(device: torch.device, batches: Iterable[int] = (1, 8)) -> list[Row]:
    """Compare postprocess_detections of torchvision's ssd300_vgg16 before and after `patch`, on trained-like heads."""
    from torchvision.models.detection import ssd300_vgg16

    with without_weights():  # its weights are not needed, and take seconds to fill
        model = ssd300_vgg16(weights=None, weights_backbone=None, num_classes=91).eval()
    return [_patch_row(model, count, device) for count in batches]


def _patch_row(model: Any, count: int, device: torch.device) -> Row:
    from torchvision.models.detection.image_list import ImageList

    shapes = [(300, 300)] * count
    maps = [torch.zeros(1, 1, size, size, dtype=torch.float32) for size in (38, 19, 10, 5, 3, 1)]
    images = ImageList(torch.zeros(1, 3, 300, 300, dtype=torch.float32), shapes)
    anchors = model.anchor_generator(images, maps)
    x, y, w, h = (1 / weight for weight in model.box_coder.weights)
    cls_logits, bbox_regression = trained_like_heads(
        count, 91, anchors[0], BoxCoderSpec((x, y, w, h)), model.nms_thresh
    )
    outputs = {"cls_logits": cls_logits.to(device), "bbox_regression": bbox_regression.to(device)}
    anchors = [anchor.to(device) for anchor in anchors]

    def detect() -> list[dict[str, Tensor]]:
        return model.postprocess_detections(outputs, anchors, shapes)

    def detect_patched() -> list[dict[str, Tensor]]:
        with patched(model):
            return detect()

    rival_name = "postprocess_detections before the patch, with 91 classes and 160 candidates per image"
    return _compare("patch(ssd300_vgg16)", rival_name, device, count, detect, detect_patched)


def _compare(what: str, rival_name: str, device: torch.device, images: int, rival: Detect, ours: Detect) -> Row:
    same, total = _identical(ours(), rival())
    rival_ms, ours_ms = _alternate(rival, ours, device)
    return Row(what, rival_name, str(device), images, same, total, rival_ms, ours_ms)


def _identical(ours: list[dict[str, Tensor]], theirs: list[dict[str, Tensor]]) -> tuple[int, int]:
    """Count the detections that are identical and in the same place of the order, and all detections."""
    same = total = 0
    for a, b in zip(ours, theirs, strict=True):
        shared = min(len(a["labels"]), len(b["labels"]))
        total += max(len(a["labels"]), len(b["labels"]))
        equal = a["labels"][:shared] == b["labels"][:shared]
        equal &= (a["scores"][:shared] - b["scores"][:shared]).abs() <= _SCORE_TOLERANCE
        equal &= ((a["boxes"][:shared] - b["boxes"][:shared]).abs() <= _BOX_TOLERANCE).all(-1)
        same += int(equal.sum())
    return same, total


def _alternate(rival: Detect, ours: Detect, device: torch.device) -> tuple[float, float]:
    """Median milliseconds of each, run alternately so that whatever slows the machine slows both."""
    times: tuple[list[float], list[float]] = ([], [])
    begin = time.perf_counter()
    while len(times[0]) < _MOST_RUNS and (len(times[0]) < _FEWEST_RUNS or time.perf_counter() - begin < _SECONDS):
        for run, spent in zip((rival, ours), times, strict=True):
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            start = time.perf_counter()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            spent.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times[0]), statistics.median(times[1])
