"""Draw detections on their image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
from PIL import ImageFont

from .._io.text import display_name
from ..detections import Detections
from ..images import Image, as_image_tensor
from .colors import Color, class_color
from .layer import Layer

__all__ = ["draw_detections"]

Rect = tuple[float, float, float, float]

_SMOOTH_PIXELS = 4_000_000  # larger images need no smoothed edges
_HALO = (0, 0, 0, 110)


def draw_detections(
    image: Image, detections: Detections | Mapping[str, Any], classes: Sequence[str] | None
) -> PIL.Image.Image:
    """Draw each detection's frame, name and score on the image, in the color of its class.

    Lines and letters grow with the image. Names stand beside their frames where there is room, always inside the image,
    and apart from each other where possible; the best detections are placed first and lie on top.

    Args:
        image: any image that the detector takes (a path, a PIL image, an array or a tensor); it is not modified.
        detections: a dict of "boxes" [k, 4] xyxy in pixels, "scores" [k] and "labels" [k], as Detections.to_list()
            returns, or a Detections of one image.
        classes: `classes[label]` is the name; for None, or a label beyond the end, the number is drawn.

    Returns:
        A new RGB image of the (upright) image's size. Boxes that are not finite are left out.

    Syncs:
        Copies the detections and the image to the CPU.

    Raises:
        ValueError: detections of several images, or fields of unequal length.
        TypeError: `detections` is neither; images as in ssd_fast.images.as_image_tensor.

    Examples:
        >>> import numpy as np
        >>> import ssd_fast
        >>> image = np.zeros((120, 160, 3), np.uint8)
        >>> found = {"boxes": np.array([[20.0, 30, 90, 100]]), "scores": np.array([0.9]), "labels": np.array([1])}
        >>> picture = ssd_fast.draw_detections(image, found, classes=("background", "cat"))
        >>> picture.size, picture.mode
        ((160, 120), 'RGB')
    """
    boxes, scores, labels = _fields(detections)
    picture = as_pil(image)
    names = [_name(int(label), classes) for label in labels]
    found = [
        (box, f"{name} {score:.0%}", class_color(int(label)))
        for box, score, label, name in zip(boxes, scores, labels, names, strict=True)
        if np.isfinite(box).all()
    ]
    zoom = 2 if picture.width * picture.height <= _SMOOTH_PIXELS else 1
    canvas = _Canvas(picture.size, zoom)
    frames = [canvas.frame(box) for box, _, _ in found]
    for frame, (_, _, color) in reversed(list(zip(frames, found, strict=True))):
        canvas.draw_frame(frame, color)
    plates: list[_Plate] = []
    for frame, (_, text, color) in zip(frames, found, strict=True):
        plates.append(canvas.place(frame, text, color, [plate.rect for plate in plates]))
    for plate in reversed(plates):
        canvas.draw_plate(plate)
    return canvas.over(picture)


class _Plate(NamedTuple):
    rect: Rect
    text: str
    color: Color


class _Canvas(Layer):
    """A layer of frames and their name plates. All lengths are in its own pixels."""

    def __init__(self, size: tuple[int, int], zoom: int) -> None:
        super().__init__(size, zoom)
        side = math.sqrt(self.width * self.height)
        self.stroke = max(2 * zoom, round(side / 170))
        self.font = ImageFont.load_default(max(11 * zoom, round(side / 29)))
        _, top, _, bottom = self.font.getbbox("Ayg|")
        self.pad, self.text_top = self.stroke + (bottom - top) // 6, top
        self.text_height = bottom - top

    def frame(self, box: np.ndarray) -> Rect:
        """The center of the line around a box, with the line entirely inside the image."""
        half = self.stroke / 2
        xs = sorted(min(max(float(x) * self.zoom, half), max(self.width - half, half)) for x in box[0::2])
        ys = sorted(min(max(float(y) * self.zoom, half), max(self.height - half, half)) for y in box[1::2])
        return xs[0], ys[0], xs[1], ys[1]

    def draw_frame(self, frame: Rect, color: Color) -> None:
        for width, ink in ((self.stroke + 2 * self.zoom, _HALO), (self.stroke, (*color, 255))):
            half = width / 2
            x1, y1, x2, y2 = frame
            outside = (x1 - half, y1 - half, x2 + half - 1, y2 + half - 1)
            self.draw.rounded_rectangle(outside, radius=1.5 * width, outline=ink, width=round(width))

    def place(self, frame: Rect, text: str, color: Color, taken: Sequence[Rect]) -> _Plate:
        """Place the text on a plate: in the first free place around the frame, or in the one that hides least."""
        while self.font.getlength(text) > self.width - 2 * self.pad and len(text) > 4:
            text = text.removesuffix("...")[:-1] + "..."
        width, height = self.font.getlength(text) + 2 * self.pad, self.text_height + 1.4 * self.pad
        half = self.stroke / 2
        x1, y1, x2, y2 = frame[0] - half, frame[1] - half, frame[2] + half, frame[3] + half
        spots = [(x1, y1 - height), (x1, y1), (x2 - width, y1 - height), (x2 - width, y1)]
        spots += [(x1, y2), (x1, y2 - height), (x2 - width, y2), (x2 - width, y2 - height)]
        spots += [(x1, y1 + step * height) for step in range(1, 6)]
        rects = []
        for index, (x, y) in enumerate(spots):
            inside_x = min(max(x, 0), max(self.width - width, 0))
            inside_y = min(max(y, 0), max(self.height - height, 0))
            rect = (inside_x, inside_y, inside_x + width, inside_y + height)
            moved = abs(inside_x - x) + 4 * abs(inside_y - y)
            hidden = sum(_overlap(rect, other) for other in taken)
            rects.append((hidden > 0, hidden, moved > height, index, rect))
        return _Plate(min(rects)[-1], text, color)

    def draw_plate(self, plate: _Plate) -> None:
        x1, y1, x2, y2 = plate.rect
        self.draw.rounded_rectangle((x1, y1, x2 - 1, y2 - 1), radius=1.5 * self.stroke, fill=(*plate.color, 255))
        top = y1 + (y2 - y1 - self.text_height) / 2 - self.text_top
        self.draw.text((x1 + self.pad, top), plate.text, font=self.font, fill=(12, 12, 16, 255))


def _fields(detections: Detections | Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read boxes [k, 4], scores [k] and labels [k], best first."""
    if isinstance(detections, Detections):
        if len(detections.counts) != 1:
            raise ValueError(
                f"draw_detections: detections: expected the detections of 1 image, got {len(detections.counts)}"
            )
        (detections,) = detections.to_list()
    if not isinstance(detections, Mapping) or not {"boxes", "scores", "labels"} <= set(detections):
        expected = "a Detections, or a dict of boxes, scores and labels"
        raise TypeError(f"draw_detections: detections: expected {expected}, got {type(detections).__name__}")
    boxes, scores, labels = (as_numpy(detections[field]) for field in ("boxes", "scores", "labels"))
    boxes = boxes.reshape(-1, 4)
    if not len(boxes) == len(scores) == len(labels):
        raise ValueError(
            f"draw_detections: detections: expected as many scores and labels as boxes, "
            f"got {len(boxes)} boxes, {len(scores)} scores, {len(labels)} labels"
        )
    order = np.argsort(-scores, kind="stable")
    return boxes[order], scores[order], labels[order]


def as_numpy(values: Any) -> np.ndarray:
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.float() if values.is_floating_point() else values
    return np.asarray(values.get() if hasattr(values, "get") else values)


def as_pil(image: Image) -> PIL.Image.Image:
    tensor = as_image_tensor(image, "cpu").detach()
    if tensor.is_floating_point():
        tensor = (tensor.float().clamp(0, 1) * 255).round().byte()
    return PIL.Image.fromarray(tensor.permute(1, 2, 0).contiguous().numpy())


def _name(label: int, classes: Sequence[str] | None) -> str:
    return display_name(classes[label]) if classes is not None and 0 <= label < len(classes) else f"class {label}"


def _overlap(a: Rect, b: Rect) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
