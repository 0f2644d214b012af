"""Tampered weight files raise an error of one line that names the file, before they take memory."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from helpers.cli_checks import one_line, run
from helpers.odd_values import ODD
from ssd_fast import load_detector
from ssd_fast.assets import asset_path
from ssd_fast.models import load_network, save_weights, ssd300_vgg16, ssd_tiny

pytestmark = pytest.mark.usefixtures("one_thread")

CLASSES = ("background", "cup", "spoon")
HUGE = 10**9


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The tensors and the metadata of a sound file."""
    path = tmp_path_factory.mktemp("weights") / "sound.safetensors"
    save_weights(ssd_tiny(3, (32, 32)), path, classes=CLASSES)
    with safe_open(path, framework="pt") as file:
        texts = file.metadata()
    return load_file(path), {key: json.loads(text) for key, text in texts.items() if text[:1] in '{["'}


def tampered(sound: Any, folder: Path, key: str, text: str) -> Path:
    """Write the file with other text for one key of its metadata."""
    tensors, metadata = sound
    path = folder / "tampered.safetensors"
    save_file(tensors, path, metadata={name: json.dumps(value) for name, value in metadata.items()} | {key: text})
    return path


def changed(metadata: dict[str, Any], key: str, *path: str, to: Any) -> str:
    """Return the JSON of metadata[key] with another value at the path."""
    value = json.loads(json.dumps(metadata[key]))
    place = value
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = to
    return json.dumps(value)


def test_untampered_file_loads(sound, tmp_path):
    network, classes = load_network(tampered(sound, tmp_path, "other", "no JSON"))
    assert classes == CLASSES and network.num_classes == 3 and network.preprocessing.size == (32, 32)


CASES: list[tuple[str, tuple[str, ...], Any, str]] = [
    *(("classes", (), value, "classes: expected 3 names") for value in (5, None, "abc", {}, [], ["a"] * 1000)),
    ("classes", (), ["a", "b", 5], "classes: expected names that are strings, got 5"),
    *(
        ("network", (), value, "cannot make: metadata: network: expected an object with name and num_classes, got ")
        for value in (None, [], [1], 5, {}, "ssd_tiny", {"name": "ssd_tiny"}, {"num_classes": 3})
    ),
    ("network", ("name",), "ssd_tinny", "did you mean 'ssd_tiny'"),
    ("network", ("name",), [], "make_network: name: expected one of"),
    ("network", ("num_classes",), HUGE, "does not fit SSDTiny"),
    ("network", ("num_classes",), 10**30, "num_classes: expected an int >= 2"),
    ("network", ("num_classes",), "3", "num_classes: expected an int >= 2"),
    ("network", ("size",), [HUGE, HUGE], "feature_maps: expected at most"),
    ("network", ("size",), [-1, 5], "size: expected"),
    ("network", ("sides",), [[8.0] * 200] * 3, "at most 128 sizes"),
    ("network", ("sides",), "abc", "sides: expected"),
    ("network", ("depth",), 5, "depth"),
    ("preset", (), None, "Preset: fields: expected a dict"),
    ("preset", ("name",), 5, "Preset: name: expected a string, got 5"),
    ("preset", ("coder",), None, "BoxCoderSpec: expected its fields by name, got None"),
    ("preset", ("default_boxes", "feature_maps"), [[8000, 8000]] * 3, "default_boxes: expected 58 boxes"),
    ("preset", ("default_boxes", "feature_maps"), [[HUGE, HUGE]] * 3, "feature_maps: expected at most"),
    ("preset", ("default_boxes", "box_sizes"), [[[1.0]]] * 3, "box_sizes: expected"),
    ("preset", ("postprocess", "keep_top_k"), "many", "keep_top_k: expected an int"),
    ("preset", ("matcher", "extra"), 1, "extra"),
    ("preprocessing", (), [], "Preprocessing: expected its fields by name, got []"),
    ("preprocessing", ("size",), [HUGE, HUGE], "Preset: default_boxes: expected"),
    ("preprocessing", ("size",), [2**31 - 1, 2**31 - 1], "Preprocessing: size: expected a size that ssd_tiny can take"),
    ("preprocessing", ("size",), [-8, 8], "Preprocessing: size: expected (height, width)"),
    ("preprocessing", ("size",), ["8", "8"], "Preprocessing: size: expected (height, width)"),
    ("preprocessing", ("size",), [64, 64], "Preset: default_boxes: expected"),
    ("preprocessing", ("std",), [1, 1, 0], "Preprocessing: std: expected 3 finite numbers, not 0"),
    ("preprocessing", ("mean",), "inf", "Preprocessing: mean: expected 3 finite numbers"),
]


