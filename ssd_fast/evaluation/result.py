"""Evaluation: the figures of a detector on a dataset, as data, as tables and as a picture."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .voc import Curve, OperatingPoint

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["ClassResult", "Evaluation"]


@dataclass(frozen=True)
class ClassResult:
    """The figures of one class; None where it has no ground truths to compare with, or was left out.

    ground_truths, ignored: those that count, and those that do not. detections: of the class, over all images.
    ap, ap50: COCO's, by pycocotools. voc07, voc12: VOC's at IoU 0.5. best_f1: the score threshold with the best F1 at
    IoU 0.5, also None without detections. curve: precision and recall at IoU 0.5.
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
class Evaluation:
    """What a detector is worth on a dataset. All figures lie in 0..1; means are over the classes with ground truths.

    ap ... ar_large: COCO's twelve figures. ap: mean over IoU 0.50:0.95; ap50, ap75: at one IoU; _small (up to 32^2
        pixels), _medium (up to 96^2), _large: by the area of the box (COCO's own tables: of the mask, which is less),
        None where the dataset has no ground truth of that size;
        ar1, ar10, ar100: the recall, mean over the same IoUs, of so many detections of a class in an image. pycocotools
        counts the best 100 detections of a class in an image; beyond_100: how many detections that leaves out.
    voc07, voc12: VOC's mean AP at IoU 0.5, of all detections.
    per_class: every class of the dataset, in its order.
    missing_classes: classes with ground truths that were left out because the detector does not know them.
    images_per_second: of the detector from decoded image to detections, if it was run here.
    """

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
        """The classes of the dataset without a ground truth that counts: they have no AP and no part in the means."""
        return tuple(found.name for found in self.per_class if not found.ground_truths)

    @property
    def curves(self) -> dict[str, Curve]:
        """Precision and recall at IoU 0.5 of each class that was evaluated, by name."""
        return {found.name: found.curve for found in self.per_class if found.curve is not None}

    def to_dict(self, *, curves: bool = False) -> dict[str, Any]:
        """Plain values, ready for json.dump; curves: with every point of every curve."""
        values = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        values["per_class"] = [_class_dict(found, curves) for found in self.per_class]
        values["missing_classes"] = list(self.missing_classes)
        return values | {"absent_classes": list(self.absent_classes)}

    def table(self) -> Table:
        """A rich table with one row per class, and their means."""
        from .tables import class_table

        return class_table(self)

    def summary(self) -> Table:
        """A rich table of COCO's twelve figures and VOC's two."""
        from .tables import summary_table

        return summary_table(self)

    def plot(self, path: str | Path) -> None:
        """Writes precision over recall at IoU 0.5, one line per class; the suffix says what: .png, .pdf, .svg.

        Raises: ImportError: no matplotlib; ValueError: another suffix; OSError: nothing can be written there, or a
            symbolic link or something else than a file is there.
        """
        from .plot import plot_curves

        plot_curves(self, path)


def _class_dict(found: ClassResult, with_curve: bool) -> dict[str, Any]:
    values = {item.name: getattr(found, item.name) for item in dataclasses.fields(found) if item.name != "curve"}
    values["best_f1"] = None if found.best_f1 is None else dataclasses.asdict(found.best_f1)
    if with_curve and found.curve is not None:
        curve = found.curve
        values["curve"] = {name: getattr(curve, name).tolist() for name in ("scores", "precision", "recall")}
    elif with_curve:
        values["curve"] = None
    return values
