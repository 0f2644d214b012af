"""Small datasets and detections for the tests of evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ssd_fast.datasets.dataset import DetectionDataset, Sample

Box = Sequence[float]
Truth = tuple[Box, int] | tuple[Box, int, bool]  # box, label, ignored
Found = tuple[Box, int, float]  # box, label, score


def dataset(*images: Sequence[Truth], classes: Sequence[str] = ("cat", "dog", "owl")) -> DetectionDataset:
    """Make a dataset of images without files, for detections made elsewhere."""
    return DetectionDataset([sample(f"{i}.png", truths) for i, truths in enumerate(images)], classes)


def sample(name: str, truths: Sequence[Truth], path: str = "nowhere", size: tuple[int, int] = (500, 500)) -> Sample:
    return Sample(
        path,
        name,
        size,
        np.array([truth[0] for truth in truths], np.float32).reshape(-1, 4),
        np.array([truth[1] for truth in truths], np.int64),
        np.array([len(truth) > 2 and truth[2] for truth in truths], bool),
    )


def found(*detections: Found) -> dict[str, Any]:
    """Return a detector's result for one image."""
    return {
        "boxes": np.array([box for box, _, _ in detections], np.float32).reshape(-1, 4),
        "scores": np.array([score for _, _, score in detections], np.float32),
        "labels": np.array([label for _, label, _ in detections], np.int64),
    }


def random_case(
    seed: int, images: int, *, separate: bool = False, ignored: float = 0.0
) -> tuple[DetectionDataset, list[dict[str, Any]]]:
    """Draw ground truths of three classes, and detections around most of them and elsewhere; many scores are equal.

    separate: ground truths are so far apart that no detection overlaps two of them, and no two scores are equal.
    """
    rng = np.random.default_rng(seed)
    truths: list[list[Truth]] = []
    detections = []
    for _ in range(images):
        cells = rng.permutation(25)[: rng.integers(0, 9)]
        step = 100 if separate else 25
        boxes = [(x := step * (c % 5), y := step * (c // 5), x + 40 + 10 * (c % 3), y + 50) for c in cells]
        labels = rng.integers(1, 4, len(boxes)).tolist()
        truths.append([(b, k, bool(rng.random() < ignored)) for b, k in zip(boxes, labels, strict=True)])
        guesses: list[Found] = []
        for box, label in zip(boxes, labels, strict=True):
            for _ in range(rng.integers(0, 4)):
                moved = np.asarray(box) + rng.integers(-9, 10, 4)
                score = rng.random() if separate else rng.integers(1, 10) / 10
                guesses.append((moved.tolist(), label if rng.random() < 0.8 else int(rng.integers(1, 4)), score))
        rng.shuffle(guesses)  # type: ignore[arg-type]
        detections.append(found(*guesses))
    return dataset(*truths), detections
