"""Options of a training on which its weights do not depend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .._checks import flag, freeze, instance, integer
from .log import Step

__all__ = ["Options"]


@dataclass(frozen=True)
class Options:
    """The options of `train` besides the training itself; its docstring explains the fields.

    Raises:
        ValueError: a value out of range; the message names the field, the expected value and the given one.
        TypeError: a value of another type; the message names the same.
    """

    workers: int
    cache: bool
    log_every: int
    checkpoint_every: int | None
    on_step: Callable[[Step], None] | None

    def __post_init__(self) -> None:
        least = {"workers": 0, "log_every": 1}
        if self.checkpoint_every is not None:
            least["checkpoint_every"] = 1
        for field, smallest in least.items():
            expected = f"an int of at least {smallest}"
            freeze(self, **{field: integer("train", field, getattr(self, field), expected, smallest)})
        freeze(self, cache=flag("train", "cache", self.cache))
        if self.on_step is not None:
            instance("train", "on_step", self.on_step, Callable, "a function of a Step, or None")  # type: ignore[arg-type]
