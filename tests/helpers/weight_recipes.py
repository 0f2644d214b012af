"""Weights computed from a tensor's name and shape, so that no file of 100 MB is kept to test a network."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

_L2_NORM_SCALES = ("scale_weight", "L2Norm.weight", "l2_norm.weight")


def weights(tensors: Iterable[tuple[str, Sequence[int]]]) -> dict[str, Tensor]:
    """Return a state_dict with these names and shapes."""
    return {name: weight(name, tuple(shape)) for name, shape in tensors}


def weight(name: str, shape: tuple[int, ...]) -> Tensor:
    """Return the tensor of this name: convolutions keep the scale of ReLU's output, all others are near 0 or 1."""
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    if len(shape) == 4:
        limit = math.sqrt(6 / math.prod(shape[1:]))
        low, high = -limit, limit
    elif name.endswith(_L2_NORM_SCALES):
        low, high = 10.0, 30.0
    elif name.endswith(".bn3.weight"):  # the end of a ResNet's branch: the sum over 13 blocks keeps its scale, too
        low, high = 0.1, 0.3
    elif name.endswith((".weight", ".running_var")):
        low, high = 0.5, 1.5
    else:
        low, high = -0.3, 0.3
    return torch.from_numpy(low + (high - low) * _uniform(name, math.prod(shape))).view(shape)


def fine_tuned(tensors: Iterable[tuple[str, Sequence[int]]], columns: Sequence[float]) -> dict[str, Tensor]:
    """Return weights of these names for as many class columns, whose logits are the same everywhere.

    Args: tensors: those of a network with 21 columns. columns: the logit of each, in the order of the project.
    """
    filled = {}
    for name, shape in tensors:
        if re.search(r"\bcls_convs\b|\bcls_headers\b|\bconf\b", name):
            boxes_per_cell = shape[0] // 21
            bias = torch.tensor(columns).repeat(boxes_per_cell)
            filled[name] = bias if len(shape) == 1 else torch.zeros(len(bias), *shape[1:])
        else:
            filled[name] = weight(name, tuple(shape))
    return filled


def save_as_nvidia(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Save a checkpoint as the main.py of NVIDIA's SSD300 does."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    parameter.grad = torch.ones(1)
    optimizer = torch.optim.SGD([parameter], lr=2.6e-3, momentum=0.9, weight_decay=0.0005)
    optimizer.step()
    checkpoint = {
        "epoch": 65,
        "iteration": 240_000,
        "optimizer": optimizer.state_dict(),
        "scheduler": torch.optim.lr_scheduler.MultiStepLR(optimizer, [43, 54], gamma=0.1).state_dict(),
        "label_map": {0: "background", 1: "person"},
        "model": dict(tensors),
    }
    torch.save(checkpoint, path)


def image(side: int) -> Tensor:
    """Return a network's input [1, 3, side, side] in -1.5..1.5, without preprocessing."""
    return torch.from_numpy(3 * _uniform(f"image {side}", 3 * side * side) - np.float32(1.5)).view(1, 3, side, side)


def _uniform(name: str, count: int) -> np.ndarray:
    """Return float32 in 0..1 from the raw bits of a generator whose stream NumPy promises not to change."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    raw = np.random.PCG64(seed).random_raw(-(-count // 4)).astype("<u8")
    return raw.view("<u2")[:count].astype(np.float32) / np.float32(65536)
