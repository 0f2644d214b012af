"""The stages of an SSD on a photo: its default boxes, and what each step of the postprocess leaves of them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import PIL.Image
import torch
from torch import Tensor

from ..detector import Detector
from ..images import as_image_tensors
from ..ops import decode_boxes, default_boxes, postprocess
from ..specs import DefaultBoxSpec
from .colors import class_color
from .detections import draw_detections
from .layer import Layer
from .panels import dimmed, on_background, panel, sheet

__all__ = ["Stage", "default_boxes_picture", "stages", "stages_picture"]

_WHITE = (255, 255, 255)
_SCORE_THRESHOLD, _TOP_K, _SHOWN_SCORE = 0.02, 20, 0.5


def default_boxes_picture(photo: PIL.Image.Image, spec: DefaultBoxSpec, at: tuple[float, float]) -> PIL.Image.Image:
    """Draw one panel per feature map: its cells, and the default boxes of the cell at `at` (x, y in 0..1)."""
    side, margin = 372, 56
    background = on_background(dimmed(photo.resize((side, side), PIL.Image.Resampling.LANCZOS), 0.45), margin)
    extent = torch.tensor(spec.extent, dtype=torch.float32).flip(0).repeat(2)
    boxes = (default_boxes(spec) / extent).split([h * w * a for (h, w), a in _levels(spec)])
    panels = []
    for ((height, width), count), level in zip(_levels(spec), boxes, strict=True):
        column, row = min(int(at[0] * width), width - 1), min(int(at[1] * height), height - 1)
        if spec.row_order == "AHW":
            level = level.reshape(count, height, width, 4).permute(1, 2, 0, 3)
        cells = level.reshape(height, width, count, 4)
        layer = Layer(background.size)
        for line in range(width + 1):
            x = margin + side * line / width
            layer.line((x, margin, x, margin + side), _WHITE, 60)
        for line in range(height + 1):
            y = margin + side * line / height
            layer.line((margin, y, margin + side, y), _WHITE, 60)
        corners = [column / width, row / height, (column + 1) / width, (row + 1) / height]
        cell = torch.tensor(corners, dtype=torch.float32)
        layer.rectangle((margin + side * cell).tolist(), fill=_WHITE, alpha=70)
        for index, box in enumerate(cells[row, column]):
            layer.rectangle((margin + side * box).tolist(), outline=class_color(index), width=2.5)
        plural = "es" if count > 1 else ""
        caption = f"{count} default box{plural} per cell: {height * width * count:,} boxes"
        panels.append(panel(layer.over(background), f"{height} x {width} cells", caption))
    return sheet(panels, columns=3)


def _levels(spec: DefaultBoxSpec) -> list[tuple[tuple[int, int], int]]:
    return list(zip(spec.feature_maps, spec.boxes_per_cell, strict=True))


@dataclass(frozen=True)
class Stage:
    """What a step leaves: `count` scores or boxes. boxes [n, 4] in 0..1, scores [n], labels [n], best first."""

    count: int
    unit: str
    caption: str
    boxes: Tensor
    scores: Tensor
    labels: Tensor


def stages(detector: Detector, photo: PIL.Image.Image) -> list[Stage]:
    """Compute the stages, from all scores of all default boxes to the detections that are shown."""
    batch, _ = detector.network.preprocessing(as_image_tensors(photo, detector.device))
    with torch.no_grad():
        deltas, logits = (head[0].cpu() for head in detector.network(batch))
    preset = detector.preset
    rows = default_boxes(preset.default_boxes)
    boxes, scores = decode_boxes(deltas, rows, preset.coder), logits.sigmoid()[:, 1:]

    def stage(unit: str, caption: str, keep: Tensor) -> Stage:
        """keep: bool [P, C - 1]."""
        box, column = keep.nonzero(as_tuple=True)
        order = scores[box, column].argsort(descending=True)
        box, column = box[order], column[order]
        return Stage(len(box), unit, caption, boxes[box].clamp(0, 1), scores[box, column], column + 1)

    best = torch.zeros_like(scores, dtype=torch.bool).scatter(0, scores.topk(_TOP_K, dim=0).indices, True)
    passed = scores > _SCORE_THRESHOLD
    spec = dataclasses.replace(
        preset.postprocess, score_threshold=_SCORE_THRESHOLD, top_k=_TOP_K, keep_top_k=int(best.sum())
    )
    window = preset.default_boxes.extent
    found = postprocess(logits[None], deltas[None], rows, spec, coder=preset.coder, image_sizes=window).to_list()[0]
    kept = torch.zeros_like(passed).index_put(
        (found["box_idxs"], found["labels"] - 1), torch.tensor(True, dtype=torch.bool)
    )
    everything = Stage(
        scores.numel(),
        "scores",
        f"{len(rows):,} default boxes x {scores.shape[1]} classes",
        rows,
        torch.zeros(len(rows), dtype=torch.float32),
        torch.zeros(len(rows), dtype=torch.int64),
    )
    return [
        everything,
        stage("candidates", f"scores above {_SCORE_THRESHOLD:.0%}", passed),
        stage("after top-k", f"at most {_TOP_K} per class", passed & best),
        stage("after NMS", f"no two boxes of a class with an IoU above {spec.iou_threshold:g}", kept),
        stage("shown", f"scores above {_SHOWN_SCORE:.0%}", kept & (scores > _SHOWN_SCORE)),
    ]


def stages_picture(photo: PIL.Image.Image, found: list[Stage], classes: tuple[str, ...]) -> PIL.Image.Image:
    """Draw a strip of the photo with the boxes that each stage leaves."""
    width = 420
    small = photo.resize((width, round(width * photo.height / photo.width)), PIL.Image.Resampling.LANCZOS)
    extent = torch.tensor([small.width, small.height] * 2, dtype=torch.float32)
    panels = []
    for index, stage in enumerate(found):
        boxes = stage.boxes * extent
        if index == len(found) - 1:
            picture = draw_detections(small, {"boxes": boxes, "scores": stage.scores, "labels": stage.labels}, classes)
        else:
            layer = Layer(small.size)
            for box, label in zip(boxes.flip(0).tolist(), stage.labels.flip(0).tolist(), strict=True):
                layer.rectangle(box, outline=class_color(label) if label else _WHITE, alpha=230 if label else 45)
            picture = layer.over(dimmed(small, 0.35))
        panels.append(panel(picture, f"{stage.count:,} {stage.unit}", stage.caption))
    return sheet(panels, columns=len(panels))
