"""BoxCoderSpec: how offsets describe a box."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from ._checks import is_finite, is_row, require

Pair = tuple[float, float]


@dataclass(frozen=True)
class BoxCoderSpec:
    """How four offsets describe a box relative to its default box (centre-size code).

    centre = default centre + offset * variance * default size;  size = default size * exp(offset * variance).

    Args:
        variances: for x, y, w, h (whatever `order` says); 1 / weight where a project speaks of weights.
        order: "xy": offsets are (tx, ty, tw, th); "yx": (ty, tx, th, tw).
        log_scale_clamp: (low, high) limits of offset * variance before exp when decoding; None for none.
    Raises: ValueError naming the field, what was expected and what was given.
    Source: Liu et al. 2016, equation 2.
    """

    variances: tuple[float, float, float, float] = (0.1, 0.1, 0.2, 0.2)
    order: Literal["xy", "yx"] = "xy"
    log_scale_clamp: Pair | None = None

    def __post_init__(self) -> None:
        ok = is_row(self.variances, 4) and all(is_finite(v) and v > 0 for v in self.variances)
        require(ok, "BoxCoderSpec", "variances", "4 finite positive numbers in a tuple", self.variances)
        require(self.order in ("xy", "yx"), "BoxCoderSpec", "order", '"xy" or "yx"', self.order)
        if self.log_scale_clamp is not None:
            limits = self.log_scale_clamp
            ok = is_row(limits, 2) and all(isinstance(x, (int, float)) for x in limits) and limits[0] < limits[1]
            require(ok, "BoxCoderSpec", "log_scale_clamp", "(low, high), low < high", limits)

    @property
    def clamp_limits(self) -> Pair:
        """log_scale_clamp, infinite where there is none."""
        return (-math.inf, math.inf) if self.log_scale_clamp is None else self.log_scale_clamp
