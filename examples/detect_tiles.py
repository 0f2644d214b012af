"""Find small objects in a large picture, in tiles: a table of photos, seen from far above.

    python examples/detect_tiles.py tiles.jpg

The photos that come with the package lie on it at known places, none wider than a tenth of the picture. The object that
the detector finds in each photo by itself (a cat, a cup or a person) should be found there again.
"""

from __future__ import annotations

import argparse

import numpy as np
import PIL.Image
import torch

import ssd_fast
from ssd_fast.assets import asset_path

SIZE = (3000, 2000)  # width, height
CELL = 250  # pixels; each photo has a cell of its own
WIDTHS = (130, 220)  # of the smallest and the largest photo, in pixels
PHOTOS = ("chelsea.jpg", "coffee.jpg", "astronaut.jpg")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("picture", help="where to save what was found")
    parser.add_argument("--tile", type=int, default=320)
    parser.add_argument("--photos", type=int, default=40)
    options = parser.parse_args()
    whole = ssd_fast.load_detector()
    tiled = ssd_fast.Detector(whole.network, whole.classes, tile=options.tile)
    image, objects = compose(whole, options.photos)
    for detector in (whole, tiled):
        found = detector(image, score_threshold=0.5)
        right, others = count(found, objects)
        print(f"{detector}: {right} of {options.photos} objects found; other boxes: {others}")
    ssd_fast.draw_detections(image, found, tiled.classes).save(options.picture)


def compose(detector: ssd_fast.Detector, photos: int, seed: int = 0) -> tuple[PIL.Image.Image, dict[str, torch.Tensor]]:
    """A picture with photos strewn over it, and the boxes and labels of the best detection in each."""
    random = np.random.default_rng(seed)
    picture = PIL.Image.new("RGB", SIZE, (112, 104, 92))
    columns, rows = SIZE[0] // CELL, SIZE[1] // CELL
    boxes, labels = [], []
    for number, cell in enumerate(random.permutation(columns * rows)[:photos]):
        photo = PIL.Image.open(asset_path(PHOTOS[number % len(PHOTOS)]))
        (found,) = detector(photo, score_threshold=0.5).to_list()
        shrink = random.integers(*WIDTHS) / photo.width
        small = photo.resize((round(photo.width * shrink), round(photo.height * shrink)))
        corner = np.array(divmod(int(cell), rows)) * CELL + random.integers(0, CELL - np.array(small.size))
        picture.paste(small, tuple(corner.tolist()))
        boxes.append(found["boxes"][0].cpu() * shrink + torch.tensor(corner).repeat(2))
        labels.append(found["labels"][0].cpu())
    return picture, {"boxes": torch.stack(boxes).float(), "labels": torch.stack(labels)}


def count(found: ssd_fast.Detections, objects: dict[str, torch.Tensor]) -> tuple[int, int]:
    """How many objects a box of their class overlaps by an IoU above 0.5, and how many boxes overlap none."""
    (image,) = found.to_list()
    iou = ssd_fast.box_iou(image["boxes"].cpu(), objects["boxes"])
    same = image["labels"].cpu()[:, None] == objects["labels"]
    hits = same & (iou > 0.5)
    return int(hits.any(0).sum()), int((~hits.any(1)).sum())


if __name__ == "__main__":
    main()
