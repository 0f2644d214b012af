"""default_boxes equals the reference and OpenCV's PriorBox bit for bit on every backend."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ssd_fast
from helpers import goldens, inputs
from helpers.checks import assert_same_bits, assert_well_registered
from ssd_fast import DefaultBoxSpec, reference


def check(backend, spec):
    actual = ssd_fast.default_boxes(spec, device=backend.device)
    assert actual.device.type == backend.device.type
    assert_same_bits(actual, reference.default_boxes(spec))


def test_by_hand(backend):
    sizes = (((20.0, 10.0), (4.0, 4.0)),)
    spec = DefaultBoxSpec(image_size=(40, 60), feature_maps=((2, 1),), box_sizes=sizes)
    expected = torch.tensor([[20.0, 5, 40, 15], [28, 8, 32, 12], [20, 25, 40, 35], [28, 28, 32, 32]])
    assert_same_bits(ssd_fast.default_boxes(spec, device=backend.device), expected)
    ahw = DefaultBoxSpec((40, 60), ((2, 1),), sizes, row_order="AHW")
    assert_same_bits(ssd_fast.default_boxes(ahw, device=backend.device), expected[[0, 2, 1, 3]])


def test_clip_centers_by_hand(backend):
    spec = DefaultBoxSpec((40, 60), ((2, 1),), (((20.0, 10.0),),), ((30.0, 130.0),), clip_centers=True)
    expected = torch.tensor([[50.0, 10, 70, 20], [50, 35, 70, 45]])  # centers were (65, 15) and (65, 45)
    assert_same_bits(ssd_fast.default_boxes(spec, device=backend.device), expected)
    normalized = dataclasses.replace(spec, normalized=True)
    expected = expected / torch.tensor([60.0, 40, 60, 40])
    assert_same_bits(ssd_fast.default_boxes(normalized, device=backend.device), expected)


def test_textbook_and_ssd300_have_known_numbers_of_boxes(backend):
    textbook, _, _ = inputs.textbook_maps()
    assert ssd_fast.default_boxes(textbook, device=backend.device).shape == (75, 4)
    ssd300 = ssd_fast.preset("torchvision_ssd300_vgg16").default_boxes
    assert ssd_fast.default_boxes(ssd300, device=backend.device).shape == (8732, 4)


@pytest.mark.parametrize("name", goldens.PRIORBOX)
def test_default_boxes_equal_opencv(backend, name):
    spec, expected = goldens.priorbox(name)
    assert_same_bits(ssd_fast.default_boxes(spec, device=backend.device), expected)


@pytest.mark.parametrize("name", ssd_fast.list_presets())
def test_presets_equal_reference(backend, name):
    check(backend, ssd_fast.preset(name).default_boxes)


def test_default_boxes_equal_torchvision(backend):
    arrays = goldens.load("matching_torchvision", "tv_ssd300_vgg16__priors")
    spec = ssd_fast.preset("torchvision_ssd300_vgg16").default_boxes
    expected = torch.from_numpy(arrays["default_boxes_xyxy_px"])
    actual = ssd_fast.default_boxes(spec, device=backend.device).cpu()
    # torchvision multiplies by the image size later: 2 ulp of a box's largest coordinate.
    ulp = 2.0**-23 * expected.abs().amax(-1, keepdim=True)
    assert ((actual - expected).abs() <= 2 * ulp).all()


side = st.floats(0.25, 500, width=32)


@st.composite
def specs(draw):
    levels = draw(st.integers(1, 8))
    maps = draw(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=levels, max_size=levels))
    sizes = st.lists(st.tuples(side, side), min_size=1, max_size=5).map(tuple)
    steps = st.lists(st.tuples(side, side), min_size=levels, max_size=levels).map(tuple)
    return DefaultBoxSpec(
        image_size=draw(st.tuples(st.integers(1, 700), st.integers(1, 700))),
        feature_maps=tuple(maps),
        box_sizes=tuple(draw(st.lists(sizes, min_size=levels, max_size=levels))),
        steps=draw(st.none() | steps),
        offset=draw(st.sampled_from([0.5, 0.0, 0.1, 1.0])),
        clip=draw(st.booleans()),
        clip_centers=draw(st.booleans()),
        normalized=draw(st.booleans()),
        row_order=draw(st.sampled_from(["HWA", "AHW"])),
    )


@given(specs())
def test_random_specs_equal_reference(backend, spec):
    check(backend, spec)


@pytest.mark.parametrize("width", [31, 32, 33, 63, 64, 65, 255, 256, 257])
def test_border_sizes_equal_reference(backend, width):
    check(backend, DefaultBoxSpec((100, 300), ((1, width),), (((30.0, 10.0),),)))


def test_op_is_well_registered(backend):
    assert_well_registered(lambda: ssd_fast.default_boxes(inputs.SMALL, device=backend.device))


def test_default_device_is_cpu():
    assert ssd_fast.default_boxes(inputs.SMALL).device.type == "cpu"


def test_rejected_spec():
    with pytest.raises(TypeError, match="default_boxes: spec: expected a DefaultBoxSpec, got BoxCoderSpec"):
        ssd_fast.default_boxes(inputs.CODER)


ONE = (((8.0, 8.0),),)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"feature_maps": ()}, "feature_maps: expected 1 to 8 maps, got 0"),
        ({"feature_maps": ((1, 1),) * 9, "box_sizes": ONE * 9}, "feature_maps: expected 1 to 8 maps, got 9"),
        (
            {"feature_maps": ((0, 3),)},
            r"feature_maps: expected \(height, width\), both ints of at least 1, got \(0, 3\)",
        ),
        ({"feature_maps": (3,)}, r"feature_maps: expected \(height, width\), both ints of at least 1, got 3"),
        ({"feature_maps": 3}, r"feature_maps: expected a tuple of \(height, width\), got 3"),
        ({"image_size": 300}, r"image_size: expected \(height, width\), both ints of at least 1, got 300"),
        ({"image_size": (300, 0)}, r"image_size: expected \(height, width\), both ints of at least 1, got \(300, 0\)"),
        ({"box_sizes": ONE * 2}, "box_sizes: expected 1 maps, got 2"),
        ({"box_sizes": ((),)}, r"box_sizes: expected at least one \(width, height\) per map"),
        ({"box_sizes": 8.0}, "box_sizes: expected a tuple with one entry per map, got 8.0"),
        ({"box_sizes": (8.0,)}, r"box_sizes: expected at least one \(width, height\) per map, .*, got 8.0"),
        ({"box_sizes": ((8.0,),)}, r"box_sizes: expected \(width, height\), got 8.0"),
        ({"box_sizes": (((8.0, 8.0, 8.0),),)}, r"box_sizes: expected \(width, height\), got \(8.0, 8.0, 8.0\)"),
        ({"box_sizes": (((8.0, 0.0),),)}, "box_sizes: expected finite positive pixels, got 0.0"),
        ({"box_sizes": (((8.0, inputs.NAN),),)}, "box_sizes: expected finite positive pixels, got nan"),
        ({"steps": ((8.0, 8.0),) * 2}, "steps: expected 1 maps, got 2"),
        ({"steps": 8.0}, r"steps: expected a tuple of \(vertical, horizontal\) or None, got 8.0"),
        ({"steps": (8.0,)}, r"steps: expected \(vertical, horizontal\), got 8.0"),
        ({"steps": ((8.0, -1.0),)}, "steps: expected finite positive pixels, got -1.0"),
        ({"offset": inputs.INF}, "offset: expected a finite number, got inf"),
        ({"row_order": "WHA"}, "row_order: expected 'HWA' or 'AHW', got 'WHA'"),
    ],
)
def test_rejected_fields(fields, message):
    with pytest.raises(ValueError, match=f"DefaultBoxSpec: {message}"):
        DefaultBoxSpec(**{"image_size": (100, 100), "feature_maps": ((3, 3),), "box_sizes": ONE} | fields)


MIN_MAX = {"min_sizes": [30, 60], "max_sizes": [60, None], "aspect_ratios": [[2], [2, 3]]}
SCALES = {"scales": [0.1, 0.2, 0.3], "aspect_ratios": [[2], [2, 3]]}


@pytest.mark.parametrize(
    "make, options, change, message",
    [
        ("from_min_max", MIN_MAX, {"min_sizes": [30]}, r"min_sizes: expected 2 entries, one per map, got \[30\]"),
        ("from_min_max", MIN_MAX, {"max_sizes": [60] * 3}, r"max_sizes: expected 2 entries, .*, got \[60, 60, 60\]"),
        (
            "from_min_max",
            MIN_MAX,
            {"aspect_ratios": []},
            r"aspect_ratios: expected 2 entries, one per map, got \[\]",
        ),
        ("from_min_max", MIN_MAX, {"steps": [8]}, "steps: expected 2 maps, got 1"),
        ("from_scales", SCALES, {"aspect_ratios": [[2]]}, r"aspect_ratios: expected 2 entries, .*, got \[\[2\]\]"),
        (
            "from_scales",
            SCALES,
            {"scales": [0.1, 0.2]},
            r"scales: expected one per map and one more, got \[0.1, 0.2\]",
        ),
        ("from_scales", SCALES, {"scales": [0.1, -0.2, 0.3]}, "scales: expected finite positive numbers"),
        (
            "from_scales",
            SCALES,
            {"image_size": 300},
            r"image_size: expected \(height, width\), both ints of at least 1, got 300",
        ),
    ],
)
def test_rejected_lists_of_sizes(make, options, change, message):
    given = {"image_size": (300, 300), "feature_maps": [38, 19], **options}
    assert getattr(DefaultBoxSpec, make)(**given).feature_maps == ((38, 38), (19, 19))
    with pytest.raises(ValueError, match=f"DefaultBoxSpec: {message}"):
        getattr(DefaultBoxSpec, make)(**given | change)
