"""draw_matches: the places and colors in its picture."""

import numpy as np
import pytest
import torch

import ssd_fast
from ssd_fast import DefaultBoxSpec
from ssd_fast.drawing.colors import class_color

SPEC = DefaultBoxSpec(
    image_size=(100, 200), feature_maps=((2, 4), (1, 1)), box_sizes=(((40.0, 40.0),), ((150.0, 80.0), (60.0, 90.0)))
)
TRUTHS = torch.tensor([[5.0, 5, 45, 45], [30, 10, 170, 90]])


def match():
    matched = torch.full((SPEC.num_boxes,), -1)
    matched[0], matched[8] = 0, 1
    return matched


def pixels(picture, color):
    return int((np.abs(np.asarray(picture, dtype=int) - color).max(-1) < 70).sum())


def test_draw_matches_has_one_panel_per_map():
    image = torch.zeros(3, 100, 200, dtype=torch.uint8)
    mined = torch.zeros(SPEC.num_boxes, dtype=torch.bool)
    mined[[3, 5]] = True
    plain = ssd_fast.draw_matches(image, TRUTHS, SPEC, torch.full((SPEC.num_boxes,), -1))
    picture = ssd_fast.draw_matches(image, TRUTHS, SPEC, match())
    both = ssd_fast.draw_matches(image, TRUTHS, SPEC, match(), mined)
    assert picture.size == both.size and picture.width > 800  # two panels side by side
    left, right = (picture.crop((x, 0, x + picture.width // 2, picture.height)) for x in (0, picture.width // 2))
    few, many = 80, 300  # the edges of letters have colors in between
    assert pixels(plain, class_color(0)) < few and pixels(plain, class_color(1)) < few
    assert pixels(left, class_color(0)) > many and pixels(left, class_color(1)) < few
    assert pixels(right, class_color(1)) > many and pixels(right, class_color(0)) < few
    assert pixels(plain, (255, 255, 255)) > 1000  # the ground truths
    changed = np.abs(np.asarray(both, int) - np.asarray(picture, int)).max(-1) > 20
    panel = changed[:, : picture.width // 2]
    assert panel.sum() > 200 and not changed[: int(picture.height * 0.7), picture.width // 2 :].any()


def test_draw_matches_takes_arrays_and_normalized_boxes():
    image = np.zeros((60, 90, 3), np.uint8)
    empty = ssd_fast.draw_matches(image, np.zeros((0, 4)), SPEC, np.full(SPEC.num_boxes, -1))
    assert pixels(empty, (255, 255, 255)) < pixels(ssd_fast.draw_matches(image, TRUTHS, SPEC, match()), (255, 255, 255))
    normalized = DefaultBoxSpec(SPEC.image_size, SPEC.feature_maps, SPEC.box_sizes, normalized=True)
    scaled = TRUTHS / torch.tensor([200.0, 100, 200, 100])
    same = ssd_fast.draw_matches(image, scaled, normalized, match())
    different = np.abs(np.asarray(same, int) - np.asarray(ssd_fast.draw_matches(image, TRUTHS, SPEC, match()), int))
    assert (different.max(-1) > 40).mean() < 0.01


def test_draw_matches_refuses_wrong_shapes():
    image = torch.zeros(3, 100, 200, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"matched_idxs: expected shape \[10\], got \[9\]"):
        ssd_fast.draw_matches(image, TRUTHS, SPEC, match()[:9])
    with pytest.raises(ValueError, match=r"hard_negatives: expected shape \[10\], got \[3\]"):
        ssd_fast.draw_matches(image, TRUTHS, SPEC, match(), torch.zeros(3))
    with pytest.raises(ValueError, match="matched_idxs: expected indices below 1, got 1"):
        ssd_fast.draw_matches(image, TRUTHS[:1], SPEC, match())
