"""Inputs for the tests, made from integers, so that every machine and library version sees the same bits."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ssd_fast.specs import BoxCoderSpec, DefaultBoxSpec, PostprocessSpec

BORDER_SIZES = (0, 1, 2, 31, 32, 33, 63, 64, 65, 255, 256, 257)  # around the size of a warp, a mask word and a block

NAN, INF, HUGE = float("nan"), float("inf"), 3e38

STRANGE_BOXES = (
    (0.0, 0.0, 10.0, 10.0),
    (10.0, 10.0, 0.0, 0.0),  # inside out: its area is positive
    (0.0, 10.0, 10.0, 0.0),  # upside down: its area is negative
    (10.0, 0.0, 0.0, 10.0),  # mirrored: likewise
    (5.0, 5.0, 5.0, 5.0),  # a point
    (0.0, 5.0, 10.0, 5.0),  # a line
    (NAN, 0.0, 10.0, 10.0),
    (0.0, 0.0, 10.0, NAN),
    (NAN, NAN, NAN, NAN),
    (-INF, -INF, INF, INF),
    (0.0, 0.0, INF, 10.0),
    (INF, INF, INF, INF),
    (-HUGE, -HUGE, HUGE, HUGE),  # its sides overflow
    (0.0, 0.0, HUGE, HUGE),  # its area overflows
    (0.0, 0.0, 1e-30, 1e-30),  # its area underflows
    (-0.0, -0.0, 10.0, 10.0),
    (1e7, 1e7, 1e7 + 1, 1e7 + 1),
)

# Made here and not where they are used, so that flush-to-zero cannot flush the subnormal one first.
STRANGE_SCORES = torch.tensor([NAN, INF, -INF, 0.0, -0.0, HUGE, 1e-40, 0.5, 0.5, 0.25])


def bits(seed: int, *shape: int) -> np.ndarray:
    """Return uniform uint64 (splitmix64)."""
    z = np.arange(1, int(np.prod(shape)) + 1, dtype=np.uint64) + np.uint64(seed % 2**32) * np.uint64(2**31)
    with np.errstate(over="ignore"):
        z = z * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (z ^ (z >> np.uint64(31))).reshape(shape)


def integers(seed: int, low: int, high: int, *shape: int) -> Tensor:
    """Return uniform int64 in [low, high)."""
    return torch.from_numpy((bits(seed, *shape) % np.uint64(high - low)).astype(np.int64) + low)


def uniform(seed: int, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Return uniform float32 in [low, high), of 24 bits."""
    share = (bits(seed, *shape) >> np.uint64(40)).astype(np.float32) / np.float32(2**24)
    return torch.from_numpy(np.asarray(share * np.float32(high - low) + np.float32(low)))


def bell(seed: int, *shape: int) -> Tensor:
    """Return float32 of mean 0 and variance 1, nearly normal: the sum of 12 uniforms."""
    total = torch.zeros(shape)
    for i in range(12):
        total = total + uniform(seed * 12 + i, *shape)
    return total - 6


def boxes(seed: int, *shape: int, extent: float = 300.0) -> Tensor:
    """Return boxes [*shape, 4] crowded enough to overlap; about a tenth reach out of the extent."""
    corner = uniform(seed, *shape, 2, low=-0.1 * extent, high=0.9 * extent)
    size = uniform(seed + 1, *shape, 2, low=0.02 * extent, high=0.4 * extent)
    return torch.cat((corner, corner + size), -1)


