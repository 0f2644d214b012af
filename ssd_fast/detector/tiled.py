"""Detect in tiles: the candidates of all tiles of an image enter one NMS, in the image's pixels."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..detections import Detections
from ..ops import batched_nms, box_iou
from ..presets import Preset
from ..specs import PostprocessSpec
from ..specs.postprocess import largest_kept_iou
from .tiles import Tile, Tiling

__all__ = ["detect_tiled"]

Images = Tensor | Sequence[Tensor]
Detect = Callable[[Images, PostprocessSpec], Detections]

_TILES_AT_ONCE = 16
_CANDIDATES_AT_ONCE = 2**22  # 150 MB of padded candidates; fewer tiles go together where each may have many
_EDGE = 0.01  # share of a tile's side: a network places a cut edge only roughly
_PAIRS_AT_ONCE = 2**22


class _Candidates(NamedTuple):
    """Boxes of one image, in its pixels: [n, 4] and [n]. `cut` marks those that an inner edge of their tile cuts."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    box_idxs: Tensor
    cut: Tensor

    def at(self, rows: Tensor) -> _Candidates:
        return _Candidates(*(field[rows] for field in self))


def detect_tiled(
    images: Images, tiling: Tiling, detect: Detect, preset: Preset, spec: PostprocessSpec, columns: int
) -> Detections:
    """Detect in images of any sizes, those larger than a tile in tiles.

    Images that are not cut are detected together, as without tiles. Each other image is detected on its own, so that
    its detections do not depend on the batch.

    Args:
        images: RGB [3, H, W], or one tensor [N, 3, H, W].
        tiling: where the tiles lie.
        detect: detects in whole images by a spec, with boxes in their pixels.
        preset: its default boxes limit the number of candidates.
        spec: how head outputs become detections.
        columns: of cls_logits.
    """
    cut = [index for index, image in enumerate(images) if tiling.cuts(image.shape[1], image.shape[2])]
    if not cut:
        return detect(images, spec)
    whole = sorted(set(range(len(images))) - set(cut))
    unsuppressed = _unsuppressed(spec, preset, columns)
    parts = [detect([images[index] for index in whole], spec)] if whole else []
    for index in cut:
        _, height, width = images[index].shape
        tiles = [Tile(0, 0, width, height), *tiling.tiles(height, width)]
        candidates = _candidates(images[index], tiles, detect, unsuppressed)
        parts.append(_merge(candidates, (width, height), spec, most=spec.keep_top_k * len(tiles)))
    return _in_order(parts, whole + cut)


def _unsuppressed(spec: PostprocessSpec, preset: Preset, columns: int) -> PostprocessSpec:
    """Return the spec that gives all candidates of a tile that would enter NMS, since the NMS of the image follows."""
    most = preset.default_boxes.num_boxes * columns
    if spec.top_k is not None:
        scopes = {"class": columns, "level": len(preset.default_boxes.feature_maps), "image": 1}
        most = min(most, spec.top_k * scopes[spec.top_k_scope])
    clip = "none" if spec.clip == "after_nms" else spec.clip
    return dataclasses.replace(spec, iou_threshold=1.0, iou_inclusive=False, keep_top_k=most, clip=clip)


