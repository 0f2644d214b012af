"""Small datasets and trainings for the tests of ssd_fast.training."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch

from ssd_fast.datasets import DetectionDataset, Sample
from ssd_fast.models import load_network, ssd_tiny
from ssd_fast.training import TrainingConfig, train

SIZE = (48, 64)
CLASSES = ("red", "blue")
_COLORS = ((220, 30, 30), (30, 30, 220))


def make_sample(
    folder: Path, name: str, boxes: Sequence[Sequence[float]], labels: Sequence[int], size: tuple[int, int] = (96, 128)
) -> Sample:
    """Make a gray photo in which every box is a rectangle in its class's color."""
    pixels = np.full((*size, 3), 120, dtype=np.uint8)
    for (x1, y1, x2, y2), label in zip(boxes, labels, strict=True):
        pixels[int(y1) : int(y2), int(x1) : int(x2)] = _COLORS[label - 1]
    path = folder / f"{name}.png"
    PIL.Image.fromarray(pixels).save(path)
    return Sample(
        str(path),
        name,
        size,
        np.array(boxes, dtype=np.float32).reshape(-1, 4),
        np.array(labels, dtype=np.int64),
        np.zeros(len(boxes), dtype=bool),
    )


def make_dataset(folder: Path, count: int = 7) -> DetectionDataset:
    """Make photos with a small red rectangle on the left and a large blue one on the right; the last photo is empty."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    samples = []
    for index in range(count):
        corners = random.integers(((4, 4), (66, 4)), ((36, 60), (84, 50)))
        boxes = [[x, y, x + side, y + side] for (x, y), side in zip(corners.tolist(), (24, 40), strict=True)]
        empty = index == count - 1
        samples.append(make_sample(folder, f"photo{index}", [] if empty else boxes, [] if empty else [1, 2]))
    return DetectionDataset(samples, CLASSES)


def small_config(**changes: Any) -> TrainingConfig:
    """Return a config of three epochs of three iterations on the seven photos."""
    return TrainingConfig(**{"epochs": 3, "batch_size": 2, "warmup_iterations": 2, "ema_decay": 0.5, **changes})


def small_network(seed: int = 0, num_classes: int = 3) -> Any:
    torch.manual_seed(seed)
    return ssd_tiny(num_classes, SIZE)


def train_small(dataset: DetectionDataset, folder: Path, config: TrainingConfig | None = None, **options: Any) -> Path:
    return train(small_network(), dataset, config or small_config(), folder, **options)


def digest(weights: Path) -> str:
    """Return a digest of the bits of every tensor in a weight file."""
    network, _ = load_network(weights)
    value = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        value.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return value.hexdigest()
