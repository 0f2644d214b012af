"""Write scenes of handwritten digits to train a detector on, offline: scikit-learn's digits, pasted onto paper.

    pip install scikit-learn
    python examples/digits.py scenes
    ssd-fast train scenes --split train --eval-split test --flip none --epochs 30 --out run

The folder holds PNG files and one `annotations.json` with a box and a label for every digit: the plain layout that
`ssd-fast train` reads, and a pattern for your own. Test scenes share no digit with training scenes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

SIZE = (240, 320)  # height, width
SIDES = (18, 72)  # the smallest and the largest digit, in pixels
DIGITS = (3, 12)  # per scene, at least and at most
GAP = 2  # pixels between boxes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", type=int, default=400, help="scenes to train on")
    parser.add_argument("--test", type=int, default=100, help="scenes to measure on")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    write(options.folder, options.train, options.test, options.seed)
    print(f"{options.train} + {options.test} scenes written to {options.folder}")


def write(folder: Path, train: int, test: int, seed: int = 0) -> None:
    """Write the scenes of both splits, and annotations.json."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    digits = load_digits()
    order = random.permutation(len(digits.target))
    held_out = len(order) // 5
    splits = {"train": (train, order[held_out:]), "test": (test, order[:held_out])}
    images: dict[str, list[dict]] = {}
    names: dict[str, list[str]] = {}
    for split, (count, indices) in splits.items():
        names[split] = [f"{split}_{number:04}.png" for number in range(count)]
        for name in names[split]:
            scene, images[name] = compose(random, digits.images[indices], digits.target[indices])
            Image.fromarray(scene).save(folder / name)
    classes = [str(digit) for digit in range(10)]
    (folder / "annotations.json").write_text(json.dumps({"classes": classes, "images": images, "splits": names}))


def compose(random: np.random.Generator, glyphs: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, list[dict]]:
    """A scene [height, width, 3] and its objects: digits, each in its own ink, on paper with a gradient and grain."""
    height, width = SIZE
    corner, slope = random.uniform(170, 245, 3), random.uniform(-50, 10, (2, 1, 1, 3))
    rows, columns = np.linspace(0, 1, height)[:, None, None], np.linspace(0, 1, width)[None, :, None]
    scene = corner + rows * slope[0] + columns * slope[1] + random.normal(0, 4, (height, width, 1))
    objects: list[dict] = []
    for index in random.integers(0, len(glyphs), random.integers(DIGITS[0], DIGITS[1] + 1)):
        ink = coverage(glyphs[index], int(random.integers(*SIDES)))
        place = free_place(random, ink.shape, [item["box"] for item in objects])
        if place is None:
            continue
        y, x = place
        patch = scene[y : y + ink.shape[0], x : x + ink.shape[1]]
        patch += ink[:, :, None] * (random.uniform(0, 110, 3) - patch)
        box = [x, y, x + ink.shape[1], y + ink.shape[0]]
        objects.append({"box": box, "label": str(labels[index])})
    return scene.clip(0, 255).astype(np.uint8), objects


def coverage(glyph: np.ndarray, side: int) -> np.ndarray:
    """The ink (0 to 1) on each pixel of a digit drawn at this size, cropped to where there is some."""
    enlarged = Image.fromarray((glyph * (255 / 16)).astype(np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
    ink = np.asarray(enlarged, dtype=np.float64) / 255
    rows, columns = (np.flatnonzero((ink > 0.3).any(axis)) for axis in (1, 0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def free_place(random: np.random.Generator, shape: tuple[int, int], boxes: list[list[int]]) -> tuple[int, int] | None:
    """A free place (y, x), or None after some attempts."""
    for _ in range(30):
        y, x = (int(random.integers(0, room - side)) for room, side in zip(SIZE, shape, strict=True))
        apart = all(
            x >= x2 + GAP or x + shape[1] + GAP <= x1 or y >= y2 + GAP or y + shape[0] + GAP <= y1
            for x1, y1, x2, y2 in boxes
        )
        if apart:
            return y, x
    return None


if __name__ == "__main__":
    main()
