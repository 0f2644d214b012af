"""The command that a finished training suggests next."""

from __future__ import annotations

import shlex
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..datasets import DetectionDataset

_MOST_LIKELY = ("test", "val", "valid", "validation")


def next_step(
    path: Path,
    layout: str,
    images: Path | None,
    split: str | None,
    data: DetectionDataset,
    weights: Path,
    evaluated: bool,
) -> tuple[str, str]:
    """The command to run after training on `split` of the dataset at `path`, and a note about it, which may be empty.

    Args:
        images: the folder of the images; None: the format's own.
        data: the training images.
        evaluated: the result has already been evaluated.
    """
    with_weights = ("--weights", str(weights))
    if evaluated:
        return shlex.join(["ssd-fast", "detect", "IMAGE", "--out", "pictures", *with_weights]), ""
    held_out = _held_out(path, layout, images, data)
    chosen = held_out or split
    options = {"--split": chosen, "--format": None if layout == "auto" else layout, "--images": images and str(images)}
    arguments = [word for option, value in options.items() if value for word in (option, value)]
    note = "" if held_out else "no split is held out, so this measures the photos of the training"
    return shlex.join(["ssd-fast", "eval", str(path), *arguments, *with_weights]), note


def _held_out(path: Path, layout: str, images: Path | None, data: DetectionDataset) -> str | None:
    """A split that shares no photo with the training, if there is one."""
    from ..datasets import list_splits, open_dataset

    trained = {sample.path for sample in data.samples}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about faulty boxes of splits that nobody asked for
        try:
            for name in sorted(list_splits(path, format=layout), key=lambda name: (name not in _MOST_LIKELY, name)):
                samples = open_dataset(path, name, format=layout, classes=data.classes, images=images).samples
                if trained.isdisjoint(sample.path for sample in samples):
                    return name
        except (OSError, ValueError):  # such as a damaged file; the training itself went well
            pass
    return None
