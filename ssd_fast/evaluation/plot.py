"""Plot precision-recall curves."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._io.text import display_name, printable
from .._io.writing import require_output_file

if TYPE_CHECKING:
    from .figures import ClassResult, Figures

__all__ = ["SUFFIXES", "plot_curves", "require_matplotlib"]

SUFFIXES = (".png", ".pdf", ".svg")
_NAMED = 20  # lines with their own color and name; with more classes, those with the most ground truths


def require_matplotlib() -> Any:
    """Import matplotlib's class Figure, which draws without pyplot's windows and global state.

    Raises:
        ImportError: matplotlib is not installed; the message says how to get it.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(f"plots are drawn with matplotlib: pip install ssd_fast[bench] ({error})") from error
    return Figure


def plot_curves(evaluation: Figures, path: str | Path) -> None:
    """Write the plot of Evaluation.plot.

    A line is the envelope whose area is VOC12's AP, given in the legend; its dot is the best F1.
    """
    figure_class = require_matplotlib()
    path = Path(path)
    require_output_file(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"plot: {printable(str(path))} must end in {', '.join(SUFFIXES)}")
    evaluated = [found for found in evaluation.per_class if found.curve is not None]
    most_first = sorted(evaluated, key=lambda found: -found.ground_truths)
    unnamed = {found.label for found in most_first[_NAMED:]}
    figure = figure_class(figsize=(9, 6), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    looks = itertools.product(("-", "--"), (f"C{color}" for color in range(10)))
    for found in evaluated:
        if found.label in unnamed:
            axes.plot(*_steps(found), color="0.8", linewidth=1)
            continue
        style, color = next(looks)
        text = f"{found.voc12:.3f}  {display_name(found.name)}".replace("$", r"\$")
        axes.plot(*_steps(found), style, color=color, linewidth=1.8, zorder=3, label=text)
        if found.best_f1 is not None:
            axes.plot(found.best_f1.recall, found.best_f1.precision, "o", color=color, markersize=6, zorder=4)
    if unnamed:
        axes.plot([], [], color="0.8", linewidth=1, label=f"{len(unnamed)} other classes")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.02))
    axes.set_title(f"Precision and recall at IoU 0.5: mean AP {evaluation.voc12:.3f} over {len(evaluated)} classes")
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    figure.legend(title="AP  class (dot: best F1)", loc="outside right upper", fontsize=9)
    figure.savefig(path)


def _steps(found: ClassResult) -> tuple[np.ndarray, np.ndarray]:
    """Recall and precision at the envelope's corners, from recall 0 to the highest and down to precision 0."""
    assert found.curve is not None
    hits = found.curve.true_positives
    recall, precision = found.curve.recall[hits], found.curve.envelope[hits]
    corners = np.repeat(np.concatenate([[0.0], recall]), 2)[1:]
    return corners, np.append(np.repeat(precision, 2), 0.0)
