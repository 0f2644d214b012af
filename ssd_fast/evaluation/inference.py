"""Run a detector over a dataset, with batches read ahead and classes mapped by name."""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .._checks import integer
from .._io.text import brief, listing
from ._inputs import labels_of, read_ground_truths

if TYPE_CHECKING:
    from ..datasets import DetectionDataset
    from ..detector import Detector

__all__ = ["Progress", "detect_dataset", "missing_classes"]

Progress = Callable[[int, int], None]

_SHOWN = 8  # classes of the detector and of the dataset that a message lists
_COMPARED = 100  # characters of a name that the search for similar names compares


def detect_dataset(
    detector: Detector,
    dataset: DetectionDataset,
    *,
    batch_size: int = 8,
    score_threshold: float | None = None,
    progress: Progress | None = None,
) -> tuple[list[dict[str, Tensor]], float]:
    """Run a detector over every image of a dataset, and map the detections to the dataset's classes.

    Args:
        detector: as for evaluate.
        dataset: as for evaluate.
        batch_size: as for evaluate.
        score_threshold: as for evaluate.
        progress: as for evaluate.

    Returns:
        One dict per image with boxes, scores and labels on the CPU, as for evaluate_detections; and images per second,
            from decoded images to detections, without the first batch if there are several.

    Raises:
        ValueError: a batch_size below 1, or an image that cannot be read.
    """
    integer("evaluate", "batch_size", batch_size, "at least 1", 1)
    new_labels = _label_map(detector, dataset)
    detections: list[dict[str, Tensor]] = []
    times: list[tuple[int, float]] = []
    for images in _batches(dataset, batch_size):
        begin = time.perf_counter()
        found = detector(images, score_threshold).to_list()
        times.append((len(images), time.perf_counter() - begin))
        for image in found:
            labels = new_labels[image["labels"].cpu()]
            known = labels > 0
            boxes, scores = image["boxes"].cpu()[known], image["scores"].cpu()[known]
            detections.append({"boxes": boxes, "scores": scores, "labels": labels[known]})
        if progress is not None:
            progress(len(detections), len(dataset))
    warm = times[1:] or times
    seconds = sum(spent for _, spent in warm)
    return detections, sum(count for count, _ in warm) / seconds if seconds > 0 else 0.0


def missing_classes(detector: Detector, dataset: DetectionDataset, *, ignore: bool = False) -> tuple[str, ...]:
    """Find the dataset's classes that have ground truths but no column of that name in the detector.

    Raises:
        ValueError: there are any and `ignore` is False (the message names them), or no ground truth is left.
    """
    known = set(_column_names(detector).values())
    present = {int(label) for sample in dataset.samples for label in sample.labels}
    missing = tuple(name for label, name in enumerate(dataset.classes, 1) if label in present and name not in known)
    if missing and not ignore:
        raise ValueError(_unknown(missing, detector))
    read_ground_truths(dataset, labels_of(dataset, missing))
    return missing


def _column_names(detector: Detector) -> dict[int, str]:
    """The name of each column except the background's."""
    background = detector.preset.postprocess.background
    if background is not None:
        background %= len(detector.classes)
    return {column: name for column, name in enumerate(detector.classes) if column != background}


def _label_map(detector: Detector, dataset: DetectionDataset) -> Tensor:
    """int64 [C]: the dataset's label for each column of the detector, 0 where it has none."""
    label_of = {name: label for label, name in enumerate(dataset.classes, 1)}
    labels = torch.zeros(len(detector.classes), dtype=torch.int64)
    for column, name in _column_names(detector).items():
        labels[column] = label_of.get(name, 0)
    return labels


def _batches(dataset: DetectionDataset, batch_size: int) -> Iterator[list[Tensor]]:
    """Yield batches of images, reading one batch ahead."""

    def read(first: int) -> list[Tensor]:
        return [dataset[index][0] for index in range(first, min(first + batch_size, len(dataset)))]

    with ThreadPoolExecutor(1) as reader:
        following = reader.submit(read, 0)
        for first in range(0, len(dataset), batch_size):
            images = following.result()
            if first + batch_size < len(dataset):
                following = reader.submit(read, first + batch_size)
            yield images


def _unknown(missing: tuple[str, ...], detector: Detector) -> str:
    known = list(dict.fromkeys(_column_names(detector).values()))
    folded = {name.casefold(): name for name in known}
    named = []
    for name in missing[:_SHOWN]:  # the search for similar names is slow
        near = difflib.get_close_matches(name[:_COMPARED].casefold(), folded, 1)
        also = f" (but {brief(folded[near[0]])})" if near else ""
        named.append(f"{brief(name)}{also}")
    if len(missing) > _SHOWN:
        named.append(f"{len(missing) - _SHOWN} more")
    count = f"{len(missing)} class{'es' * (len(missing) > 1)}"
    return (
        f"evaluate: the detector does not know {count} of the dataset: {', '.join(named)}; it knows "
        f"{listing(known, _SHOWN)}; ignore_missing (--ignore-missing) leaves them out"
    )
