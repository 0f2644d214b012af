"""The merge: all candidates of an image's tiles enter one NMS, and fragments at edges between tiles go."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import ssd_fast
from helpers.tiles import noise, tiny
from ssd_fast.detector import Detector
from ssd_fast.detector.tiled import detect_tiled
from ssd_fast.detector.tiles import Tiling
from ssd_fast.reference.nms import greedy, rank

pytestmark = pytest.mark.usefixtures("one_thread")

RANDOM_SPECS = {
    "per_class": {},
    "inclusive": {"iou_inclusive": True, "iou_threshold": 0.3},
    "argmax": {"class_mode": "argmax"},
    "agnostic": {"class_mode": "agnostic", "score_inclusive": True},
    "top_k": {"top_k": 7},
    "level": {"top_k": 20, "top_k_scope": "level", "clip": "before_nms", "rescale": "before_nms", "min_box_size": 5.0},
    "image": {"top_k": 30, "top_k_scope": "image", "clip": "before_nms"},
    "after_nms": {"clip": "after_nms"},
    "few": {"keep_top_k": 3},
}


def plain(detector: Detector, image: Tensor) -> dict[str, Tensor]:
    """Detect in tiles, written out: each tile alone, the boxes moved, and the reference's NMS of the union."""
    spec, (_, height, width) = detector.preset.postprocess, image.shape
    tiles = [(0, 0, width, height), *Tiling(64, 48, 0.25).tiles(height, width)]
    clip = "none" if spec.clip == "after_nms" else spec.clip
    everything = dataclasses.replace(spec, iou_threshold=1, iou_inclusive=False, keep_top_k=99_999, clip=clip)
    union = []
    for left, top, w, h in tiles:
        batch, sizes = detector.network.preprocessing([image[:, top : top + h, left : left + w]])
        bbox_maps, cls_maps = detector.network.head_maps(batch)
        boxes = ssd_fast.default_boxes(detector.preset.default_boxes)
        extent = detector.preset.default_boxes.extent
        (found,) = ssd_fast.postprocess(
            cls_maps,
            bbox_maps,
            boxes,
            everything,
            coder=detector.preset.coder,
            image_sizes=extent,
            original_sizes=sizes,
        ).to_list()
        for (x1, y1, x2, y2), score, label, index in zip(*(found[f].tolist() for f in found), strict=True):
            cut = (
                (left > 0 and x1 <= 0.01 * w)
                or (top > 0 and y1 <= 0.01 * h)
                or (left + w < width and x2 >= 0.99 * w)
                or (top + h < height and y2 >= 0.99 * h)
            )
            union.append(((x1 + left, y1 + top, x2 + left, y2 + top), score, label, index, cut))
    boxes = torch.tensor([box for box, *_ in union]).reshape(-1, 4)
    scores = torch.tensor([score for _, score, *_ in union])
    groups = torch.tensor([0 if spec.class_mode == "agnostic" else label for _, _, label, *_ in union])
    kept = set()
    for group in groups.unique():
        order = rank(scores.where(groups == group, torch.nan))
        kept |= set(greedy(boxes, order, spec.iou_threshold, inclusive=spec.iou_inclusive).tolist())
    best = [index for index in rank(scores).tolist() if index in kept][: spec.keep_top_k * len(tiles)]
    best = [i for i in best if not (union[i][4] and any(inside(union[i], union[j], groups[[i, j]]) for j in best))]
    limits = torch.tensor([width, height, width, height])
    final = boxes[best].clamp(torch.zeros(4), limits) if spec.clip == "after_nms" else boxes[best]
    labels, box_idxs = (torch.tensor([union[i][field] for i in best], dtype=torch.int64) for field in (2, 3))
    return {"boxes": final, "scores": scores[best], "labels": labels, "box_idxs": box_idxs}


def inside(part: tuple, whole: tuple, groups: Tensor) -> bool:
    """Whether more than half of a box lies in a larger box of the group, which scores at least half as high."""
    (x1, y1, x2, y2), (left, top, right, bottom) = part[0], whole[0]
    area = (x2 - x1) * (y2 - y1)
    common = max(0, min(x2, right) - max(x1, left)) * max(0, min(y2, bottom) - max(y1, top))
    larger = area < (right - left) * (bottom - top) and whole[1] >= part[1] / 2
    return bool(groups[0] == groups[1]) and larger and common > area / 2


@pytest.mark.parametrize("name", RANDOM_SPECS)
def test_merge_equals_plain_reference(name):
    detector = tiny(**RANDOM_SPECS[name])
    for seed, size in enumerate(((150, 130), (64, 200), (300, 40))):
        image = noise(*size, seed)
        found = detector(image)
        (given,) = found.to_list()
        expected = plain(detector, image)
        assert len(expected["scores"]) > 8
        for field, values in expected.items():
            assert torch.equal(given[field], values), field
        assert found.boxes.shape[1] == max(detector.preset.postprocess.keep_top_k, len(values))


def test_keep_top_k_counts_per_tile():
    image = noise(150, 130)
    tiles = 1 + len(Tiling(64, 48, 0.25).tiles(150, 130))
    few, many = (tiny(keep_top_k=keep, iou_threshold=0.9)(image) for keep in (1, 1000))
    assert tiles // 2 < few.counts[0] <= tiles < many.counts[0] and few.boxes.shape[1] == few.counts[0]
    assert many.boxes.shape == (1, 1000, 4) and (many.labels[0, many.counts[0] :] == -1).all()
    assert few.scores.min() >= many.scores[0, tiles - 1]