def _candidates(image: Tensor, tiles: Sequence[Tile], detect: Detect, spec: PostprocessSpec) -> _Candidates:
    """Detect in some tiles at a time, which bounds the memory that the network takes."""
    at_once = max(1, min(_TILES_AT_ONCE, _CANDIDATES_AT_ONCE // spec.keep_top_k))
    parts = []
    for first in range(0, len(tiles), at_once):
        some = tiles[first : first + at_once]
        crops = [image[:, tile.top : tile.top + tile.height, tile.left : tile.left + tile.width] for tile in some]
        found = detect(crops, spec)
        real = torch.arange(found.scores.shape[1], device=found.scores.device) < found.counts[:, None]
        boxes, scores, labels, box_idxs = (field[real] for field in found[:4])
        places = torch.tensor(some, dtype=torch.float32, device=boxes.device)[real.nonzero()[:, 0]]
        cut = _is_cut(boxes, places, (image.shape[2], image.shape[1]))
        parts.append(_Candidates(boxes + places[:, :2].repeat(1, 2), scores, labels, box_idxs, cut))
    return _Candidates(*map(torch.cat, zip(*parts, strict=True)))


def _is_cut(boxes: Tensor, places: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Find the boxes [n, 4], in pixels of their tiles [n, 4], that touch an edge of it inside the image (w, h)."""
    origins, sides = places.split(2, 1)
    before = (boxes[:, :2] <= _EDGE * sides) & (origins > 0)
    after = (boxes[:, 2:] >= sides - _EDGE * sides) & (origins + sides < places.new_tensor(image_size))
    return (before | after).any(1)


def _merge(candidates: _Candidates, image_size: tuple[int, int], spec: PostprocessSpec, most: int) -> Detections:
    """Run one NMS on the candidates of an image, drop fragments, and pad to keep_top_k where there are fewer."""
    groups = torch.zeros_like(candidates.labels) if spec.class_mode == "agnostic" else candidates.labels
    threshold = largest_kept_iou(spec.iou_threshold, spec.iou_inclusive)
    kept = batched_nms(candidates.boxes, candidates.scores, groups, threshold)[:most]
    found, groups = candidates.at(kept), groups[kept]
    found = found.at(~_is_fragment(found, groups))
    boxes = found.boxes
    if spec.clip == "after_nms":
        boxes = boxes.clamp(boxes.new_zeros(4), boxes.new_tensor(image_size).repeat(2))
    counts = torch.tensor([len(boxes)], dtype=torch.int64, device=boxes.device)
    detections = Detections(boxes[None], found.scores[None], found.labels[None], found.box_idxs[None], counts)
    return _padded(detections, max(spec.keep_top_k, len(boxes)))


def _is_fragment(found: _Candidates, groups: Tensor) -> Tensor:
    """Find the cut boxes of which more than half lies in a larger box of their group, of at least half their score.

    NMS leaves them, since their IoU with the larger box is small. The larger box often scores a little lower. One that
    scores far lower, which a low score threshold lets in, must not cost a better detection.
    """
    areas = (found.boxes[:, 2:] - found.boxes[:, :2]).prod(1)
    fragments = torch.zeros_like(found.cut)
    for rows in found.cut.nonzero()[:, 0].split(max(1, _PAIRS_AT_ONCE // max(1, len(areas)))):
        iou, area = box_iou(found.boxes[rows], found.boxes), areas[rows, None]
        inside = iou / (1 + iou) * (area + areas)  # the intersection
        larger = (areas > area) & (found.scores >= found.scores[rows, None] / 2)
        fragments[rows] = ((inside > area / 2) & larger & (groups[rows, None] == groups)).any(1)
    return fragments


def _in_order(parts: Sequence[Detections], order: Sequence[int]) -> Detections:
    """Join detections of some images each into a batch; image i of the parts is image order[i] of the batch."""
    longest = max(part.boxes.shape[1] for part in parts)
    padded = [_padded(part, longest) for part in parts]
    place = torch.tensor(order, device=padded[0].boxes.device).argsort()
    return Detections(*(torch.cat(fields)[place] for fields in zip(*padded, strict=True)))


def _padded(found: Detections, length: int) -> Detections:
    more = length - found.boxes.shape[1]
    return Detections(
        boxes=F.pad(found.boxes, (0, 0, 0, more)),
        scores=F.pad(found.scores, (0, more)),
        labels=F.pad(found.labels, (0, more), value=-1),
        box_idxs=F.pad(found.box_idxs, (0, more), value=-1),
        counts=found.counts,
    )
