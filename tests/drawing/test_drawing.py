"""draw_detections, compared pixel by pixel where that is meaningful."""

from __future__ import annotations

import itertools

import numpy as np
import PIL.Image
import pytest
import torch

from ssd_fast.detections import Detections
from ssd_fast.drawing import draw_detections
from ssd_fast.drawing.colors import class_color

CLASSES = (
    "background",
    "cat",
    "dog",
    "a name far too long for the picture that it is written on",
)
GRAY = 128


def gray(width: int = 400, height: int = 300) -> PIL.Image.Image:
    return PIL.Image.new("RGB", (width, height), (GRAY, GRAY, GRAY))


def dicts(boxes: list, labels: list | None = None, scores: list | None = None) -> dict[str, torch.Tensor]:
    n = len(boxes)
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "scores": torch.tensor(scores or [0.9 - 0.05 * i for i in range(n)]),
        "labels": torch.tensor(labels or [1] * n),
    }


def painted(picture: PIL.Image.Image) -> np.ndarray:
    """Return a mask [H, W] of the pixels drawn on gray."""
    return (np.asarray(picture) != GRAY).any(-1)


def colored(picture: PIL.Image.Image, label: int) -> np.ndarray:
    return (np.asarray(picture) == class_color(label)).all(-1)


def test_frame_has_class_color_and_nothing_else_is_drawn():
    picture = draw_detections(gray(), dicts([[100, 80, 300, 220]]), CLASSES)
    assert picture.mode == "RGB" and picture.size == (400, 300)
    mask = colored(picture, 1)
    for x in (180, 250, 290):
        assert mask[80, x] and mask[219, x], x
    for y in (120, 150, 200):
        assert mask[y, 100] and mask[y, 299], y
    changed = painted(picture)
    assert not changed[90:210, 110:290].any(), "the object itself is drawn on"
    rows, columns = np.nonzero(changed)
    assert columns.min() >= 94 and columns.max() <= 305 and rows.max() <= 225
    assert 40 < rows.min() < 75, "the name is not above the frame"


def test_name_is_written_in_dark_on_class_color():
    plate = np.asarray(draw_detections(gray(), dicts([[100, 80, 300, 220]]), CLASSES))[55:78, 100:200].astype(int)
    assert (plate.max(-1) < 60).sum() > 40
    other = np.asarray(draw_detections(gray(), dicts([[100, 80, 300, 220]], [2]), CLASSES))[55:78, 100:200]
    assert (other != plate).any()


def test_score_is_written():
    scores = [draw_detections(gray(), dicts([[100, 80, 300, 220]], scores=[s]), CLASSES) for s in (0.91, 0.19, 0.912)]
    assert painted(scores[0]).any()
    assert not np.array_equal(scores[0], scores[1]) and np.array_equal(scores[0], scores[2])


@pytest.mark.parametrize(
    "box",
    [
        [0, 0, 400, 300],
        [-50, -70, 900, 800],
        [380, 280, 400, 300],
        [0, 0, 10, 10],
        [390, 0, 400, 300],
        [50, 60, 50, 60],
        [300, 200, 100, 100],  # corners exchanged
        [1e30, 1e30, 2e30, 2e30],
    ],
)
def test_frame_and_name_stay_inside_image(box):
    """A name plate that the border cuts would have a smaller area than one in the middle."""
    middle = colored(draw_detections(gray(1000, 1000), dicts([[400, 400, 401, 401]]), CLASSES), 1).sum()
    alone = colored(draw_detections(gray(1000, 1000), dicts([[value * 2.5 for value in box]]), CLASSES), 1).sum()
    assert alone >= 0.9 * middle


def test_frame_around_whole_image_is_visible():
    border = colored(draw_detections(gray(), dicts([[0, 0, 400, 300]]), CLASSES), 1)
    assert border[150, 0] and border[150, -1] and border[-1, 200] and border[0, 200]


def test_names_do_not_overlap():
    boxes = [[100 + 4 * i, 100 + 3 * i, 300, 250] for i in range(6)]
    labels = [1, 2, 1, 2, 1, 2]
    separate = sum(colored(draw_detections(gray(), dicts([box], [1]), CLASSES), 1)[:, :].sum() for box in boxes[:1])
    picture = draw_detections(gray(), dicts(boxes, labels), CLASSES)
    both = colored(picture, 1).sum() + colored(picture, 2).sum()
    assert both > 3 * separate


