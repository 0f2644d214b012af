"""Show an evaluation as tables in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from .._io.text import display_name, listing

if TYPE_CHECKING:
    from .figures import ClassResult, Figures

_CLASS_COLUMNS = ("ground\ntruths", "AP", "AP50", "VOC07", "VOC12", "best\nF1", "preci-\nsion", "recall", "score\n>=")
_SUMMARY = (  # for each row, its name and the figures of all, small, medium and large objects
    ("AP, IoU 0.50:0.95", ("ap", "ap_small", "ap_medium", "ap_large")),
    ("AP, IoU 0.50", ("ap50",)),
    ("AP, IoU 0.75", ("ap75",)),
    ("AR, 1 detection", ("ar1",)),
    ("AR, 10 detections", ("ar10",)),
    ("AR, 100 detections", ("ar100", "ar_small", "ar_medium", "ar_large")),
    ("VOC07, IoU 0.50", ("voc07",)),
    ("VOC12, IoU 0.50", ("voc12",)),
)


def class_table(evaluation: Figures) -> Table:
    """Make a table with one row per class; "-" where there is nothing to compare."""
    table = Table(title="Classes", title_justify="left", title_style="bold", box=SIMPLE_HEAD, collapse_padding=True)
    table.add_column("class", overflow="fold", min_width=10)
    for header in _CLASS_COLUMNS:
        table.add_column(header, justify="right", no_wrap=True)
    for found in evaluation.per_class:
        table.add_row(Text(display_name(found.name)), str(found.ground_truths), *_class_cells(found))
    table.add_section()
    means = (evaluation.ap, evaluation.ap50, evaluation.voc07, evaluation.voc12)
    mean_of = sum(found.curve is not None for found in evaluation.per_class)
    table.add_row(f"mean of {mean_of}", str(evaluation.ground_truths), *map(figure, means), style="bold")
    table.caption = Text("\n".join(_notes(evaluation)), justify="left")
    return table


def summary_table(evaluation: Figures) -> Table:
    """Make a table of COCO's twelve figures and VOC's two."""
    table = Table(title="All classes", title_justify="left", title_style="bold", box=SIMPLE_HEAD, collapse_padding=True)
    table.add_column("metric", no_wrap=True)
    for header in ("all", "small", "medium", "large"):
        table.add_column(header, justify="right", no_wrap=True)
    for what, fields in _SUMMARY:
        table.add_row(what, *(figure(getattr(evaluation, field)) for field in fields))
    return table


def figure(value: float | None) -> str:
    """Format a figure with three decimals, None as "-"."""
    return "-" if value is None else f"{value:.3f}"


def _class_cells(found: ClassResult) -> list[str]:
    best = found.best_f1
    point = (None,) * 4 if best is None else (best.f1, best.precision, best.recall, best.score_threshold)
    return [figure(value) for value in (found.ap, found.ap50, found.voc07, found.voc12, *point)]


def _notes(evaluation: Figures) -> list[str]:
    notes = [f"{evaluation.images} images, {evaluation.detections} detections"]
    if evaluation.ignored:
        notes[0] += f", {evaluation.ignored} ignored ground truths"
    if evaluation.images_per_second is not None:
        notes[0] += f", {evaluation.images_per_second:.1f} images/s"
    if evaluation.missing_classes:
        notes.append(f"left out because the detector does not know them: {listing(evaluation.missing_classes)}")
    left_out = set(evaluation.missing_classes)
    if absent := [name for name in evaluation.absent_classes if name not in left_out]:
        notes.append(f"without ground truths, so not in the means: {listing(absent)}")
    if evaluation.beyond_100:
        notes.append(
            f"AP and AR count the best 100 detections per class and image, without {evaluation.beyond_100} others"
        )
    return notes
