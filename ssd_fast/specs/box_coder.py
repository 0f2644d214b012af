"""BoxCoderSpec: how offsets describe a box."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from .._checks import as_float, as_float32, as_row, choice, freeze, is_positive, number, require, row

Pair = tuple[float, float]


@dataclass(frozen=True)
class BoxCoderSpec:
    """How four offsets describe a box relative to its default box (center-size code).

    center = default center + offset * variance * default size; size = default size * exp(offset * variance).

    Args:
        variances: of x, y, w, h, whatever `order` is; where a project uses weights, 1 / weight.
        order: "xy": offsets are (tx, ty, tw, th); "yx": (ty, tx, th, tw).
        log_scale_clamp: (low, high) limits of offset * variance before exp when decoding; None: no limits.

    Raises:
        ValueError: a field is wrong; the message names it, the expected and the given value.

    Source:
        Liu et al. 2016, equation 2.

    Examples:
        >>> import ssd_fast
        >>> ssd_fast.BoxCoderSpec(order="yx")
        BoxCoderSpec(variances=(0.1, 0.1, 0.2, 0.2), order='yx', log_scale_clamp=None)
        >>> ssd_fast.BoxCoderSpec(order="hw")
        Traceback (most recent call last):
        ValueError: BoxCoderSpec: order: expected 'xy' or 'yx', got 'hw'
    """

    variances: tuple[float, float, float, float] = (0.1, 0.1, 0.2, 0.2)
    order: Literal["xy", "yx"] = "xy"
    log_scale_clamp: Pair | None = None

    def __post_init__(self) -> None:
        name, expected = "BoxCoderSpec", "4 finite positive numbers in a tuple"
        given = row(name, "variances", self.variances, expected, 4, 4)
        freeze(
            self,
            variances=tuple(number(name, "variances", variance, expected, is_positive) for variance in given),
            order=choice(name, "order", self.order, ("xy", "yx")),
            log_scale_clamp=None if self.log_scale_clamp is None else _limits(self.log_scale_clamp),
        )

    @property
    def clamp_limits(self) -> Pair:
        """log_scale_clamp, or infinite limits if it is None."""
        return (-math.inf, math.inf) if self.log_scale_clamp is None else self.log_scale_clamp


def _limits(given: object) -> Pair:
    limits = as_row(given, 2, 2) or (None, None)
    exact, rounded = [as_float(limit) for limit in limits], [as_float32(limit) for limit in limits]
    ok = None not in exact and None not in rounded and rounded[0] < rounded[1]  # type: ignore[operator]
    require(ok, "BoxCoderSpec", "log_scale_clamp", "(low, high), low < high", given)
    return exact[0], exact[1]  # type: ignore[return-value]
