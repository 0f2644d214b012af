"""The learning rate of an iteration: a straight warm-up, then a cosine to zero, without state."""

from __future__ import annotations

import math

__all__ = ["learning_rate"]


def learning_rate(highest: float, iteration: int, iterations: int, warmup: int) -> float:
    """The rate of an iteration, counted from 0; 0 only past the last.

    Args:
        highest: the rate that the warm-up leads to.
        iterations: of the whole training.
        warmup: of its beginning.

    Source:
        Loshchilov and Hutter 2017, "SGDR", equation 5, with one period.
    """
    cosine = 0.5 + 0.5 * math.cos(math.pi * min(iteration, iterations) / iterations)
    return highest * cosine * min(1.0, (iteration + 1) / (warmup + 1))
