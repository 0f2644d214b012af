"""Boxes that try NMS at any size: at one density, of all sizes, apart, and from real detectors."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from workloads import clustered_boxes, generator, uniform_boxes

DETECTOR_BOXES = Path(__file__).resolve().parents[1] / "tests" / "golden" / "nms_workloads"


def extent_at_density(n: int) -> float:
    """Side of the square in which n boxes are as dense as 10,000 on 1000 px, so that a box overlaps as many others."""
    return 10 * math.sqrt(n)


def evenly_dense_boxes(n: int, seed: int = 0) -> Tensor:
    """uniform_boxes of one density for every n."""
    return uniform_boxes(n, seed, extent_at_density(n))


def evenly_clustered_boxes(n: int, seed: int = 0) -> Tensor:
    """clustered_boxes of one density for every n."""
    return clustered_boxes(n, seed, extent_at_density(n))


def disjoint_boxes(n: int, side: float = 16.0, step: float = 20.0) -> Tensor:
    """[n, 4] boxes on a square grid, apart from one another: NMS keeps all."""
    across = math.ceil(math.sqrt(n))
    cell = torch.arange(n)
    corner = torch.stack((cell % across, cell // across), -1) * step
    return torch.cat((corner, corner + side), -1)


def log_sized_boxes(n: int, seed: int = 0, octaves: float = 9.0) -> Tensor:
    """[n, 4] boxes of one density whose width and height are log-uniform, from 1 to 2**octaves px: no size fits all."""
    g = generator(seed)
    center = torch.rand(n, 2, generator=g) * extent_at_density(n)
    half = (torch.rand(n, 2, generator=g) * octaves).exp2() / 2
    return torch.cat((center - half, center + half), -1)


def boxes_under_giant(n: int, seed: int = 0) -> Tensor:
    """[n, 4] evenly_dense_boxes, the first of them replaced by one that covers all others."""
    boxes = evenly_dense_boxes(n, seed)
    boxes[0, :2], boxes[0, 2:] = boxes[:, :2].amin(0), boxes[:, 2:].amax(0)
    return boxes


def isolated_above_clustered(n: int, seed: int = 0, isolated: int = 1024) -> Tensor:
    """[n, 4] boxes for descending scores: first disjoint ones, which suppress nothing, then clustered ones beside them.

    Nothing can be learned from the best boxes.
    """
    first = disjoint_boxes(min(isolated, n))
    rest = evenly_clustered_boxes(max(n - isolated, 1), seed)[: n - len(first)]
    return torch.cat((first - (first[:, 2:].amax(0) + 1000).repeat(2), rest))


def tiled_workload(name: str, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """n proposals of a real detector: boxes [n, 4], scores [n] without ties and classes [n].

    Shifted copies of one image's proposals lie on a square grid without touching. The scores are in the order of the
    detector's, the copies in turn where these are equal.

    name: a file of DETECTOR_BOXES, without its suffix.
    """
    with np.load(DETECTOR_BOXES / f"{name}.npz") as arrays:
        boxes, scores, classes = (torch.from_numpy(arrays[key]) for key in ("boxes_xyxy_px", "scores", "classes"))
    copies = math.ceil(n / len(boxes))
    step = math.ceil(boxes.amax() - boxes.amin()) + 1
    shift = disjoint_boxes(copies, side=0, step=step)
    order = scores.repeat(copies)[:n].sort(descending=True, stable=True).indices
    ranked = torch.empty(n)
    ranked[order] = torch.arange(n, 0, -1).float() / (n + 1)
    return (boxes + shift[:, None]).flatten(0, 1)[:n], ranked, classes.long().repeat(copies)[:n]
