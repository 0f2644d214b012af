"""NVIDIA's default boxes, in the order A, H, W."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ..._checks import choice, positive_numbers, row
from ...specs import BoxCoderSpec
from .._priors import center_form, corner_form, square_spec

__all__ = ["DefaultBoxes", "box_coder", "dboxes300_coco"]


class DefaultBoxes:
    """Default boxes in the order A, H, W: dboxes() or dboxes(order="ltrb") xyxy, dboxes(order="xywh") (cx, cy, w, h).

    Args:
        fig_size: side of the image.
        feat_size: cells a side of each map.
        steps, scales: in pixels, scales one more than maps.
        aspect_ratios: a list a map.
        scale_xy, scale_wh: variances.

    Both are float32 [P, 4] in shares of the image, clamped, bit for bit the original's; on the CPU. `.spec`: the same
    as a DefaultBoxSpec.

    Raises:
        ValueError: lists of different lengths, more than 8 maps; when called: another order (the original: None).
    """

    def __init__(
        self,
        fig_size: int,
        feat_size: Sequence[int],
        steps: Sequence[float],
        scales: Sequence[float],
        aspect_ratios: Sequence[Sequence[float]],
        scale_xy: float = 0.1,
        scale_wh: float = 0.2,
    ) -> None:
        scales = row("DefaultBoxes", "scales", scales, "one for each map and one more", 1)
        self.fig_size, self.feat_size, self.steps = fig_size, feat_size, steps
        self.scales, self.aspect_ratios = scales, aspect_ratios
        self.scale_xy, self.scale_wh = scale_xy, scale_wh
        self.spec = square_spec(
            "DefaultBoxes",
            fig_size,
            feat_size,
            min_sizes=scales[:-1],
            max_sizes=scales[1:],
            aspect_ratios=aspect_ratios,
            steps=steps,
            clip=True,
            row_order="AHW",
        )
        self.dboxes = center_form(self.spec)
        self.dboxes_ltrb = corner_form(self.dboxes)

    def __call__(self, order: str = "ltrb") -> Tensor:
        choice("DefaultBoxes", "order", order, ("ltrb", "xywh"))
        return self.dboxes_ltrb if order == "ltrb" else self.dboxes


def dboxes300_coco() -> DefaultBoxes:
    """The 8732 default boxes of SSD300 on COCO."""
    ratios = [[2], [2, 3], [2, 3], [2, 3], [2], [2]]
    return DefaultBoxes(300, [38, 19, 10, 5, 3, 1], [8, 16, 32, 64, 100, 300], [21, 45, 99, 153, 207, 261, 315], ratios)


def box_coder(dboxes: Any) -> BoxCoderSpec:
    """Of DefaultBoxes, the original's too: by its scale_xy and scale_wh."""
    xy, wh = positive_numbers("DefaultBoxes", "scale_xy, scale_wh", (dboxes.scale_xy, dboxes.scale_wh))
    return BoxCoderSpec((xy, xy, wh, wh))
