"""The log of a training: one JSON object a line."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .checkpoint import replace_file

__all__ = ["EpochMeans", "Step", "TrainingLog"]


@dataclass(frozen=True)
class Step:
    """One iteration. iteration: how many are done, this one included, of `iterations`; epoch: counted from 1.

    losses: of the main process's images alone if there are several processes, divided by what all have in common.
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

    Args: path: the file; None: nothing is written, as in all processes but the main one.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def write(self, event: str, **values: Any) -> None:
        """One line. Numbers that are not finite become strings, which JSON has no word for otherwise."""
        if self.path is not None:
            line = json.dumps({"event": event, **{name: _plain(value) for name, value in values.items()}})
            with open(self.path, "a") as file:
                file.write(line + "\n")

    def rewind(self, iteration: int) -> None:
        """Drops what was logged after `iteration` iterations, and a line that was cut off, before they come again."""
        if self.path is None or not self.path.exists():
            return
        lines = [line for line in self.path.read_text().splitlines() if _is_before(line, iteration)]
        text = "".join(line + "\n" for line in lines)
        replace_file(self.path, lambda partial: partial.write_text(text))


class EpochMeans:
    """Adds up the steps of an epoch. After a resume that is the rest of the epoch: "steps" says how many."""

    def __init__(self) -> None:
        self._steps: list[Step] = []

    def add(self, step: Step) -> None:
        self._steps.append(step)

    def take(self) -> dict[str, Any]:
        """The epoch's line: means of the losses, images a second; and begins anew."""
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


def _is_before(line: str, iteration: int) -> bool:
    try:
        return json.loads(line).get("iteration", 0) <= iteration
    except (json.JSONDecodeError, AttributeError):
        return False


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return value
