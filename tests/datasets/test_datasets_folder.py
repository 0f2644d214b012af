"""The folder format with one JSON: its documented example, and the message for every broken file."""

from __future__ import annotations

import inspect
import json
import textwrap

import pytest

from helpers.dataset_files import folder_data, save_image, write_json
from ssd_fast.datasets import folder, open_dataset
from ssd_fast.ground_truth import GroundTruthError


def test_documented_example_is_read(tmp_path):
    doc = inspect.cleandoc(folder.__doc__)
    example = textwrap.dedent(doc[doc.index("    {") : doc.index("\n    }") + len("\n    }")])
    (tmp_path / "annotations.json").write_text(example)
    for name in ("a.jpg", "b.jpg"):
        save_image(tmp_path / name, (200, 300))
    dataset = open_dataset(tmp_path, policy="raise")
    assert dataset.classes == ("cat", "dog") and [s.name for s in dataset.samples] == ["a.jpg", "b.jpg"]
    assert dataset.samples[0].boxes.tolist() == [[12, 30, 200, 180], [5, 5, 60, 40]]
    assert dataset.samples[0].labels.tolist() == [1, 2] and dataset.samples[0].ignored.tolist() == [False, True]
    assert [s.name for s in open_dataset(tmp_path, "test").samples] == ["b.jpg"]


def test_labels_of_splits_agree_without_classes(tmp_path):
    data = {
        "images": {f"{i}.png": [{"box": [1, 2, 3, 4], "label": label}] for i, label in enumerate(("cat", "ape"))},
        "splits": {"train": ["0.png"], "test": ["1.png"]},
    }
    write_json(tmp_path / "annotations.json", data)
    train, test = open_dataset(tmp_path, "train"), open_dataset(tmp_path, "test")
    assert train.classes == test.classes == ("ape", "cat")
    assert train.samples[0].labels.tolist() == [2] and test.samples[0].labels.tolist() == [1]


def test_splits_keep_their_order(tmp_path):
    data = {**folder_data(3), "splits": {"train": ["2.png", "0.png"]}}
    write_json(tmp_path / "annotations.json", data, count=3)
    assert [s.name for s in open_dataset(tmp_path, "train").samples] == ["2.png", "0.png"]
    assert len(open_dataset(tmp_path)) == 3
    with pytest.raises(GroundTruthError, match=r"annotations\.json: there is no split 'val'; the splits are: train$"):
        open_dataset(tmp_path, "val")


def test_file_without_splits_refuses_split(tmp_path):
    write_json(tmp_path / "annotations.json", folder_data())
    with pytest.raises(GroundTruthError, match="no split 'train'; the splits are: none"):
        open_dataset(tmp_path, "train")


def test_images_may_be_in_subfolders_and_elsewhere(tmp_path):
    data = {"images": {"deep/0.png": [{"box": [1, 2, 3, 4], "label": "cat"}]}}
    path = write_json(tmp_path / "set" / "boxes.json", data, tmp_path / "elsewhere" / "deep", count=1)
    dataset = open_dataset(path, images=tmp_path / "elsewhere")
    assert dataset.samples[0].path == str(tmp_path / "elsewhere" / "deep" / "0.png")
    assert dataset.samples[0].name == "deep/0.png"
    with pytest.raises(GroundTruthError, match=r"boxes\.json: 'deep/0\.png': expected the image .* does not exist"):
        open_dataset(path)


def test_two_names_of_one_image_are_refused(tmp_path):
    data = {"images": {"0.png": [{"box": [1, 2, 3, 4], "label": "cat"}], "./0.png": []}}
    message = r"images\['\./0\.png'\]: its image '\./0\.png' already belongs to images\['0\.png'\]"
    with pytest.raises(GroundTruthError, match=message):
        open_dataset(write_json(tmp_path / "annotations.json", data, count=1))


