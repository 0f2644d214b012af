"""A layer of translucent shapes with smooth edges over a picture."""

from __future__ import annotations

from collections.abc import Sequence

import PIL.Image
from PIL import ImageDraw

from .colors import Color

__all__ = ["Layer"]


class Layer:
    """A transparent layer for a picture of `size` (width, height), drawn `zoom` times larger for smooth edges.

    `draw` takes the layer's own pixels, the methods take the picture's.
    """

    def __init__(self, size: tuple[int, int], zoom: int = 2) -> None:
        self.zoom = zoom
        self.width, self.height = size[0] * zoom, size[1] * zoom
        self._sheet = PIL.Image.new("RGBA", (self.width, self.height), (0, 0, 0, 0))
        self.draw = ImageDraw.Draw(self._sheet)

    def rectangle(
        self,
        box: Sequence[float],
        outline: Color | None = None,
        fill: Color | None = None,
        alpha: int = 255,
        width: float = 1,
    ) -> None:
        """Draw a rectangle, its corners in any order."""
        x1, y1, x2, y2 = (self.zoom * float(value) for value in box)
        self.draw.rectangle(
            (min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)),
            outline=None if outline is None else (*outline, alpha),
            fill=None if fill is None else (*fill, alpha),
            width=round(self.zoom * width),
        )

    def line(self, ends: Sequence[float], ink: Color, alpha: int, width: float = 1) -> None:
        """Draw a line between two points (x1, y1, x2, y2)."""
        points = [self.zoom * float(value) for value in ends]
        self.draw.line(points, fill=(*ink, alpha), width=round(self.zoom * width))

    def over(self, picture: PIL.Image.Image) -> PIL.Image.Image:
        """Return the picture, an RGB image, with the layer on top."""
        sheet = self._sheet if self.zoom == 1 else self._sheet.resize(picture.size, PIL.Image.Resampling.BOX)
        return PIL.Image.alpha_composite(picture.convert("RGBA"), sheet).convert("RGB")
