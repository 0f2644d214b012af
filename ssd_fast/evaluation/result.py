"""Evaluation: the figures of a detector on a dataset, with tables and a picture of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .figures import ClassResult, Figures

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["ClassResult", "Evaluation"]


@dataclass(frozen=True)
class Evaluation(Figures):
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

        Raises:
            ImportError: no matplotlib.
            ValueError: another suffix.
            OSError: nothing can be written there, or a symbolic link or something else than a file is there.
        """
        from .plot import plot_curves

        plot_curves(self, path)
