"""The training log, with one JSON object per line."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._io.writing import append_line, replace_file

__all__ = ["EpochMeans", "Step", "TrainingLog"]


@dataclass(frozen=True)
class Step:
    """One iteration.

    Attributes:
        iteration: the number of iterations done, including this one.
        iterations: the number of iterations of the training.
        epoch: the epoch, counted from 1.
        losses: with several processes, the losses of the main process's images, divided by the normalizer of all.
        learning_rate: the learning rate of this iteration.
        gradient_norm: the norm of the gradient before clipping.
        images_per_second: over all processes.
    """

    iteration: int
    iterations: int
    epoch: int
    losses: dict[str, float]
    learning_rate: float
    gradient_norm: float
    images_per_second: float


class TrainingLog:
    """Appends lines to a file. Every line has an "event" ("start", "iteration", "epoch", "eval", ...).

    Args:
        path: the file; None writes nothing, as in all processes except the main one.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def write(self, event: str, **values: Any) -> None:
        """Append one line. Numbers that are not finite become strings, since JSON cannot express them.

        Raises:
            WriteError: the line cannot be written; the log is then unchanged (an OSError).
        """
        if self.path is not None:
            append_line(self.path, json.dumps({"event": event, **_plain(values)}, allow_nan=False))

    def rewind(self, iteration: int) -> None:
        """Remove damaged lines and the lines after `iteration` iterations, which will be logged again."""
        if self.path is None or not self.path.exists():
            return
        lines = [line for line in self.path.read_bytes().split(b"\n") if _is_before(line, iteration)]
        replace_file(self.path, b"".join(line + b"\n" for line in lines))


class EpochMeans:
    """Averages the steps of an epoch, or of the rest of it after a resume; "steps" is their number."""

    def __init__(self) -> None:
        self._steps: list[Step] = []

    def add(self, step: Step) -> None:
        self._steps.append(step)

    def take(self) -> dict[str, Any]:
        """Return the epoch's line, with the mean losses and images per second, and start over."""
        steps, self._steps = self._steps, []
        last = steps[-1]
        losses = {name: sum(step.losses[name] for step in steps) / len(steps) for name in last.losses}
        rate = len(steps) / sum(1 / step.images_per_second for step in steps)
        return {
            "epoch": last.epoch,
            "iteration": last.iteration,
            "steps": len(steps),
            "losses": losses,
            "images_per_second": rate,
        }


def _is_before(line: bytes, iteration: int) -> bool:
    try:
        return json.loads(line).get("iteration", 0) <= iteration
    except (ValueError, AttributeError, TypeError, RecursionError):  # not JSON, not an object, not a number
        return False


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
