"""DetectionDataset: images on disk with ground truths; annotations are parsed at once, images decoded on access."""

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
    """Something in an annotation file that was not taken unchanged, and why.

    Attributes:
        file: the annotation file.
        item: the index of the item in the file, counted from 0; None for the whole image.
        where: the item in the words of the format, such as "object 12" or "annotations[5] (id 17)".
        label: the class; None for an image.
        values: the numbers in the file.
        reason: what is wrong with them.
        action: how the item, or the image if item is None, was handled.
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
        """File, item, class, values and reason in one line."""
        label = "" if self.label is None else f" {self.label!r}"
        values = ", ".join(f"{value:.7g}" for value in self.values)
        return printable(f"{self.file}: {self.where}{label} ({values}): {self.reason}")


@dataclass(frozen=True, eq=False)
class Sample:
    """One image and its ground truths. Arrays are NumPy's, which DataLoader workers receive without file handles.

    Attributes:
        path: the path of the image.
        name: its file name within the dataset.
        size: (height, width) in pixels, upright.
        boxes: float32 [G, 4] xyxy in pixels of the upright image.
        labels: int64 [G], 1 + index in classes.
        ignored: bool [G], VOC's difficult and COCO's iscrowd.

    Raises:
        ValueError: an array of another shape or dtype; the message names the image and the field.
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
    """Images with boxes, made by open_dataset or from your own samples: `dataset[i] -> (image, target)`.

    The dataset holds only annotations, and can be pickled and so sent to DataLoader workers. Images of several sizes
    need a collate_fn that does not stack. `dataset[i]` returns the image, uint8 [3, H, W], RGB, upright by its EXIF
    orientation, and a dict of new tensors: "boxes" float32 [G, 4] xyxy in pixels, "labels" int64 [G], "ignored" bool
    [G] and "image_id", an int64 scalar with the value i. G may be 0. It raises IndexError, or FileNotFoundError or
    ValueError that names the path of an image that is gone, cannot be decoded or has changed its size.

    Args:
        samples: one Sample per image.
        classes: the names without the background: label 1 is classes[0], and 0 is the column of the background.
        problems: what was not taken unchanged from its file, and why.

    Raises:
        ValueError: no samples, no classes, a class named twice, or a label outside 1..len(classes).

    Examples:
        >>> import numpy as np
        >>> from ssd_fast.datasets import DetectionDataset, Sample
        >>> box = np.array([[10, 20, 30, 60]], np.float32)
        >>> sample = Sample("photos/a.jpg", "a.jpg", (100, 200), box, np.array([1]), np.array([False]))
        >>> DetectionDataset([sample], classes=("cat", "dog"))
        DetectionDataset(images=1, classes=2, boxes=1, problems=0)
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
        index = range(len(self))[operator.index(index)]  # negative indices count from the end, as in a list
        sample = self.samples[index]
        image = as_image_tensor(sample.path)
        if tuple(image.shape[1:]) != sample.size:
            expected = f"height x width {sample.size[0]} x {sample.size[1]}, as when the dataset was opened"
            raise ValueError(f"{printable(sample.path)}: expected {expected}, got {image.shape[1]} x {image.shape[2]}")
        # Copies, so that augmenting a target in place does not change the dataset.
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
    """Return the class names as a tuple.

    Raises:
        GroundTruthError: they are not non-blank strings without control characters, distinct even without surrounding
            spaces, or they begin with the background; the message begins with the origin.
    """
    if not isinstance(classes, (list, tuple)) or not classes:
        raise GroundTruthError(f"{origin}: expected a list of at least 1 class name, got {brief(classes)}")
    for name in classes:
        if not isinstance(name, str) or not name.strip():
            raise GroundTruthError(f"{origin}: expected non-blank strings, got {brief(name)}")
        if _NOT_TEXT.search(name):
            raise GroundTruthError(f"{origin}: expected names without control characters, got {brief(name)}")
    repeated = twice(name.strip() for name in classes)
    if repeated is not None:
        raise GroundTruthError(
            f"{origin}: expected each name once, got {repeated!r} twice (apart from surrounding spaces)"
        )
    if classes[0].lower().strip("_") == "background":
        raise GroundTruthError(f"{origin}: expected names without the background, got {classes[0]!r} first")
    return tuple(classes)