@pytest.mark.parametrize("key, path, value, message", CASES, ids=range(len(CASES)))
def test_tampered_metadata_is_refused(sound, tmp_path, key, path, value, message):
    text = changed(sound[1], key, *path, to=value) if path else json.dumps(value)
    file = tampered(sound, tmp_path, key, text)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for load in (load_network, load_detector):
        with pytest.raises(ValueError) as raised:
            load(file)
        assert message in str(raised.value) and str(file) in str(raised.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


@pytest.mark.parametrize(
    "text, message",
    [
        ("[" * 100_000, "recursion"),
        ('{"a":' * 100_000, "recursion"),
        ('{"name": "ssd_tiny", "name": "ssd300_vgg16", "num_classes": 3}', "a key occurs twice"),
        ('{"name": "ssd_tiny", "num_classes": NaN}', "NaN is not JSON"),
        ('{"name": "ssd_tiny", "num_classes": -Infinity}', "-Infinity is not JSON"),
        ('{"name": "ssd_tiny", "num_classes": 1e999}', "num_classes: expected an int >= 2"),
        ('{"name": "ssd_tiny", "num_classes": ' + "9" * 5000 + "}", "digits"),
        ("", "damaged metadata: network"),
        ("{'name': 3}", "damaged metadata: network"),
    ],
    ids=range(9),
)
def test_metadata_that_is_not_plain_json_is_refused(sound, tmp_path, text, message):
    file = tampered(sound, tmp_path, "network", text)
    with pytest.raises(ValueError, match=rf"^load_detector: .*tampered.safetensors.*{message}"):
        load_detector(file)
    one_line(run("detect", asset_path("chelsea.jpg"), "--weights", file), file, message)


def is_json(value: object) -> bool:
    try:
        json.dumps(value)
    except (RecursionError, TypeError, ValueError):
        return False
    return True


@pytest.mark.parametrize("kind", [kind for kind, value in ODD.items() if is_json(value)])
def test_odd_value_in_each_part_of_metadata_loads_or_is_refused(sound, tmp_path, kind):
    """With any value there, loading works or says what is wrong."""
    value = ODD[kind]
    for key, part in sound[1].items():
        paths = [(), *((name,) for name in part if isinstance(part, dict))]
        for path in paths:
            file = tampered(
                sound, tmp_path, key, changed(sound[1], key, *path, to=value) if path else json.dumps(value)
            )
            try:
                network, _ = load_network(file)
            except ValueError as error:
                assert str(file) in str(error), f"{key}: {path}: {error}"
                continue
            assert network.num_classes == 3


def test_detect_refuses_tampered_file_in_one_line(sound, tmp_path):
    file = tampered(sound, tmp_path, "preset", "null")
    one_line(run("detect", asset_path("chelsea.jpg"), "--weights", file), file, "Preset: fields")


@pytest.mark.parametrize(
    "content, message",
    [
        ([1, 2], "must hold tensors by name, got list"),
        (5, "must hold tensors by name, got int"),
        (None, "must hold tensors by name, got NoneType"),
        (torch.ones(3), "must hold tensors by name, got Tensor"),
        ({}, "is empty"),
        ({"model": {}}, "is empty"),
        ({"model": {"state_dict": 5}}, "nothing but tensors by name, got int for 'state_dict'"),
        ({5: torch.ones(3)}, "nothing but tensors by name, got the name 5"),
        ({"a": [torch.ones(3)]}, "nothing but tensors by name, got list for 'a'"),
        (
            {"a": torch.ones(3).to_sparse()},
            "a: expected a dense tensor of real numbers, got torch.float32, torch.sparse",
        ),
        (
            {"a": torch.ones(3, dtype=torch.complex64)},
            "a: expected a dense tensor of real numbers, got torch.complex64",
        ),
        ({"a": torch.empty(3, device="meta")}, "a: expected a dense tensor of real numbers, got a meta tensor"),
        ({"class_heads.0.predict.bias": torch.ones(1).expand(3 * HUGE)}, "does not fit SSDLite300MobileNetV2"),
        ({"class_heads.0.predict.bias": torch.tensor(1.0)}, "does not fit SSDLite300MobileNetV2"),
        (
            {
                "head.classification_head.module_list.0.1.bias": torch.ones(18),
                "backbone.features.1.0.3.0.weight": torch.tensor(1.0),
            },
            "does not fit SSDLite320MobileNetV3Large",
        ),
    ],
    ids=range(15),
)
def test_pth_files_of_odd_content_are_refused(tmp_path, content, message):
    file = tmp_path / "odd.pth"
    torch.save(content, file)
    with pytest.raises(ValueError) as raised:
        load_network(file)
    assert message in str(raised.value) and str(file) in str(raised.value)
    one_line(run("detect", asset_path("chelsea.jpg"), "--weights", file), file)


def test_tensor_that_cannot_be_copied_is_refused(tmp_path):
    network = ssd300_vgg16(3)
    state = {**network.state_dict(), "backbone.scale_weight": torch.ones(512).to_sparse()}
    torch.save(state, tmp_path / "sparse.pth")
    with pytest.raises(ValueError, match=r"backbone\.scale_weight: expected a dense tensor"):
        load_network(tmp_path / "sparse.pth")
