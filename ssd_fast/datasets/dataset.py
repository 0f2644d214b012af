"""DetectionDataset: images on disk with their ground truths, parsed when it is made, decoded when asked for."""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from .._io.text import brief, printable
from ..ground_truth import GroundTruthError
from ..images import as_image_tensor
from .files import twice

__all__ = ["DetectionDataset", "Problem", "Sample"]

_NOT_TEXT = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # also line breaks and lone surrogates

Action: TypeAlias = Literal["dropped", "clipped", "kept"]


@dataclass(frozen=True)
class Problem:
    """Something in an annotation file that was not taken as it stands, and why.

    file: the annotation file.                  item: its index there, counted from 0; None: the whole image.
    where: the item in the words of the format, such as "object 12" or "annotations[5] (id 17)".
    label: the class; None for an image.        values: the numbers, as the file has them.
    reason: what is wrong with them.            action: what became of the item, or of the image if item is None.
    """

    file: str
    item: int | None
    where: str
    label: str | None
    values: tuple[float, ...]
    reason: str
    action: Action

    def __str__(self) -> str:
        return f"{self.described}: {self.action}"

    @property
    def described(self) -> str:
        """File, item, class, values and reason, in one line."""
        label = "" if self.label is None else f" {self.label!r}"
        values = ", ".join(f"{value:.7g}" for value in self.values)
        return printable(f"{self.file}: {self.where}{label} ({values}): {self.reason}")


@dataclass(frozen=True, eq=False)
class Sample:
    """One image and its ground truths. Arrays are NumPy's, which DataLoader workers receive without file handles.

    path: of the image.                         name: its file name within the dataset.
    size: (height, width) in pixels, upright.   boxes: float32 [G, 4] xyxy in pixels of the upright image.
    labels: int64 [G], 1 + index in classes.    ignored: bool [G], VOC's difficult and COCO's iscrowd.

    Raises:
        ValueError: arrays of another shape or dtype, naming image and field.
    """

    path: str
    name: str
    size: tuple[int, int]
    boxes: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    ignored: npt.NDArray[np.bool_]

    def __post_init__(self) -> None:
        n = len(self.boxes)
        for field, shape, dtype in (("boxes", (n, 4), "float32"), ("labels", (n,), "int64"), ("ignored", (n,), "bool")):
            array = getattr(self, field)
            if not isinstance(array, np.ndarray) or array.shape != shape or array.dtype != dtype:
                given = f"{getattr(array, 'dtype', type(array).__name__)} {list(np.shape(array))}"
                expected = f"a NumPy array {dtype} {list(shape)}"
                raise ValueError(f"Sample {self.name!r}: {field}: expected {expected}, got {given}")


class DetectionDataset(Dataset[tuple[Tensor, dict[str, Tensor]]]):
    """Images with boxes: `dataset[i] -> (image, target)`. Made by open_dataset, or from samples of your own.

    Args:
        samples: one Sample per image.
        classes: the names, without the background: label 1 is classes[0], and 0 is the background's column.
        problems: what is not in the samples as its file has it, and why.

    Returns:
        dataset[i]: the image, uint8 [3, H, W], RGB, upright by its EXIF orientation; and a dict of new tensors: "boxes"
            float32 [G, 4] xyxy in pixels, "labels" int64 [G], "ignored" bool [G], "image_id" int64
            scalar, which is i. G may be 0.

    Raises:
        ValueError: no samples, no classes, a class named twice, a label outside 1..len(classes). From dataset[i]:
            IndexError; FileNotFoundError and ValueError, naming the path, for an image that is gone, is not decodable
            or is no longer of the size it had.

    Holds annotations alone; can be pickled, and so go to DataLoader workers. Images of several sizes need a collate_fn
    that does not stack.
    """

    def __init__(self, samples: Sequence[Sample], classes: Sequence[str], problems: Sequence[Problem] = ()) -> None:
        self.samples = tuple(samples)
        self.classes = check_classes(classes, "DetectionDataset: classes")
        self.problems = tuple(problems)
        if not self.samples:
            raise GroundTruthError("DetectionDataset: samples: expected at least 1 image, got 0")
        for sample in self.samples:
            outside = sample.labels[(sample.labels < 1) | (sample.labels > len(self.classes))]
            if len(outside):
                expected = f"labels in 1..{len(self.classes)}"
                raise GroundTruthError(f"DetectionDataset: {sample.name!r}: expected {expected}, got {outside[0]}")

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        index = range(len(self))[operator.index(index)]  # negative ones count from the end, as in a list
        sample = self.samples[index]
        image = as_image_tensor(sample.path)
        if tuple(image.shape[1:]) != sample.size:
            expected = f"height x width {sample.size[0]} x {sample.size[1]}, as when the dataset was opened"
            raise ValueError(f"{printable(sample.path)}: expected {expected}, got {image.shape[1]} x {image.shape[2]}")
        # Copies: what augmentation does to a target in place must not reach the dataset.
        target = {
            "boxes": torch.from_numpy(sample.boxes.copy()),
            "labels": torch.from_numpy(sample.labels.copy()),
            "ignored": torch.from_numpy(sample.ignored.copy()),
            "image_id": torch.tensor(index, dtype=torch.int64),
        }
        return image, target

    def __repr__(self) -> str:
        counts = {
            "images": len(self),
            "classes": len(self.classes),
            "boxes": sum(len(sample.boxes) for sample in self.samples),
            "problems": len(self.problems),
        }
        return f"DetectionDataset({', '.join(f'{name}={count}' for name, count in counts.items())})"


def check_classes(classes: object, origin: str) -> tuple[str, ...]:
    """The class names as a tuple.

    Raises:
        GroundTruthError, beginning with the origin, unless they are non-blank

    strings without control characters, distinct even without spaces around them, that do not begin with the background.
    """
    if not isinstance(classes, (list, tuple)) or not classes:
        raise GroundTruthError(f"{origin}: expected a list of at least 1 class name, got {brief(classes)}")
    for name in classes:
        if not isinstance(name, str) or not name.strip():
            raise GroundTruthError(f"{origin}: expected names, non-blank strings, got {brief(name)}")
        if _NOT_TEXT.search(name):
            raise GroundTruthError(f"{origin}: expected names without control characters, got {brief(name)}")
    repeated = twice(name.strip() for name in classes)
    if repeated is not None:
        raise GroundTruthError(f"{origin}: expected each name once, got {repeated!r} twice, spaces around it aside")
    if classes[0].lower().strip("_") == "background":
        raise GroundTruthError(f"{origin}: expected names without the background, got {classes[0]!r} as the first")
    return tuple(classes)
