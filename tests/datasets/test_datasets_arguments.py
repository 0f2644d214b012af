"""open_dataset: odd arguments are refused in the promised form, and so are unsuitable class names."""

from __future__ import annotations

import pytest

from helpers.dataset_files import coco_data, folder_data, object_xml, write_json, write_voc
from helpers.odd_values import ODD, is_promised
from ssd_fast.datasets import open_dataset
from ssd_fast.ground_truth import GroundTruthError

BROKEN = ["cat\ndog", "cat\x1b[31m", "cat\x85", "cat\u2028dog", "cat\ud800"]


@pytest.mark.parametrize("argument", ["path", "split", "images", "format", "policy"])
def test_open_dataset_refuses_odd_values_of_each_argument(tmp_path, argument):
    """Odd strings are left out: a string may name something missing, for which there are other messages."""
    sound = {"path": write_json(tmp_path / "data" / "annotations.json", folder_data())}
    refused = 0
    for kind, value in ODD.items():
        if not isinstance(value, str):
            try:
                open_dataset(**{**sound, argument: value})
            except (TypeError, ValueError) as error:
                assert is_promised(error, argument), f"{kind}: {error!r}"
                refused += 1
    assert refused >= len(ODD) - 3  # two strings and None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": None}, "path: expected the path of a folder or a JSON file, got None"),
        ({"path": 5}, "path: expected the path of a folder or a JSON file, got 5"),
        ({"path": b"ds"}, "path: expected the path of a folder or a JSON file, got b'ds'"),
        ({"images": 5}, "images: expected the path of a folder, got 5"),
        ({"split": ["x"]}, "split: expected the name of a split, or None, got list"),
    ],
)
def test_open_dataset_names_argument_of_wrong_type(tmp_path, options, message):
    with pytest.raises(TypeError) as error:
        open_dataset(**{"path": tmp_path, **options})
    assert str(error.value) == f"open_dataset: {message}"


@pytest.mark.parametrize("path", ["", "a\0"])
def test_open_dataset_refuses_empty_path(path):
    with pytest.raises(ValueError, match=r"^open_dataset: path: expected the path of a folder or a JSON file, got '"):
        open_dataset(path)


@pytest.mark.parametrize("name", BROKEN)
def test_class_names_must_not_hold_control_characters(tmp_path, name):
    coco, folder, listed = coco_data(), folder_data(), folder_data()
    coco["categories"][1]["name"] = folder["images"]["1.png"][0]["label"] = name
    listed["classes"] = ["cat", name]
    del folder["classes"]
    paths = [write_json(tmp_path / f"{kind}.json", data) for kind, data in enumerate((coco, folder, listed))]
    if name == "cat\ndog":  # the only one that XML can hold; VOC's reader strips spaces around a name
        paths.append(tmp_path / "voc")
        write_voc(paths[-1], {"a": object_xml(), "b": object_xml(name)})
    for path in paths:
        with pytest.raises(GroundTruthError, match="classes: expected names without control characters, got 'cat"):
            open_dataset(path)
    with pytest.raises(GroundTruthError, match=r"^open_dataset: classes: expected names without control characters"):
        open_dataset(paths[0], classes=["cat", name])


def test_class_names_must_differ_by_more_than_spaces(tmp_path):
    coco, folder = coco_data(), folder_data()
    names = [category["name"] for category in coco["categories"]]
    coco["categories"][1]["name"] = f"{names[0]} "
    folder["classes"] = ["cat", "cat "]
    for kind, data in {"coco": coco, "folder": folder}.items():
        with pytest.raises(GroundTruthError, match=r"classes: expected each name once, got '\w+' twice .apart from"):
            open_dataset(write_json(tmp_path / f"{kind}.json", data))


@pytest.mark.parametrize("name", ["cat ", "chat\u00a0noir", "\u06af\u0631\u0628\u0647\u200c\u0647\u0627"])
def test_other_class_names_are_kept(tmp_path, name):
    data = folder_data()
    data["classes"] = [name]
    data["images"] = {"1.png": [{"box": [1, 2, 20, 25], "label": name}]}
    assert open_dataset(write_json(tmp_path / "x.json", data)).classes == (name,)
