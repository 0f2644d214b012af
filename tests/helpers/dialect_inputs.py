"""Head outputs and ground truths that the maker of a golden file and its test compute alike, by integer arithmetic.

Random generators may change from version to version, but these numbers cannot, so golden files hold only outputs.
"""

from __future__ import annotations

import hashlib

import numpy as np

_GRID = 4096  # every value is a multiple of 1 / _GRID, hence exact in float32
_LARGE_EVERY = 97  # rows of head_outputs
CROWDED = 3  # added to the logits of all classes, it gives more candidates than any limit
FAINT = -20.2  # a level of `apart` at which a score of 1e-8 is rare
ALL = 4000  # for a keep_top_k that limits nothing


def noise(seed: int, *shape: int) -> np.ndarray:
    """Return float32 in [-1, 1): multiples of 1 / 4096, by the finalizer of SplitMix64."""
    bits = hashed(seed, *shape)
    return ((bits % np.uint64(2 * _GRID)).astype(np.float32) - _GRID) / np.float32(_GRID)


def hashed(seed: int, *shape: int) -> np.ndarray:
    """Return uint64 of a shape, each a hash of seed and position."""
    z = np.arange(int(np.prod(shape)), dtype=np.uint64) + np.uint64(seed * 0x9E3779B97F4A7C15 % 2**64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (z ^ (z >> np.uint64(31))).reshape(shape)


def head_outputs(
    num_rows: int, num_columns: int, *, background: int | None = 0, floor: float = -10.5, seed: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Return (cls_logits [2, P, C], bbox_regression [2, P, 4]) of two images, float32.

    Objects are runs of neighboring rows that agree on a class, over a floor from which some hundred rows per class pass
    a threshold of 0.01, so that every stage has work: more candidates than top_k, overlaps to suppress, a full
    keep_top_k. The second image has a lower floor. Some rows give sizes that only a clamp of the log scale limits.
    background: -1 is the last column, None is no background.
    """
    objects = 40
    logits = 6 * noise(seed, 2, num_rows, num_columns) + np.float32(floor)
    logits[1] -= 2
    if background is None:
        classes = np.arange(num_columns)
    else:
        classes = np.delete(np.arange(num_columns), background)
        logits[..., background] = 2 * noise(seed + 1, 2, num_rows) + 2
    logits[..., classes[0]] += 4  # a class with more candidates than any top_k
    picks = hashed(seed + 2, 2, objects, 2)
    strength = noise(seed + 3, 2, objects, 8)
    for image in range(2):
        for i in range(objects):
            row = int(picks[image, i, 0] % np.uint64(num_rows))
            column = classes[int(picks[image, i, 1] % np.uint64(len(classes)))]
            rows = [min(row + step, num_rows - 1) for step in (0, 1, 2, 3, 6, 7, 12, 13)]
            logits[image, rows, column] = 4 + 3 * strength[image, i]
    deltas = np.float32(1.5) * noise(seed + 4, 2, num_rows, 4)
    deltas[:, ::_LARGE_EVERY, 2:] *= 20  # beyond ln(1000 / 16) / 0.2, both ways
    return logits.astype(np.float32), deltas.astype(np.float32)


def around_a_threshold(logits: np.ndarray) -> np.ndarray:
    """Return logits of sigmoids, some of them exactly 0, so that their score equals a threshold of 0.5."""
    shifted = logits - 4
    return np.where(np.abs(shifted) < 0.25, np.float32(0), shifted)


def halves(num_columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (logits [1, P, C] of sigmoids, boxes [P, 4] xyxy) of 64 objects: each has a box, half of it, most of it.

    All values are exact in float32, so the half has an IoU of exactly 0.5 with the box. It has another class. Every
    fourth object is alone, with a score of exactly 0.5.
    """
    cells = np.arange(64)
    corner = np.stack((cells % 8, cells // 8), 1) * 32 + 2
    size = np.array([16, 24])
    box = np.concatenate((corner, corner + size), 1)
    half = np.concatenate((corner, corner + size * [1, 0.5]), 1)
    inner = np.concatenate((corner + np.array([4, 0]), corner + size), 1)  # IoU 0.75 with the box, 3 / 7 with the half
    boxes = np.stack((box, half, inner), 1).reshape(-1, 4) / 256
    logits = np.full((64, 3, num_columns), -8, np.float32)
    columns = (hashed(21, 64) % np.uint64(num_columns)).astype(np.int64)
    for i, column in enumerate(columns):
        if i % 4 == 3:
            logits[i, 0, column] = 0
        else:
            for shape, strength in enumerate((4, 3, 2)):
                logits[i, shape, (column + shape) % num_columns] = strength - i / 64
    return logits.reshape(1, -1, num_columns), boxes.astype(np.float32)


def exact_scene() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (logits [1, P, 2] of a softmax, boxes [P, 4], ground truths [64, 4]) with values exactly at thresholds.

    The boxes of `halves`, all of one class: the half of a box has an IoU of 0.5 with the box and its ground truth, and
    every fourth object has a score of 0.5.
    """
    logits, boxes = halves(1)
    return np.concatenate((np.zeros_like(logits), logits), 2), boxes, boxes[::3].copy()


def apart(num_columns: int, level: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return (logits [1, 1024, C], boxes [1024, 4] xyxy) of boxes that do not touch, each a candidate of most classes.

    NMS keeps all candidates that it is given of a class. Column 0 is the background; level is added to the logits of
    the others. The boxes are exact in float32.
    """
    side = 32
    cells = np.arange(side * side)
    corner = np.stack((cells % side, cells // side), 1) / side
    logits = 2 * noise(31, 1, side * side, num_columns)
    logits[..., 1:] += np.float32(level)
    return logits.astype(np.float32), np.concatenate((corner, corner + 0.5 / side), 1).astype(np.float32)


def nested(num_columns: int, column: int = 0, first: int = 480) -> tuple[np.ndarray, np.ndarray]:
    """Return (logits [1, 128, C] of sigmoids, boxes [128, 4] xyxy): 64 boxes, then one in each of the same class.

    The inner boxes have lower scores. The IoUs are first / 1024 to (first + 63) / 1024, hence with 480 also 0.5. The
    boxes are exact in float32. Inner boxes with the lowest IoUs, which NMS keeps, have the lowest scores, from 0.504.
    column: that of the class.
    """
    cells = np.arange(64)
    corner = np.stack((cells % 8, cells // 8), 1) / 8
    outer = np.concatenate((corner, corner + 1 / 16), 1)
    inner = outer.copy()
    inner[:, 2] = corner[:, 0] + (first + cells) / 1024 / 16
    logits = np.full((1, 128, num_columns), -8, np.float32)
    logits[0, :, column] = np.concatenate((4 - cells / 64, (cells + 1) / 64))
    return logits, np.concatenate((outer, inner)).astype(np.float32)


TFLITE = {  # TFLite's scenes of one class, each with an IoU threshold
    "faint": (lambda: apart(2, FAINT), 0.6),
    "apart": (lambda: apart(2), 0.6),
    "nested": (lambda: nested(2, column=1, first=582), 0.6),
    "equal": (lambda: nested(2, column=1), 0.5),
}


def bipartite_scene() -> tuple[np.ndarray, np.ndarray]:
    """Return (boxes [8, 4], ground truths [8, 4]) that show bipartite matching; the unit boxes are two apart.

    IoUs just below and above 1e-6 (boxes 0 and 1), two equal boxes of which one is taken (2 and 3), two equal ground
    truths of which one goes elsewhere (4 and 5), a ground truth that loses its box to a better one (6 and 7), and
    another that overlaps nothing. All values are exact in float32.
    """
    left = np.array([0, 2, 4, 4, 6, 6.75, 8, 8.875])
    boxes = np.stack((left, 0 * left, left + 1, 0 * left + 1), 1)
    tiny = 2.0**-10
    truths = [
        (0, 0, tiny, tiny),
        (2, 0, 2 + 2 * tiny, tiny),
        (4, 0, 4.5, 0.5),
        (6, 0, 7, 0.5),
        (6, 0, 7, 0.5),
        (8.125, 0, 9, 1),
        (8, 0, 9, 1),
        (20, 0, 21, 1),
    ]
    return boxes.astype(np.float32), np.array(truths, np.float32)


def sampled_rows(num_rows: int) -> np.ndarray:
    """Return the rows whose decoded boxes a golden file holds: all with large sizes, and as many others."""
    rows = np.arange(num_rows)
    return rows[rows % _LARGE_EVERY < 2]


def ground_truth(side: int = 300, num_classes: int = 20) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (boxes float32 [G, 4] xyxy, labels int64 [G] in 1..num_classes) of three images, in whole pixels.

    The images are an ordinary one, one with a single object, and a crowd of 40, whose second 20 are the first, a pixel
    larger, so that two objects claim each default box.
    """
    images = []
    for seed, count, smallest in ((11, 6, 20), (12, 1, 60), (13, 40, 24)):
        bits = hashed(seed, count, 5).astype(np.int64) & 0xFFFF
        sizes = smallest + bits[:, 2:4] % (side // 2 if count < 40 else side // 4)
        corner = bits[:, 0:2] % (side - sizes)
        if count == 40:
            corner[20:], sizes[20:] = corner[:20], sizes[:20] + 1
        boxes = np.concatenate((corner, corner + sizes), 1).astype(np.float32)
        images.append((boxes, 1 + bits[:, 4] % num_classes))
    return images


def digest(*arrays: np.ndarray) -> int:
    """Return a digest of the values, by which a golden file names its inputs."""
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(np.ascontiguousarray(array).tobytes())
    return int(sha.hexdigest()[:15], 16)
