"""Read detections and ground truths for the metrics: checked NumPy arrays, one entry per image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._io.text import brief, listing, printable
from ..detections import Detections

_FIELDS = ("boxes", "scores", "labels")


@dataclass(frozen=True)
class ImageDetections:
    """Detections of one image. boxes: float64 [k, 4] xyxy; scores: float64 [k]; labels: int64 [k]."""

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class ImageGroundTruths:
    """Ground truths of one image. boxes: float64 [g, 4] xyxy; labels: int64 [g]; ignored: bool [g]."""

    boxes: np.ndarray
    labels: np.ndarray
    ignored: np.ndarray


def read_ground_truths(dataset: Any, left_out: frozenset[int] = frozenset()) -> list[ImageGroundTruths]:
    """Read the ground truths of a DetectionDataset, without the classes (labels) left out.

    Raises:
        ValueError: the dataset has no image, or no ground truth that counts.
    """
    if not len(dataset.samples):
        raise ValueError("evaluate: dataset: expected at least one image, got none")
    images = []
    for sample in dataset.samples:
        labels = _numpy(sample.labels).astype(np.int64)
        keep = ~_are_in(left_out, labels)
        boxes = _numpy(sample.boxes).astype(np.float64).reshape(-1, 4)
        images.append(ImageGroundTruths(boxes[keep], labels[keep], _numpy(sample.ignored).astype(bool)[keep]))
    ignored = sum(int(image.ignored.sum()) for image in images)
    if sum(len(image.labels) for image in images) == ignored:
        less = f" of the classes that the detector knows (it lacks {len(left_out)})" if left_out else ""
        raise ValueError(
            f"evaluate: dataset: expected ground truths to compare with, got {len(images)} images without any{less}"
            f" (besides {ignored} ignored)"
        )
    return images


def read_detections(detections: Any, dataset: Any) -> list[ImageDetections]:
    """Read one entry per image of the dataset; the labels must be classes of the dataset.

    Raises:
        TypeError: a value of another type; the message names the image, the expected value and the given one.
        ValueError: a wrong shape or value; the message also names the detection.
    """
    if isinstance(detections, Detections):
        detections = detections.to_list()
    if not isinstance(detections, Sequence) or isinstance(detections, str):
        raise TypeError(
            f"evaluate: detections: expected a list of dicts of boxes, scores and labels, one per image, "
            f"got {type(detections).__name__}"
        )
    if len(detections) != len(dataset.samples):
        raise ValueError(
            f"evaluate: detections: expected one dict for each of the {len(dataset.samples)} images, "
            f"got {len(detections)}"
        )
    known = frozenset(range(1, len(dataset.classes) + 1))
    return [
        _read_image(found, f"evaluate: detections of image {index} ({printable(sample.name)})", known)
        for index, (found, sample) in enumerate(zip(detections, dataset.samples, strict=True))
    ]


def labels_of(dataset: Any, names: Iterable[str]) -> frozenset[int]:
    """The labels of the named classes.

    Raises:
        ValueError: a name that is not a class of the dataset.
    """
    labels = {name: label for label, name in enumerate(dataset.classes, 1)}
    for name in names:
        if name not in labels:
            expected = f"classes of {listing(dataset.classes)}"
            raise ValueError(f"evaluate: missing: expected {expected}, got {brief(name)}")
    return frozenset(labels[name] for name in names)


def _read_image(found: Any, where: str, known: frozenset[int]) -> ImageDetections:
    """Read the detections of one image; `known` are the labels of the dataset."""
    if not isinstance(found, Mapping) or not set(_FIELDS) <= set(found):
        given = f"a dict of {', '.join(map(str, found))}" if isinstance(found, Mapping) else type(found).__name__
        raise TypeError(f"{where}: expected a dict of boxes, scores and labels, got {given}")
    boxes, scores, labels = (_numpy(found[field]) for field in _FIELDS)
    if not boxes.size:
        boxes = boxes.reshape(-1, 4)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or scores.shape != boxes.shape[:1] or labels.shape != boxes.shape[:1]:
        raise ValueError(
            f"{where}: expected boxes [k, 4], scores [k] and labels [k], "
            f"got {list(boxes.shape)}, {list(scores.shape)} and {list(labels.shape)}"
        )
    boxes, scores = boxes.astype(np.float64), scores.astype(np.float64)
    faults = (
        (~np.isfinite(boxes).all(1), "a finite box", boxes),
        (((boxes[:, 2] < boxes[:, 0]) | (boxes[:, 3] < boxes[:, 1])), "a box x1 <= x2, y1 <= y2", boxes),
        (~np.isfinite(scores), "a finite score", scores),
        (~_are_in(known, labels), f"a label in 1..{len(known)}", labels),
    )
    for faulty, expected, values in faults:
        if faulty.any():
            index = int(faulty.argmax())
            raise ValueError(f"{where}: detection {index}: expected {expected}, got {values[index].tolist()}")
    return ImageDetections(boxes, scores, labels.astype(np.int64))


def _are_in(wanted: frozenset[int], labels: np.ndarray) -> np.ndarray:
    """bool [k], like np.isin, but the cost per image does not grow with the number of classes."""
    return np.array([label in wanted for label in labels.tolist()], bool)


def _numpy(values: Any) -> np.ndarray:
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.double() if values.is_floating_point() else values
    return np.asarray(values.get() if hasattr(values, "get") else values)
