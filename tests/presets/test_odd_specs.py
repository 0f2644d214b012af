"""Each field of each spec with each odd value: refused in the promised form, or accepted and usable by the ops."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest
import torch

import ssd_fast
from helpers.odd_values import ODD, is_promised
from ssd_fast import BoxCoderSpec, DefaultBoxSpec, LossSpec, MatcherSpec, PostprocessSpec, Preset
from ssd_fast.models import Preprocessing
from ssd_fast.specs._json import from_plain, to_plain
from ssd_fast.training import TrainingConfig

pytestmark = pytest.mark.usefixtures("one_thread")

PRESET = ssd_fast.preset("torchvision_ssd300_vgg16")
SMALL = DefaultBoxSpec((64, 64), ((2, 2),), (((8.0, 8.0), (16.0, 16.0)),), steps=((32.0, 32.0),))
CONFIG = TrainingConfig()
PREPROCESSING = Preprocessing((8, 8), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 1.0, "half_pixel")
GT = torch.tensor([[10.0, 10.0, 20.0, 20.0]])
LOGITS, DELTAS = torch.linspace(-3, 3, 24).view(1, 8, 3), torch.linspace(-1, 1, 32).view(1, 8, 4)
NAN = math.nan
MOST_ROWS = 10**6  # the most that a test makes


def use(spec: Any) -> None:
    """Check that the ops for the spec give results like those of a sound spec: finite boxes, finite losses."""
    boxes = ssd_fast.default_boxes(SMALL)
    if isinstance(spec, DefaultBoxSpec):
        if spec.num_boxes <= MOST_ROWS:
            made = ssd_fast.default_boxes(spec)
            assert made.shape == (spec.num_boxes, 4) and made.isfinite().all()
    elif isinstance(spec, BoxCoderSpec):
        assert ssd_fast.encode_boxes(boxes, boxes, spec).isfinite().all()
        assert not ssd_fast.decode_boxes(torch.zeros(8, 4), boxes, spec).isnan().any()
    elif isinstance(spec, MatcherSpec):
        assert ssd_fast.match([GT], boxes, spec).shape == (1, 8)
    elif isinstance(spec, LossSpec):
        matched = ssd_fast.match([GT], boxes, MatcherSpec())
        background = -1 if spec.background is None else spec.background
        arguments = (LOGITS, DELTAS, [GT], [torch.tensor([0 if background % 3 else 1])], matched, boxes)
        if background < 3:
            losses = ssd_fast.multibox_loss(*arguments, coder=BoxCoderSpec(), loss=spec)
            assert all(loss.isfinite() for loss in losses.values())
        else:
            with pytest.raises(ValueError, match="background"):
                ssd_fast.multibox_loss(*arguments, coder=BoxCoderSpec(), loss=spec)
    elif isinstance(spec, PostprocessSpec) and spec.keep_top_k <= MOST_ROWS:
        given = ([LOGITS], [DELTAS]) if spec.top_k_scope == "level" else (LOGITS, DELTAS)
        if spec.background is None or spec.background < 3:
            found = ssd_fast.postprocess(*given, boxes, spec, coder=BoxCoderSpec())
            assert 0 <= found.counts.item() <= spec.keep_top_k


@pytest.mark.parametrize("value", ODD.values(), ids=ODD)
@pytest.mark.parametrize(
    "sound", [SMALL, BoxCoderSpec(), MatcherSpec(), LossSpec(), LossSpec(classification="focal"), PostprocessSpec()]
)
def test_each_field_of_spec_takes_or_refuses_odd_values(sound, value):
    for field in dataclasses.fields(sound):
        try:
            spec = dataclasses.replace(sound, **{field.name: value})
        except ValueError as error:
            assert is_promised(error, field.name) or "positive_inclusive" in str(error), f"{field.name}: {error!r}"
            continue
        assert hash(spec) == hash(dataclasses.replace(spec)), field.name
        text = json.dumps(to_plain(spec), allow_nan=False)
        assert from_plain(type(spec), json.loads(text)) == spec, field.name
        use(spec)


@pytest.mark.parametrize("value", ODD.values(), ids=ODD)
@pytest.mark.parametrize("sound", [PRESET, PREPROCESSING, CONFIG], ids=lambda sound: type(sound).__name__)
def test_each_field_of_settings_takes_or_refuses_odd_values(sound, value):
    for field in dataclasses.fields(sound):
        try:
            made = dataclasses.replace(sound, **{field.name: value})
        except (TypeError, ValueError) as error:
            assert is_promised(error, field.name) or "expected a " in str(error), f"{field.name}: {error!r}"
            continue
        plain = to_plain(made) if isinstance(made, Preprocessing) else made.to_dict()
        assert json.loads(json.dumps(plain, allow_nan=False)) == json.loads(json.dumps(plain))
        assert hash(made) == hash(dataclasses.replace(made))


@pytest.mark.parametrize("value", ODD.values(), ids=ODD)
def test_each_part_of_preset_takes_or_refuses_odd_values(value):
    fields = PRESET.to_dict()
    for part in fields:
        for changed in [{part: value}, *({part: {**fields[part], name: value}} for name in _names(fields[part]))]:
            try:
                made = Preset.from_dict({**fields, **changed})
            except ValueError as error:
                assert "expected" in str(error) and "got" in str(error), f"{part}: {error!r}"
                continue
            assert Preset.from_dict(json.loads(json.dumps(made.to_dict(), allow_nan=False))) == made
    with pytest.raises(ValueError, match="Preset: fields: expected a dict such as to_dict returns, got"):
        Preset.from_dict(None if isinstance(value, dict) else value)


def _names(part: Any) -> list[str]:
    return list(part) if isinstance(part, dict) else []


MIN_MAX = {"min_sizes": [30, 60], "max_sizes": [60, None], "aspect_ratios": [[2], [2, 3]], "steps": [8, 16]}
SCALES = {"scales": [0.1, 0.2, 0.3], "aspect_ratios": [[2], [2, 3]], "steps": [8, 16]}


@pytest.mark.parametrize("value", ODD.values(), ids=ODD)
@pytest.mark.parametrize("make, options", [("from_min_max", MIN_MAX), ("from_scales", SCALES)])
def test_each_argument_of_conventions_takes_or_refuses_odd_values(make, options, value):
    sound = {"image_size": (300, 300), "feature_maps": [38, 19], **options}
    for name, given in sound.items():
        others = {"box_sizes"} | (set(options) if name == "feature_maps" else set())  # too few or too many for the maps
        for changed in (value, [value, *given[1:]], [[value], *given[1:]]):
            try:
                spec = getattr(DefaultBoxSpec, make)(**{**sound, name: changed})
            except ValueError as error:
                assert any(is_promised(error, field) for field in {name} | others), f"{name}: {error!r}"
                continue
            use(spec)


@pytest.mark.parametrize(
    "made, normal",
    [
        (DefaultBoxSpec([64, 64], [[2, 2]], [np.array([[8, 8], [16, 16]])], steps=np.full((1, 2), 32)), SMALL),
        (BoxCoderSpec([0.1, 0.1, 0.2, 0.2], log_scale_clamp=[-1, 4]), BoxCoderSpec(log_scale_clamp=(-1.0, 4.0))),
    ],
)
def test_rows_of_any_kind_give_equal_specs(made, normal):
    assert made == normal and hash(made) == hash(normal) and repr(made) == repr(normal)


FOCAL = LossSpec(classification="focal")
REFUSED: list[tuple[Any, str, Any]] = [
    *((BoxCoderSpec(), "variances", (0.1, 0.1, 0.2, value)) for value in (1e-60, 1e-40, 1e39, 10**400, True, "0.1")),
    *((BoxCoderSpec(), "log_scale_clamp", limits) for limits in ((NAN, 1), (0, 1e-60), (-1, 1e39), (False, 2), (1,))),
    *((MatcherSpec(), "positive_threshold", value) for value in (1e-60, 1 + 1e-12, True)),
    *((MatcherSpec(), "negative_threshold", value) for value in (1e-60, False)),
    *((MatcherSpec(), "minimum_forced_iou", value) for value in (1e-60, 1e39, True)),
    *((MatcherSpec(), "ignored_coverage", value) for value in (1e-60, 1 + 1e-12, True)),
    *((PostprocessSpec(), field, x) for field in ("score_threshold", "iou_threshold") for x in (1e-60, 1e39, True)),
    *((PostprocessSpec(), "min_box_size", value) for value in (1e-60, 1e39, False)),
    *((LossSpec(), field, value) for field in ("beta", "negatives_per_positive") for value in (1e-60, 1e300, True)),
    *((FOCAL, "focal_alpha", value) for value in (1e-60, 1 - 1e-12)),
    *((FOCAL, "focal_gamma", value) for value in (1e-60, 1e39, True)),
    *((SMALL, "feature_maps", ((value, 2),)) for value in (5.5, 2.0, math.inf, NAN, True, "2", 2**31, 2**63)),
    *((SMALL, "image_size", (64, value)) for value in (64.0, True, "64", 2**31)),
    *((SMALL, "box_sizes", (((8.0, value),),)) for value in (1e-60, 1e-40, 1e39, 10**400, True, "8")),
    *((SMALL, "steps", ((8.0, value),)) for value in (1e-60, 1e39, True)),
    *((SMALL, "offset", value) for value in (1e-60, 1e39, 3e38)),  # 3e38 is a float32, but 32 times as much is not
    (SMALL, "feature_maps", ((2**14, 2**14),)),  # twice as many boxes, with 4 coordinates each: 2**31
    (SMALL, "box_sizes", (((8.0, 8.0),) * 129,)),
]


@pytest.mark.parametrize("sound, field, value", REFUSED)
def test_values_that_float32_or_kernels_would_change_are_refused(sound, field, value):
    with pytest.raises(ValueError) as raised:
        dataclasses.replace(sound, **{field: value})
    assert is_promised(raised.value, field), repr(raised.value)


def test_rows_become_tuples_of_plain_numbers():
    for given in ([0.1, 0.1, 0.2, 0.2], np.array([0.1, 0.1, 0.2, 0.2]), torch.tensor([0.1, 0.1, 0.2, 0.2]).double()):
        variances = BoxCoderSpec(given).variances
        assert type(variances) is tuple and [type(x) for x in variances] == [float] * 4
    spec = DefaultBoxSpec((np.int64(64), 64), np.array([[2, 2]]), SMALL.box_sizes, offset=np.float32(0.5))
    sides = (*spec.image_size, *spec.feature_maps[0])
    assert [type(side) for side in sides] == [int] * 4 and type(spec.offset) is float
