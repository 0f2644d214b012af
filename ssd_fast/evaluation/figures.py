"""The figures of a detector on a dataset, per class and over all classes, as data."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from .voc import Curve, OperatingPoint

__all__ = ["ClassResult", "Figures"]


@dataclass(frozen=True)
class ClassResult:
    """The figures of one class; None where it has no ground truths to compare with, or was left out.

    Attributes:
        name: the class.
        label: its label in the dataset.
        ground_truths: the number of ground truths that count.
        ignored: the number of ground truths that do not count.
        detections: the number of detections over all images.
        ap: COCO's, by pycocotools.
        ap50: COCO's, by pycocotools.
        voc07: VOC's at IoU 0.5.
        voc12: VOC's at IoU 0.5.
        best_f1: the score threshold with the best F1 at IoU 0.5, also None without detections.
        curve: precision and recall at IoU 0.5.
    """

    name: str
    label: int
    ground_truths: int
    ignored: int
    detections: int
    ap: float | None = None
    ap50: float | None = None
    voc07: float | None = None
    voc12: float | None = None
    best_f1: OperatingPoint | None = None
    curve: Curve | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Figures:
    """The figures of an evaluation; `Evaluation` documents them."""

    ap: float | None
    ap50: float | None
    ap75: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    ar1: float | None
    ar10: float | None
    ar100: float | None
    ar_small: float | None
    ar_medium: float | None
    ar_large: float | None
    voc07: float
    voc12: float
    images: int
    ground_truths: int
    ignored: int
    detections: int
    beyond_100: int
    per_class: tuple[ClassResult, ...]
    missing_classes: tuple[str, ...] = ()
    images_per_second: float | None = None

    @property
    def absent_classes(self) -> tuple[str, ...]:
        """The classes of the dataset without ground truths that count, which have no AP and do not enter the means."""
        return tuple(found.name for found in self.per_class if not found.ground_truths)

    @property
    def curves(self) -> dict[str, Curve]:
        """Precision and recall at IoU 0.5 of each evaluated class, by name."""
        return {found.name: found.curve for found in self.per_class if found.curve is not None}

    def to_dict(self, *, curves: bool = False) -> dict[str, Any]:
        """Convert the figures to plain values for json.dump; with `curves`, include every point of every curve."""
        values = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        values["per_class"] = [_class_dict(found, curves) for found in self.per_class]
        values["missing_classes"] = list(self.missing_classes)
        return values | {"absent_classes": list(self.absent_classes)}


def _class_dict(found: ClassResult, with_curve: bool) -> dict[str, Any]:
    values = {item.name: getattr(found, item.name) for item in dataclasses.fields(found) if item.name != "curve"}
    values["best_f1"] = None if found.best_f1 is None else dataclasses.asdict(found.best_f1)
    if with_curve and found.curve is not None:
        curve = found.curve
        values["curve"] = {name: getattr(curve, name).tolist() for name in ("scores", "precision", "recall")}
    elif with_curve:
        values["curve"] = None
    return values
