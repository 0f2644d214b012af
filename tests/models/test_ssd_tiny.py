"""ssd_tiny: its maps, its preset and its file."""

from __future__ import annotations

import pytest
import torch

import ssd_fast
from helpers.checks import assert_same_bits
from ssd_fast.models import load_network, make_network, save_weights, ssd_tiny

SIDES = ((10.0,), (30.0, 40.0), (70.0, 90.0, 110.0))


@pytest.mark.parametrize("size", [(240, 320), (241, 319), (33, 65), (31, 8), (1, 1)])
def test_any_size_has_one_row_per_default_box(size):
    network = ssd_tiny(4, size, SIDES).eval()
    with torch.no_grad():
        bbox_regression, cls_logits = network(torch.rand(2, 3, *size))
        bbox_maps, _ = network.head_maps(torch.rand(2, 3, *size))
    spec = network.preset.default_boxes
    assert bbox_regression.shape == (2, spec.num_boxes, 4) and cls_logits.shape == (2, spec.num_boxes, 4)
    assert [tuple(level.shape[2:]) for level in bbox_maps] == list(spec.feature_maps)
    assert spec.boxes_per_cell == (1, 2, 3) and spec.image_size == size == network.preprocessing.size


def test_default_boxes_are_squares_one_stride_apart():
    boxes = ssd_fast.default_boxes(ssd_tiny(2, (20, 40), SIDES).preset.default_boxes)
    # 3 x 5 cells of stride 8, whose last row reaches beyond the image
    assert boxes[0].tolist() == [-1, -1, 9, 9] and boxes[1].tolist() == [7, -1, 17, 9]
    assert boxes[14].tolist() == [31, 15, 41, 25]
    assert boxes[15].tolist() == [-7, -7, 23, 23] and boxes[16].tolist() == [-12, -12, 28, 28], "stride 16"


def test_new_network_predicts_background():
    torch.manual_seed(0)
    network = ssd_tiny(4, (48, 64)).eval()
    _, cls_logits = network(torch.rand(1, 3, 48, 64))
    background = cls_logits.softmax(-1)[..., 0]
    assert background.min() > 0.75, "a uniform softmax gives 0.25"


def test_new_residual_blocks_are_the_identity():
    block = ssd_tiny(2, (48, 64)).eval().stages[0].block
    x = torch.rand(1, 64, 6, 8)
    assert torch.equal(block(x), x)


def test_ssd_tiny_has_about_half_a_million_parameters():
    assert 4e5 < sum(parameter.numel() for parameter in ssd_tiny(4).parameters()) < 7e5


def test_file_restores_size_sides_and_preset(tmp_path):
    network = ssd_tiny(3, (40, 56), SIDES).eval()
    save_weights(network, tmp_path / "tiny.safetensors", classes=("background", "a", "b"))
    loaded, classes = load_network(tmp_path / "tiny.safetensors")
    assert classes == ("background", "a", "b") and loaded.name == "ssd_tiny"
    assert loaded.preset == network.preset and loaded.preprocessing == network.preprocessing
    images = torch.rand(1, 3, 40, 56)
    with torch.no_grad():
        assert_same_bits(loaded.eval()(images), network(images))


def test_make_network_knows_ssd_tiny():
    assert make_network("ssd_tiny", 2, size=[16, 32]).preprocessing.size == (16, 32)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"num_classes": 1}, "num_classes: expected an int >= 2"),
        (
            {"num_classes": 2, "size": (0, 9)},
            r"size: expected \(height, width\), both ints of at least 1, got \(0, 9\)",
        ),
        ({"num_classes": 2, "size": (9,)}, r"size: expected \(height, width\), both ints of at least 1, got \(9,\)"),
        ({"num_classes": 2, "sides": ((8,), (16,))}, r"sides: expected one list per stride \(8, 16, 32\)"),
        ({"num_classes": 2, "sides": ((8,), (16,), (-1,))}, "sides: expected finite positive numbers, got -1"),
        ({"num_classes": 2, "sides": ((8,), (), (16,))}, r"box_sizes: expected at least one \(width, height\)"),
    ],
)
def test_ssd_tiny_rejects_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ssd_tiny(**arguments)
