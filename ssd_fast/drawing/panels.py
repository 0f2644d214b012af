"""Panels with a headline and a caption, and sheets of panels."""

from __future__ import annotations

from collections.abc import Sequence

import PIL.Image
from PIL import ImageDraw, ImageFont

__all__ = ["dimmed", "on_background", "panel", "sheet"]

_BACKGROUND, _BRIGHT, _SOFT = (16, 17, 22), (245, 246, 250), (150, 154, 168)
_GAP = 18


def dimmed(picture: PIL.Image.Image, share: float) -> PIL.Image.Image:
    """Fade the picture into the background by the share."""
    return PIL.Image.blend(picture, PIL.Image.new("RGB", picture.size, _BACKGROUND), share)


def on_background(picture: PIL.Image.Image, margin: int) -> PIL.Image.Image:
    """Add a margin around the picture."""
    larger = PIL.Image.new("RGB", (picture.width + 2 * margin, picture.height + 2 * margin), _BACKGROUND)
    larger.paste(picture, (margin, margin))
    return larger


def panel(picture: PIL.Image.Image, headline: str, caption: str) -> PIL.Image.Image:
    """Put the picture above a large headline and a small caption."""
    large = ImageFont.load_default(max(18, picture.width // 13))
    small = ImageFont.load_default(max(12, picture.width // 24))
    line, rest = large.getbbox("Ag0")[3], small.getbbox("Ag0")[3]
    card = PIL.Image.new("RGB", (picture.width, int(picture.height + 1.5 * line + 2.2 * rest)), _BACKGROUND)
    card.paste(picture, (0, 0))
    draw = ImageDraw.Draw(card)
    draw.text((2, picture.height + 0.4 * line), headline, font=large, fill=_BRIGHT)
    draw.text((2, picture.height + 1.6 * line), caption, font=small, fill=_SOFT)
    return card


def sheet(panels: Sequence[PIL.Image.Image], columns: int) -> PIL.Image.Image:
    """Arrange panels of one size in rows."""
    width, height = panels[0].size
    rows = -(-len(panels) // columns)
    size = (columns * (width + _GAP) + _GAP, rows * (height + _GAP) + _GAP)
    page = PIL.Image.new("RGB", size, _BACKGROUND)
    for index, card in enumerate(panels):
        row, column = divmod(index, columns)
        page.paste(card, (_GAP + column * (width + _GAP), _GAP + row * (height + _GAP)))
    return page