def test_best_detection_is_drawn_on_top_in_any_order():
    boxes, labels = [[100, 80, 300, 220], [100, 80, 300, 220]], [1, 2]
    first = draw_detections(gray(), dicts(boxes, labels, [0.9, 0.3]), CLASSES)
    assert colored(first, 1)[219, 200] and not colored(first, 2)[219, 200]
    turned = draw_detections(gray(), dicts(boxes, labels[::-1], [0.3, 0.9]), CLASSES)
    assert np.array_equal(first, turned)


def test_lines_and_letters_grow_with_image():
    def line(scale: int) -> int:
        picture = draw_detections(
            gray(400 * scale, 300 * scale), dicts([[40 * scale] * 2 + [260 * scale] * 2]), CLASSES
        )
        return int(colored(picture, 1)[200 * scale, : 100 * scale].sum())

    assert line(1) == 2
    assert 6 <= line(4) <= 10 and 12 <= line(8) <= 18  # 4 is drawn smooth, 8 (7.7 megapixels) is not


def test_colors_are_stable_vivid_and_distinct():
    colors = [class_color(label) for label in range(91)]
    assert colors == [class_color(label) for label in range(91)] and len(set(colors)) == 91
    for color in colors:
        assert min(color) >= 0 and max(color) <= 255
        luminance = 0.2126 * color[0] + 0.7152 * color[1] + 0.0722 * color[2]
        assert luminance > 95, "dark letters are not readable on it"
    for one, other in itertools.combinations(range(6), 2):
        assert np.abs(np.subtract(colors[one], colors[other])).max() > 40


def test_draw_detections_takes_every_kind_of_image_and_detections():
    image, found = gray(), dicts([[100, 80, 300, 220], [10, 20, 90, 90]], [1, 2])
    expected = np.asarray(draw_detections(image, found, CLASSES))
    array = np.asarray(image)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    for other in (array, tensor, tensor.float() / 255, (tensor.double() / 255).requires_grad_()):
        assert np.array_equal(draw_detections(other, found, CLASSES), expected)
    assert (np.asarray(image) == GRAY).all() and (tensor == GRAY).all(), "the given image is drawn on"

    batch = Detections(
        torch.cat((found["boxes"], torch.zeros(3, 4)))[None],
        torch.cat((found["scores"], torch.zeros(3)))[None],
        torch.cat((found["labels"], torch.full((3,), -1)))[None],
        torch.zeros(1, 5, dtype=torch.int64),
        torch.tensor([2]),
    )
    numpy = {field: values.numpy() for field, values in found.items()}
    for given in (batch, numpy, {field: values.tolist() for field, values in found.items()}):
        assert np.array_equal(draw_detections(image, given, CLASSES), expected)


def test_image_file_is_drawn_upright(tmp_path):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    gray(400, 300).save(tmp_path / "turned.jpg", exif=exif)
    assert draw_detections(tmp_path / "turned.jpg", dicts([]), CLASSES).size == (300, 400)


def test_draw_detections_takes_odd_detections():
    assert not painted(draw_detections(gray(), dicts([]), CLASSES)).any()
    nan = dicts([[float("nan")] * 4, [0, 0, float("inf"), 5]])
    assert not painted(draw_detections(gray(), nan, CLASSES)).any()
    for label in (0, 3, 77, -1):
        assert painted(draw_detections(gray(60, 40), dicts([[5, 5, 50, 30]], [label]), CLASSES)).any()
    assert painted(draw_detections(gray(1, 1), dicts([[0, 0, 1, 1]]), None)).any()


def test_draw_detections_refuses_wrong_arguments():
    with pytest.raises(TypeError, match=r"expected a Detections, or a dict of boxes, scores and labels, got list"):
        draw_detections(gray(), [], CLASSES)
    with pytest.raises(TypeError, match="expected a path, a PIL image"):
        draw_detections(None, dicts([]), CLASSES)
    with pytest.raises(ValueError, match="got 1 boxes, 2 scores, 1 labels"):
        draw_detections(gray(), dicts([[0, 0, 1, 1]], scores=[0.5, 0.4]), CLASSES)
    empty = Detections(*(torch.zeros(2, 0, 4), *[torch.zeros(2, 0)] * 3, torch.zeros(2, dtype=torch.int64)))
    with pytest.raises(ValueError, match="expected the detections of 1 image, got 2"):
        draw_detections(gray(), empty, CLASSES)
