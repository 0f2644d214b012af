"""Assemble what a format's reader finds into a DetectionDataset: map classes to labels, apply the policy to faults."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from .._io.text import listing
from ..ground_truth.faults import GroundTruthError, GroundTruthWarning, Policy, clip_boxes
from ..ground_truth.policy import apply_policy
from .dataset import Action, DetectionDataset, Problem, Sample, check_classes
from .files import image_size

Classes: TypeAlias = tuple[str, ...]

_SHOWN = 5  # problems listed in a message


@dataclass
class RawItem:
    """One ground truth: its box as xyxy, and the fields that identify it in messages (see Problem)."""

    index: int
    where: str
    label: str
    box: tuple[float, ...]
    values: tuple[float, ...]
    ignored: bool


@dataclass
class RawImage:
    """One image as in its annotation file. where: its place in the file. size: (height, width) if the file gives it."""

    file: Path
    where: str
    path: Path
    name: str
    size: tuple[float, float] | None = None
    items: list[RawItem] = field(default_factory=list)


@dataclass(frozen=True)
class Format:
    """How datasets of one format are recognized and read.

    A new format is one file with a `Format`, and one line in `ssd_fast.datasets.formats.FORMATS`.

    Args:
        folder_mark: the file or files by which a folder of this format is recognized, for messages.
        in_folder: whether a folder is of this format.
        file: the annotation file of a folder and a split, or the folder itself.
        read: `read(file, data, split, images, classes)` returns the images of the split and all classes. `data` is the
            JSON value in the file if the format has `json_images`; `images` replaces the format's folder of images, and
            `classes` is the order that the user wants; both may be None.
        splits: the sorted names of the splits at a path.
        json_images: the type of "images" by which a JSON file of this format is recognized; None if it is not JSON.
    """

    folder_mark: str
    in_folder: Callable[[Path], bool]
    file: Callable[[Path, str | None], Path]
    read: Callable[[Path, Any, str | None, Path | None, Classes | None], tuple[list[RawImage], Classes]]
    splits: Callable[[Path], list[str]]
    json_images: type | None = None


def build(origin: Path, raws: Sequence[RawImage], classes: Classes, policy: Policy) -> DetectionDataset:
    """Build a dataset from what a reader found.

    Args:
        origin: the path that was opened, for messages.
        raws: the images.
        classes: the class names in order.
        policy: how faults are handled, as in open_dataset.

    Raises:
        GroundTruthError: the dataset is faulty; the message names the file and the item.

    Warns:
        GroundTruthWarning: once, if there are problems.
    """
    _check_paths(raws)
    if not classes:
        raise GroundTruthError(f"{origin}: no object, and so no class, in any file: pass the names as classes=")
    check_classes(classes, f"{origin}: classes")
    labels = {name: 1 + index for index, name in enumerate(classes)}
    samples: list[Sample] = []
    problems: list[Problem] = []
    for raw in raws:
        for item in raw.items:
            if item.label not in labels:
                expected = f"one of {listing(classes)}"
                raise GroundTruthError(f"{raw.file}: {item.where}: expected {expected}, got {item.label!r}")
        size = _size(raw)
        problem = _size_problem(raw, size, policy)
        if problem is not None:
            problems.append(problem)
            if problem.action == "dropped":
                continue
        samples.append(_sample(raw, size, labels, policy, problems))
    if problems:
        _report(origin, raws, samples, problems, policy)
    return DetectionDataset(samples, classes, problems)


def _check_paths(raws: Sequence[RawImage]) -> None:
    seen: dict[str, RawImage] = {}
    for raw in raws:
        other = seen.setdefault(os.path.normpath(raw.path), raw)
        if other is not raw:
            first = other.where if other.file == raw.file else str(other.file)
            raise GroundTruthError(f"{raw.file}: {raw.where}: its image {raw.name!r} already belongs to {first}")


def _size(raw: RawImage) -> tuple[int, int]:
    try:
        return image_size(raw.path)
    except (OSError, ValueError) as error:
        missing = isinstance(error, FileNotFoundError)
        reason = f"expected the image {raw.path}, which does not exist" if missing else str(error)
        raise GroundTruthError(f"{raw.file}: {raw.name!r}: {reason}") from error


def _size_problem(raw: RawImage, size: tuple[int, int], policy: Policy) -> Problem | None:
    """Find out what is wrong with the size in the file; 0 x 0, which some tools write, means no size."""
    if raw.size is None or raw.size == (0, 0) or raw.size == size:
        return None
    height, width = size
    reason = f"width x height of {raw.path.name} are {width} x {height}"
    if raw.size == (width, height):
        reason += " (EXIF orientation, or swapped)"
    action: Action = "kept" if policy == "clip" else "dropped"
    return Problem(str(raw.file), None, f"size of {raw.name!r}", None, raw.size[::-1], reason, action)


def _sample(
    raw: RawImage, size: tuple[int, int], labels: dict[str, int], policy: Policy, problems: list[Problem]
) -> Sample:
    with np.errstate(over="ignore"):  # a value beyond float32 becomes infinite, which is a fault
        boxes: npt.NDArray[np.float32] = np.array([item.box for item in raw.items], np.float64).astype(np.float32)
    boxes = boxes.reshape(-1, 4)
    columns = np.array([labels[item.label] for item in raw.items], np.int64)
    ignored = np.array([item.ignored for item in raw.items], bool)
    height, width = size
    if not all(0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height for x1, y1, x2, y2 in boxes.tolist()):
        # Rarely needed, and far slower than the check above. With "raise", all faults are collected and then raised.
        given, given_labels = torch.from_numpy(boxes), torch.from_numpy(columns)
        lenient: Policy = "clip" if policy == "clip" else "drop"
        kept, rows, faults = apply_policy(given, given_labels, lenient, raw.where, size=(height, width))
        keep = rows.numpy()
        for fault in faults:
            item = raw.items[fault.index]
            action: Action = "clipped" if fault.index in keep else "dropped"
            problem = Problem(str(raw.file), item.index, item.where, item.label, item.values, fault.reason, action)
            problems.append(problem)
        boxes = clip_boxes(kept, (height, width)).numpy()  # also those within the tolerance
        columns, ignored = columns[keep], ignored[keep]
    return Sample(str(raw.path), raw.name, size, boxes, columns, ignored)


def _report(
    origin: Path, raws: Sequence[RawImage], samples: list[Sample], problems: list[Problem], policy: Policy
) -> None:
    shown = [problem.described if policy == "raise" else str(problem) for problem in problems[:_SHOWN]]
    if len(problems) > _SHOWN:
        shown.append(f"and {len(problems) - _SHOWN} more")
    listed = "; ".join(shown)
    found = f"{origin}: {len(problems)} problem{'s' * (len(problems) > 1)} in {len(raws)} images"
    if policy == "raise":
        raise GroundTruthError(f"{found}: {listed}")
    if not samples:
        raise GroundTruthError(f"{found}, and no image is left: {listed}")
    message = f"{found} (policy {policy!r}; all are in .problems): {listed}"
    warnings.warn(message, GroundTruthWarning, stacklevel=4)  # the caller of open_dataset