def merge_by_hand(whole: list, first: list, second: list, **changes: Any) -> list[tuple]:
    """Merge (x1, y1, x2, y2, score, label) of an image of 100 x 60 and of its tiles, x = 0..64 and 36..100."""

    def detect(crops, spec):
        found = [whole, first, second][-len(crops) :]
        assert [tuple(crop.shape[1:]) for crop in crops] == [(60, 100), (60, 64), (60, 64)]
        assert spec.iou_threshold == 1 and spec.keep_top_k == 70
        rows = torch.tensor([[*part, *[[0] * 6] * (4 - len(part))] for part in found], dtype=torch.float32)
        counts = torch.tensor([len(part) for part in found])
        labels = rows[..., 5].long()
        return ssd_fast.Detections(rows[..., :4], rows[..., 4], labels, labels, counts)

    preset = SimpleNamespace(default_boxes=SimpleNamespace(num_boxes=10))
    spec = ssd_fast.PostprocessSpec(top_k=None, iou_threshold=0.5, **changes)
    found = detect_tiled([torch.zeros(3, 60, 100)], Tiling(64, 64, 0.2), detect, preset, spec, 7)
    assert found.boxes.shape == (1, 200, 4)
    (found,) = found.to_list()
    return [(*box, label) for box, label in zip(found["boxes"].tolist(), found["labels"].tolist(), strict=True)]


@pytest.mark.parametrize(
    "whole, first, second, expected",
    [
        # The same object in both tiles is found once, by the better box.
        ([], [(40, 9, 60, 29, 0.8, 1)], [(5, 10, 25, 30, 0.9, 1)], [(41, 10, 61, 30, 1)]),
        # Of another class it stays.
        ([], [(40, 9, 60, 29, 0.8, 2)], [(5, 10, 25, 30, 0.9, 1)], [(41, 10, 61, 30, 1), (40, 9, 60, 29, 2)]),
        # An object that the first tile cuts off, and the second sees whole; it need not score higher.
        ([], [(50, 10, 64, 50, 0.9, 1)], [(14, 10, 60, 50, 0.8, 1)], [(50, 10, 96, 50, 1)]),
        # Or the whole image does.
        ([(10, 0, 95, 60, 0.7, 1)], [(50, 10, 63.5, 50, 0.9, 1)], [], [(10, 0, 95, 60, 1)]),
        # A larger box that scores less than half as high drops nothing.
        ([(10, 0, 95, 60, 0.4, 1)], [(50, 10, 64, 50, 0.9, 1)], [], [(50, 10, 64, 50, 1), (10, 0, 95, 60, 1)]),
        # Not a part: of another class, not at an edge between tiles, at the edge of the image, or half outside.
        ([(10, 0, 95, 60, 0.7, 1)], [(50, 10, 64, 50, 0.9, 2)], [], [(50, 10, 64, 50, 2), (10, 0, 95, 60, 1)]),
        ([(10, 0, 95, 60, 0.7, 1)], [(50, 10, 63, 50, 0.9, 1)], [], [(50, 10, 63, 50, 1), (10, 0, 95, 60, 1)]),
        ([(0, 0, 95, 60, 0.7, 1)], [(0, 0, 9, 60, 0.9, 1)], [], [(0, 0, 9, 60, 1), (0, 0, 95, 60, 1)]),
        ([(57, 10, 99, 50, 0.7, 1)], [(50, 10, 64, 50, 0.9, 1)], [], [(50, 10, 64, 50, 1), (57, 10, 99, 50, 1)]),
        # Cut by both edges, the larger part is kept.
        ([], [(30, 10, 64, 50, 0.8, 1)], [(0, 10, 16, 50, 0.9, 1)], [(30, 10, 64, 50, 1)]),
        # Of equal scores, the whole image comes first, then the tiles in order.
        (
            [(0, 0, 9, 9, 0.5, 1)],
            [(20, 0, 29, 9, 0.5, 1)],
            [(20, 20, 29, 29, 0.5, 1)],
            [(0, 0, 9, 9, 1), (20, 0, 29, 9, 1), (56, 20, 65, 29, 1)],
        ),
        ([], [], [], []),
    ],
)
def test_merge_by_hand(whole, first, second, expected):
    assert merge_by_hand(whole, first, second) == expected


def test_equal_iou_suppresses_if_inclusive():
    whole, first = [(0, 0, 20, 10, 0.9, 1)], [(0, 0, 10, 10, 0.8, 1)]
    assert merge_by_hand(whole, first, []) == [(0, 0, 20, 10, 1), (0, 0, 10, 10, 1)]
    assert merge_by_hand(whole, first, [], iou_inclusive=True) == [(0, 0, 20, 10, 1)]


def test_nan_box_is_no_fragment_and_hides_none():
    nan = float("nan")
    found = merge_by_hand([(nan, 0, 95, 60, 0.7, 1)], [(50, 10, 64, 50, 0.9, 1)], [])
    assert len(found) == 2 and found[0] == (50, 10, 64, 50, 1)
