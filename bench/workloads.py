"""Inputs of the benchmarks: boxes for NMS, and head outputs like those of trained and of untrained SSDs."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

import ssd_fast
from ssd_fast import DefaultBoxSpec
from ssd_fast.presets import Preset

OBJECTS = 20  # per image
CLUSTER = 8  # default boxes that see an object: 20 * 8 = 160 candidates per image


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def uniform_boxes(n: int, seed: int = 0, extent: float = 1000.0) -> Tensor:
    """[n, 4] boxes with sides of 8 to 100 px anywhere: sparse at 1,000, very crowded at 100,000."""
    g = generator(seed)
    center = torch.rand(n, 2, generator=g) * extent
    half = (8 + 92 * torch.rand(n, 2, generator=g)) / 2
    return torch.cat((center - half, center + half), -1)


def clustered_boxes(n: int, seed: int = 0, extent: float = 1000.0, size: int = 50) -> Tensor:
    """[n, 4] boxes around n / size objects, as from a detector: NMS keeps few."""
    g = generator(seed)
    objects = uniform_boxes(max(n // size, 1), seed, extent)
    boxes = objects[torch.randint(len(objects), (n,), generator=g)]
    return boxes + torch.randn(n, 4, generator=g) * 0.08 * (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)


def staircase_boxes(n: int) -> Tensor:
    """[n, 4] boxes, each overlapping only the next, with an IoU of 0.6: the longest chain of decisions."""
    x = torch.arange(n, dtype=torch.float32) * 25
    return torch.stack((x, torch.zeros(n), x + 100, torch.full((n,), 100.0)), -1)


def stacked_boxes(n: int, seed: int = 0) -> Tensor:
    """[n, 4] boxes that all overlap: NMS keeps one. torchvision's own benchmark uses such boxes."""
    return torch.tensor([100.0, 100.0, 200.0, 200.0]) + torch.rand(n, 4, generator=generator(seed))


def distinct_scores(n: int, seed: int = 0) -> Tensor:
    """[n] scores without ties, in random order."""
    return (torch.randperm(n, generator=generator(seed)).float() + 1) / (n + 1)


def problems_of_images(num_images: int, classes: int, n: int) -> tuple[Tensor, Tensor]:
    """Boxes [N, n, 4] and scores [N, C, n] for nms_padded."""
    boxes = torch.stack([clustered_boxes(n, seed, extent=300.0) for seed in range(num_images)])
    return boxes, torch.rand(num_images, classes, n, generator=generator(6))


def boxes_of_classes(n: int, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes [n, 4], scores [n] and classes [n] for batched_nms."""
    idxs = torch.randint(classes, (n,), generator=generator(5))
    return clustered_boxes(n, seed=3, extent=300.0), distinct_scores(n, seed=4), idxs


def crowds(num_images: int, num_gt: int) -> tuple[Tensor, Tensor]:
    """Packed ground truths for match, num_gt per image: boxes and offsets."""
    images = [uniform_boxes(num_gt, seed, extent=300.0).clamp(0, 300) for seed in range(num_images)]
    return torch.cat(images), torch.arange(num_images + 1) * num_gt


def ground_truth(num_images: int, num_columns: int) -> tuple[list[Tensor], list[Tensor]]:
    """Boxes and labels of 1 to 15 objects per image."""
    g = generator(7)
    sizes = [1 + 7 * n % 15 for n in range(num_images)]
    boxes = [uniform_boxes(size, seed, extent=300.0) for seed, size in enumerate(sizes)]
    return boxes, [torch.randint(1, num_columns, (size,), generator=g) for size in sizes]


def preset(maps: int = 6) -> Preset:
    """torchvision's SSD300: 8732 default boxes, top 400 per class, the best 200 per image.

    maps: use only the last maps, for fewer default boxes: 790 on 4 maps, 190 on 3.
    """
    found = ssd_fast.preset("torchvision_ssd300_vgg16")
    whole = found.default_boxes
    cut = dataclasses.replace(
        whole,
        feature_maps=whole.feature_maps[-maps:],
        box_sizes=whole.box_sizes[-maps:],
        steps=whole.level_steps[-maps:],
    )
    return dataclasses.replace(found, default_boxes=cut)


def head_outputs(
    kind: str, num_images: int, num_columns: int, device: torch.device, seed: int = 0, maps: int = 6
) -> tuple[Tensor, Tensor, Tensor]:
    """cls_logits [N, P, C], bbox_regression [N, P, 4] and default boxes [P, 4] of SSD300's last maps.

    kind: "sparse": 160 candidates per image, around 20 objects, as from a trained SSD; "dense": every class has more
    than top_k candidates; "untrained": every default box is a candidate of every class (for C up to 91).
    """
    default_boxes = ssd_fast.default_boxes(preset(maps).default_boxes)
    p = len(default_boxes)
    g = generator(seed)  # on the CPU, so that every device gets the same numbers
    logits = torch.randn(num_images, p, num_columns, generator=g).to(device)
    deltas = torch.randn(num_images, p, 4, generator=g).to(device)
    if kind == "untrained":
        return logits * 0.01, deltas, default_boxes.to(device)
    logits[..., 0] += 5.6 if kind == "dense" else 12
    if kind == "sparse":
        _place_objects(logits, deltas, default_boxes, seed)
    return logits, deltas, default_boxes.to(device)


def split_levels(rows: Tensor, spec: DefaultBoxSpec) -> tuple[Tensor, ...]:
    """Split the heads' rows [N, P, K] by level."""
    sizes = [h * w * a for (h, w), a in zip(spec.feature_maps, spec.boxes_per_cell, strict=True)]
    return rows.split(sizes, 1)


def raw_maps(rows: Tensor, spec: DefaultBoxSpec, memory_format: torch.memory_format) -> tuple[Tensor, ...]:
    """Rows [N, P, K] as the heads' convolutions return them: [N, A * K, h, w] per level."""
    levels = zip(split_levels(rows, spec), spec.feature_maps, strict=True)
    maps = (level.reshape(len(rows), h, w, -1).permute(0, 3, 1, 2) for level, (h, w) in levels)
    return tuple(level.contiguous(memory_format=memory_format) for level in maps)


def _place_objects(logits: Tensor, deltas: Tensor, default_boxes: Tensor, seed: int) -> None:
    """Let the default boxes that overlap an object most see it, each a bit differently."""
    g = generator(seed)
    coder = preset().coder
    num_images, _, columns = logits.shape
    for n in range(num_images):
        objects = default_boxes[torch.randint(len(default_boxes), (OBJECTS,), generator=g)]
        nearest = ssd_fast.box_iou(objects, default_boxes).topk(CLUSTER).indices.flatten()
        seen = ssd_fast.encode_boxes(objects.repeat_interleave(CLUSTER, 0), default_boxes[nearest], coder)
        label = torch.randint(1, columns, (OBJECTS,), generator=g).repeat_interleave(CLUSTER)
        rows = nearest.to(logits.device)
        deltas[n, rows] = (seen + 0.3 * torch.randn(seen.shape, generator=g)).to(deltas.device)
        # From 3 below the background's 12 to 4 above it: scores from 0.05 to 0.98.
        height = 9 + 7 * torch.rand(len(rows), generator=g)
        logits[n, rows, label.to(logits.device)] = height.to(logits.device)


def candidates(logits: Tensor) -> float:
    """Candidates per image: class scores above the threshold."""
    scores = logits.softmax(-1)[..., 1:]
    return float((scores > preset().postprocess.score_threshold).sum()) / len(logits)
