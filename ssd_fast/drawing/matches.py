"""Draw the matches of training on their image: ground truths, positives per feature map, and mined negatives."""

from __future__ import annotations

from typing import Any

import numpy as np
import PIL.Image

from ..images import Image
from ..ops import default_boxes
from ..specs import DefaultBoxSpec
from .colors import class_color
from .detections import as_numpy, as_pil
from .layer import Layer
from .panels import dimmed, on_background, panel, sheet

__all__ = ["draw_matches"]

_WHITE, _GRAY = (255, 255, 255), (168, 172, 186)
_COLUMNS = 3
_LONGEST = 420  # side of a panel, in pixels
_MARGIN = 0.12  # default boxes reach beyond the image


def draw_matches(
    image: Image, gt_boxes: Any, spec: DefaultBoxSpec, matched_idxs: Any, hard_negatives: Any = None
) -> PIL.Image.Image:
    """Draw one panel per feature map: the ground truths in white, the default boxes matched to each in its color.

    Background boxes that were mined as hard negatives are gray. Boxes that `match` ignores are left out.

    Args:
        image: any kind and size of image that the detector takes.
        gt_boxes: [G, 4] xyxy in the units of the default boxes.
        spec: the default boxes.
        matched_idxs: int64 [P], as `match` returns it for this image.
        hard_negatives: bool [P], as `SSDCriterion.select` returns it; None draws none.

    Returns:
        An RGB image.

    Syncs:
        Copies all arrays to the CPU.

    Raises:
        ValueError: an array's shape does not fit the default boxes, or an index does not fit the ground truths.

    Examples:
        >>> import numpy as np
        >>> import ssd_fast
        >>> spec = ssd_fast.DefaultBoxSpec((64, 64), ((2, 2), (1, 1)), box_sizes=(((24, 24),), ((48, 48),)))
        >>> gt_boxes = np.array([[2, 2, 30, 30]], np.float32)
        >>> matched = ssd_fast.match([gt_boxes], ssd_fast.default_boxes(spec).numpy(), ssd_fast.MatcherSpec())
        >>> picture = ssd_fast.draw_matches(np.zeros((64, 64, 3), np.uint8), gt_boxes, spec, matched[0])
        >>> picture.mode
        'RGB'
    """
    truths, matched = as_numpy(gt_boxes).reshape(-1, 4), as_numpy(matched_idxs)
    mined = np.zeros(spec.num_boxes, bool) if hard_negatives is None else as_numpy(hard_negatives).astype(bool)
    for name, values in (("matched_idxs", matched), ("hard_negatives", mined)):
        if values.shape != (spec.num_boxes,):
            raise ValueError(f"draw_matches: {name}: expected shape [{spec.num_boxes}], got {list(values.shape)}")
    if matched.max(initial=-1) >= len(truths):
        raise ValueError(f"draw_matches: matched_idxs: expected indices below {len(truths)}, got {matched.max()}")
    picture = as_pil(image)
    zoom = _LONGEST / max(picture.size)
    picture = picture.resize((round(picture.width * zoom), round(picture.height * zoom)), PIL.Image.Resampling.LANCZOS)
    margin = round(_MARGIN * _LONGEST)
    height, width = spec.extent
    scale = np.array([picture.width / width, picture.height / height] * 2)
    background = on_background(dimmed(picture, 0.4), margin)
    boxes = default_boxes(spec).numpy() * scale + margin
    panels, first = [], 0
    for (rows, columns), count in zip(spec.feature_maps, spec.boxes_per_cell, strict=True):
        own = slice(first, first + rows * columns * count)
        first = own.stop
        layer = Layer(background.size)
        for box in boxes[own][mined[own]]:
            layer.rectangle(box.tolist(), outline=_GRAY, alpha=130, width=1)
        for box in truths * scale + margin:
            layer.rectangle(box.tolist(), outline=_WHITE, width=3)
        positives = matched[own] >= 0
        for box, truth in zip(boxes[own][positives], matched[own][positives].tolist(), strict=True):
            layer.rectangle(box.tolist(), outline=class_color(truth), alpha=220, width=1.5)
        reached = len(set(matched[own][positives].tolist()))
        plural = "" if positives.sum() == 1 else "s"
        caption = f"for {reached} of {len(truths)} ground truths; {mined[own].sum()} mined negatives"
        panels.append(panel(layer.over(background), f"{rows} x {columns}: {positives.sum()} positive{plural}", caption))
    return sheet(panels, columns=min(_COLUMNS, len(panels)))