def grid_boxes(seed: int, n: int, cells: int = 8) -> Tensor:
    """Return boxes [n, 4] with small integer corners: many are equal, or have IoUs of exactly 1/2 and 1/3."""
    corner = integers(seed, 0, cells, n, 2)
    size = integers(seed + 1, 1, cells // 2 + 1, n, 2)
    return torch.cat((corner, corner + size), -1).float()


def strange_boxes(seed: int, n: int) -> Tensor:
    """Return boxes [n, 4], half of them from STRANGE_BOXES, the others ordinary ones of about their size."""
    strange = torch.tensor(STRANGE_BOXES)[integers(seed, 0, len(STRANGE_BOXES), n)]
    return torch.where(integers(seed + 1, 0, 2, n, 1) == 1, strange, boxes(seed + 2, n, extent=12.0))


def scores(seed: int, *shape: int) -> Tensor:
    return uniform(seed, *shape)


def tied_scores(seed: int, *shape: int, levels: int = 4) -> Tensor:
    """Return scores of a few values, among them zeros of both signs."""
    values = torch.tensor([0.0, -0.0, 0.5, 0.75, 0.25, 1.0])[:levels]
    return values[integers(seed, 0, levels, *shape)]


def strange_scores(seed: int, *shape: int) -> Tensor:
    return STRANGE_SCORES[integers(seed, 0, len(STRANGE_SCORES), *shape)]


def logits(seed: int, n: int, p: int, c: int, *, background: float = 2.0) -> Tensor:
    """Return logits [n, p, c] with the first column raised, so that few rows pass a softmax, as in a trained head."""
    values = bell(seed, n, p, c) * 2
    values[..., 0] += background
    return values


def noncontiguous(x: Tensor) -> Tensor:
    """Return the same values with gaps between the rows and between the elements."""
    wide = torch.full((*x.shape[:-1], 2 * x.shape[-1] + 1), 7, dtype=x.dtype, device=x.device)
    wide[..., 1::2] = x
    return wide[..., 1::2]


# 2 * 6x6 + 3 * 3x3 + 2 * 1x1 = 101 default boxes: odd, and more than a block of 64.
SMALL = DefaultBoxSpec(
    image_size=(96, 96),
    feature_maps=((6, 6), (3, 3), (1, 1)),
    box_sizes=(((16.0, 16.0), (24.0, 12.0)), ((32.0, 32.0), (48.0, 24.0), (24.0, 48.0)), ((80.0, 80.0), (90.0, 60.0))),
)
CODER = BoxCoderSpec()
CLAMPED = BoxCoderSpec(log_scale_clamp=(-2.0, 4.135166556742356))
LOOSE = PostprocessSpec(score_threshold=0.05, top_k=50, keep_top_k=40)


def textbook_maps(num_images: int = 2) -> tuple[DefaultBoxSpec, Tensor, Tensor]:
    """Return the textbook case: a 5x5 map, 3 boxes per cell, 21 classes, so heads [N, 63, 5, 5] and [N, 12, 5, 5]."""
    spec = DefaultBoxSpec(
        image_size=(100, 100), feature_maps=((5, 5),), box_sizes=(((30.0, 30.0), (42.0, 21.0), (21.0, 42.0)),)
    )
    cls_logits = bell(70, num_images, 63, 5, 5) * 2
    bbox_regression = bell(71, num_images, 12, 5, 5)
    return spec, cls_logits, bbox_regression


def head_maps(rows: Tensor, spec: DefaultBoxSpec, channel_order: str, row_order: str) -> list[Tensor]:
    """Return rows [N, P, C] as the raw maps [N, A * C, h, w] of a network with this channel order."""
    maps, first = [], 0
    for (h, w), a in zip(spec.feature_maps, spec.boxes_per_cell, strict=True):
        level = rows[:, first : first + h * w * a]
        first += h * w * a
        if row_order == "HWA":
            level = level.unflatten(1, (h, w, a)).permute(0, 3, 4, 1, 2)  # N, A, C, h, w
        else:
            level = level.unflatten(1, (a, h, w)).permute(0, 1, 4, 2, 3)
        if channel_order == "CA":
            level = level.transpose(1, 2)
        maps.append(level.flatten(1, 2).contiguous())
    return maps


def nvidia_heads(rows: Tensor, spec: DefaultBoxSpec) -> Tensor:
    """Return rows [N, P, C] in the order H, W, A as NVIDIA's SSD300 does: [N, C, P] in the order A, H, W."""
    columns = rows.shape[2]
    return torch.cat([m.unflatten(1, (columns, -1)).flatten(2) for m in head_maps(rows, spec, "CA", "HWA")], dim=2)
