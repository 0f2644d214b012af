"""A distinct color for every class."""

from __future__ import annotations

import math

import numpy as np

__all__ = ["Color", "class_color"]

Color = tuple[int, int, int]

_GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))  # between consecutive labels: each hue is far from all before it


def class_color(label: int) -> Color:
    """The color of a label: vivid, of medium lightness, always the same, and unlike the colors of its neighbors."""
    hue, lightness = 0.4 + label * _GOLDEN_ANGLE, (0.74, 0.82, 0.66)[label % 3]
    for chroma in np.arange(0.20, 0.0, -0.01):  # the most vivid color that a screen can show
        rgb = _oklch_to_rgb(lightness, float(chroma), hue)
        if all(0 <= channel <= 1 for channel in rgb):
            break
    red, green, blue = (round(255 * min(max(channel, 0), 1)) for channel in rgb)
    return red, green, blue


def _oklch_to_rgb(lightness: float, chroma: float, hue: float) -> list[float]:
    """Convert Ottosson's OKLab, whose equal distances look equal, to sRGB in 0..1 (values outside: not displayable)."""
    a, b = chroma * math.cos(hue), chroma * math.sin(hue)
    to_cone = np.array(
        [
            [1.0, 0.3963377774, 0.2158037573],
            [1.0, -0.1055613458, -0.0638541728],
            [1.0, -0.0894841775, -1.2914855480],
        ]
    )
    to_linear = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = to_linear @ (to_cone @ np.array([lightness, a, b])) ** 3
    return [12.92 * x if x <= 0.0031308 else 1.055 * x ** (1 / 2.4) - 0.055 for x in linear.tolist()]