def test_image_listed_twice_is_refused(tmp_path):
    path = write_json(tmp_path / "annotations.json", folder_data())
    path.write_text(path.read_text().replace("1.png", "0.png"))
    with pytest.raises(GroundTruthError, match=r"each key of an object once, got '0\.png' twice"):
        open_dataset(path)


def test_missing_annotations_file_is_named(tmp_path):
    with pytest.raises(GroundTruthError, match=r"folder: expected the file annotations\.json, which does not exist"):
        open_dataset(tmp_path, format="folder")


ITEM = ("images", "1.png", 0)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("images",), {}, "images: expected an object that maps .*got {}"),
        (("images",), [], r"images: expected an object.*got \[\]"),
        (("classes",), [], "classes: expected a list of at least 1"),
        (("classes",), ["cat", "cat"], "classes: expected each name once, got 'cat' twice"),
        (("classes",), ["Background", "cat"], "classes: expected names without the background"),
        (("classes",), ["dog"], r"images\['0.png'\]\[0\]: expected one of dog, got 'cat'"),
        (("class",), ["dog"], "the file: expected only the keys images, classes, splits, got 'class'"),
        (("splits",), ["train"], r"splits: expected an object that maps splits to file names, got \['train'\]"),
        (("splits",), {"train": []}, r"splits\['train'\]: expected a list of at least 1 file name, got \[\]"),
        (("splits",), {"train": "0.png"}, r"splits\['train'\]: expected a list .*got '0.png'"),
        (("splits",), {"train": ["0.png", "9.png"]}, r"splits\['train'\]\[1\]: .* in images, got '9.png'"),
        (("splits",), {"train": ["0.png", ["x"]]}, r"splits\['train'\]\[1\]: .* in images, got \['x'\]"),
        (("splits",), {"train": ["0.png", "0.png"]}, r"splits\['train'\]\[1\]: expected each name once, got '0.png'"),
        (("images", "1.png"), None, r"images\['1.png'\]: expected a list of boxes, which may be empty, got None"),
        (ITEM, [1, 2, 3, 4], r"images\['1.png'\]\[0\]: expected an object with box, label, got \[1, 2, 3, 4\]"),
        (ITEM, {"label": "cat"}, r"images\['1.png'\]\[0\]: expected 'box', got only label"),
        (ITEM, {}, r"images\['1.png'\]\[0\]: expected 'box', got only nothing"),
        ((*ITEM, "ignore"), True, r"\[0\]: expected only the keys box, label, ignored, got 'ignore'"),
        ((*ITEM, "ignored"), 1, r"\[0\] 'cat': ignored: expected true or false, got 1"),
        ((*ITEM, "label"), 1, r"\[0\]: label: expected the name of a class, got 1"),
        ((*ITEM, "label"), "dog", r"images\['1.png'\]\[0\]: expected one of zebra, cat, got 'dog'"),
        ((*ITEM, "box"), [1, 2, 3], r"\[0\] 'cat': box: expected 4 numbers \[x1, y1, x2, y2\], got \[1, 2, 3\]"),
        ((*ITEM, "box"), [1, 2, 3, "4"], r"box: expected 4 numbers .*got \[1, 2, 3, '4'\]"),
        ((*ITEM, "box"), {"x1": 1}, r"box: expected 4 numbers .*got {'x1': 1}"),
    ],
)
def test_rejected_folder_files(tmp_path, place, value, message):
    data = json.loads(json.dumps(folder_data()))
    *way, last = place
    target = data
    for step in way:
        target = target[step]
    target[last] = value
    split = "train" if place == ("splits",) else None
    with pytest.raises(GroundTruthError, match=rf"annotations\.json: .*{message}"):
        open_dataset(write_json(tmp_path / "annotations.json", data), split, format="folder")


def test_folder_file_must_hold_an_object(tmp_path):
    (tmp_path / "annotations.json").write_text("[]")
    with pytest.raises(GroundTruthError, match="the file: expected an object with images, got"):
        open_dataset(tmp_path, format="folder")
