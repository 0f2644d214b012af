"""The progress bar of a training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ._output import err

if TYPE_CHECKING:
    from ..training import Step


class TrainingBar:
    """A progress bar on stderr that shows losses, images per second and the time left."""

    def __init__(self, visible: bool) -> None:
        columns = (TextColumn("epoch {task.fields[epoch]}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, TextColumn("{task.fields[text]}"), console=err, disable=not visible)
        self._task = self._progress.add_task("training", total=None, epoch=1, text="")
        self.last: Step | None = None

    def __enter__(self) -> TrainingBar:
        return self

    def __exit__(self, *_: object) -> None:
        if self.last is not None:
            self._progress.stop()

    def show(self, step: Step) -> None:
        if self.last is None:  # not earlier: an error would stand below an empty bar
            self._progress.start()
        self.last = step
        losses = "  ".join(f"{name} {value:.3f}" for name, value in step.losses.items())
        self._progress.update(
            self._task,
            total=step.iterations,
            completed=step.iteration,
            epoch=step.epoch,
            text=f"{losses}  {step.images_per_second:.0f} images/s",
        )
