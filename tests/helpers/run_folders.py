"""The trainings of a narrow ssd_tiny on four photos whose folders are in tests/golden/run_folders."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from helpers.paths import GOLDEN
from helpers.training_cases import CLASSES, make_sample
from ssd_fast.datasets import DetectionDataset
from ssd_fast.models import ssd_tiny
from ssd_fast.training import TrainingConfig

FOLDER = GOLDEN / "run_folders"
HALFWAY, ITERATIONS = 3, 6
SIZE = (32, 48)
_BOXES = ((4.0, 10.0, 30.0, 36.0), (70.0, 20.0, 110.0, 60.0))


@contextlib.contextmanager
def narrow() -> Iterator[None]:
    """Give ssd_tiny few channels for a while, so that its kept files are small."""
    module: Any = sys.modules["ssd_fast.models.ssd_tiny"]
    before = module._STEM_CHANNELS, module._CHANNELS
    module._STEM_CHANNELS, module._CHANNELS = 4, (6, 8, 8)
    try:
        yield
    finally:
        module._STEM_CHANNELS, module._CHANNELS = before


def make_network() -> Any:
    torch.manual_seed(0)
    return ssd_tiny(len(CLASSES) + 1, SIZE, ((12.0, 20.0), (32.0,), (40.0,)))


def make_dataset(folder: Path) -> DetectionDataset:
    folder.mkdir(parents=True, exist_ok=True)
    shifted = [[[x1 + 4 * i, y1 + 2 * i, x2 + 4 * i, y2 + 2 * i] for x1, y1, x2, y2 in _BOXES] for i in range(4)]
    return DetectionDataset(
        [make_sample(folder, f"photo{i}", boxes, [1, 2]) for i, boxes in enumerate(shifted)], CLASSES
    )


def config() -> TrainingConfig:
    """Return a config of six iterations without augmentation, so that only the order of the photos is random."""
    plain = {"flip": "none", "photometric": 0.0, "zoom_out_share": 0.0, "crop_share": 0.0}
    return TrainingConfig(epochs=3, batch_size=2, warmup_iterations=2, ema_decay=0.5, **plain)  # type: ignore[arg-type]


def images() -> Tensor:
    """Return float32 [2, 3, 32, 48], the same on every machine."""
    return (torch.arange(2 * 3 * SIZE[0] * SIZE[1]) * 37 % 251).reshape(2, 3, *SIZE) / 251
