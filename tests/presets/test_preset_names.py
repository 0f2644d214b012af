"""Presets by name: the list, the comparison of each with an original, and the round trip through JSON."""

from __future__ import annotations

import json

import pytest
import test_presets_tensorflow
import test_presets_torchvision

import ssd_fast
from helpers import dialects
from helpers.paths import ROOT

DOCUMENT = ROOT / "docs" / "dialects.md"
COMPARED = {
    *(dialect.name for dialect in dialects.ALL),
    *test_presets_torchvision.MODELS,
    *test_presets_tensorflow.PRESETS,
}


def test_every_preset_is_compared_and_documented():
    names = ssd_fast.list_presets()
    assert len(names) == len(set(names)) >= 25
    assert set(names) == COMPARED
    rows = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("| `")]
    documented = [name for line in rows for name in line.split("|")[1].replace("`", "").replace(" ", "").split(",")]
    assert documented == names


def test_unknown_preset_is_refused():
    with pytest.raises(ValueError, match=r"preset: name: expected one of torchvision_ssd300_vgg16, .*, got 'ssd300'"):
        ssd_fast.preset("ssd300")


@pytest.mark.parametrize("name", ssd_fast.list_presets())
def test_preset_has_its_name_and_survives_json(name):
    preset = ssd_fast.preset(name)
    assert preset.name == name
    assert ssd_fast.Preset.from_dict(json.loads(json.dumps(preset.to_dict(), allow_nan=False))) == preset
