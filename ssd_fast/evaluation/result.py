"""Evaluation: the figures of a detector on a dataset, with tables and a plot."""

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
    """The result of evaluating a detector on a dataset.

    All figures lie in 0..1; means are over the classes with ground truths. Sizes are by the area of the box, up to 32^2
    pixels small and up to 96^2 medium (COCO's own tables use the area of the mask, which is smaller); a figure is None
    if the dataset has no ground truth of that size. pycocotools counts the best 100 detections per class and image.

    Attributes:
        ap: COCO's AP, the mean over IoU 0.50:0.95; also ap_small, ap_medium and ap_large.
        ap50: COCO's AP at IoU 0.50; likewise ap75.
        ar1: COCO's recall with 1 detection per class and image, the mean over the same IoUs; likewise ar10 and ar100,
            and ar_small, ar_medium and ar_large with 100.
        voc07: VOC's mean AP of 2007 at IoU 0.5, of all detections.
        voc12: VOC's mean AP of 2012 at IoU 0.5, of all detections.
        images: the number of images.
        ground_truths: the number of ground truths that count.
        ignored: the number of ignored ground truths.
        detections: the number of detections.
        beyond_100: the number of detections that pycocotools leaves out.
        per_class: every class of the dataset, in its order.
        missing_classes: classes with ground truths that were left out because the detector does not know them.
        images_per_second: the detector's rate from decoded images to detections, if it was run here.
    """

    def table(self) -> Table:
        """Make a rich table with one row per class, and the means."""
        from .tables import class_table

        return class_table(self)

    def summary(self) -> Table:
        """Make a rich table of COCO's twelve figures and VOC's two."""
        from .tables import summary_table

        return summary_table(self)

    def plot(self, path: str | Path) -> None:
        """Plot precision over recall at IoU 0.5, one line per class, to a file that ends in .png, .pdf or .svg.

        Raises:
            ImportError: matplotlib is not installed.
            ValueError: another suffix.
            OSError: the file cannot be written, or the path is a symbolic link or not a regular file.
        """
        from .plot import plot_curves

        plot_curves(self, path)
