"""Datasets of every format: samples and targets, classes, broken files, and the choice of the format."""

from __future__ import annotations

import json
import os
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.dataset_files import (
    HEIGHT,
    WIDTH,
    coco_data,
    folder_data,
    object_xml,
    save_image,
    write_boxes,
    write_json,
    write_voc,
)
from ssd_fast.datasets import DetectionDataset, Sample, list_splits, open_dataset
from ssd_fast.ground_truth import GroundTruthError, GroundTruthWarning
from ssd_fast.images import as_image_tensor


def sample(**change) -> Sample:
    sound = {
        "path": "a.png",
        "name": "a.png",
        "size": (HEIGHT, WIDTH),
        "boxes": np.array([[1, 2, 3, 4]], np.float32),
        "labels": np.array([1]),
        "ignored": np.array([False]),
    }
    return Sample(**{**sound, **change})


def test_dataset_item_is_image_and_target(tmp_path):
    data = folder_data()
    data["images"]["1.png"] += [{"box": [0.25, 0, WIDTH, HEIGHT], "label": "zebra", "ignored": True}]
    dataset = open_dataset(write_json(tmp_path / "annotations.json", data))
    image, target = dataset[1]
    assert image.dtype == torch.uint8 and torch.equal(image, as_image_tensor(tmp_path / "1.png"))
    assert set(target) == {"boxes", "labels", "ignored", "image_id"}
    assert target["boxes"].dtype == torch.float32
    assert target["boxes"].tolist() == [[2, 2, 12, 22], [0.25, 0, WIDTH, HEIGHT]]
    assert target["labels"].dtype == torch.int64 and target["labels"].tolist() == [2, 1]
    assert target["ignored"].dtype == torch.bool and target["ignored"].tolist() == [False, True]
    assert target["image_id"].dtype == torch.int64 and target["image_id"].shape == () and target["image_id"] == 1
    assert [(s.name, s.size, Path(s.path)) for s in dataset.samples] == [
        (f"{i}.png", (HEIGHT, WIDTH), tmp_path / f"{i}.png") for i in range(2)
    ]
    assert repr(dataset) == "DetectionDataset(images=2, classes=2, boxes=3, problems=0)"


def test_dataset_is_a_sequence(tmp_path):
    dataset = open_dataset(write_json(tmp_path / "annotations.json", folder_data()))
    assert len(dataset) == 2 and len(list(dataset)) == 2
    assert dataset[-1][1]["image_id"] == 1 and torch.equal(dataset[-1][1]["boxes"], dataset[1][1]["boxes"])
    for index in (2, -3):
        with pytest.raises(IndexError):
            dataset[index]
    with pytest.raises(TypeError):
        dataset["0.png"]


def test_image_without_boxes_has_empty_target(tmp_path):
    data = {"classes": ["cat"], "images": {"0.png": []}}
    dataset = open_dataset(write_json(tmp_path / "annotations.json", data))
    _, target = dataset[0]
    assert target["boxes"].shape == (0, 4) and target["labels"].shape == (0,) and target["ignored"].shape == (0,)
    assert target["labels"].dtype == torch.int64 and target["ignored"].dtype == torch.bool and not dataset.problems


def test_targets_are_copies(tmp_path):
    dataset = open_dataset(write_boxes(tmp_path, [[1, 2, 3, 4]]))
    target = dataset[0][1]
    target["boxes"] += 7
    target["labels"] += 7
    target["ignored"] |= True
    again = dataset[0][1]
    assert again["boxes"].tolist() == [[1, 2, 3, 4]] and again["labels"].tolist() == [1]
    assert again["ignored"].tolist() == [False]


def test_dataset_can_be_pickled_for_workers(tmp_path):
    with pytest.warns(GroundTruthWarning):
        dataset = open_dataset(write_boxes(tmp_path, [[1, 2, 3, 4], [5, 5, 5, 5]]))
    again = pickle.loads(pickle.dumps(dataset))
    assert again.classes == dataset.classes and again.problems == dataset.problems and len(again.problems) == 1
    assert all(torch.equal(again[0][1][key], value) for key, value in dataset[0][1].items())
    loader = torch.utils.data.DataLoader(dataset, num_workers=1, collate_fn=list)
    ((image, target),) = next(iter(loader))
    assert torch.equal(image, dataset[0][0]) and target["boxes"].tolist() == [[1, 2, 3, 4]]


def test_missing_and_broken_images_are_named(tmp_path):
    path = write_json(tmp_path / "annotations.json", folder_data())
    dataset = open_dataset(path)
    whole = save_image(tmp_path / "1.png", (300, 300)).read_bytes()
    with pytest.raises(ValueError, match=r"1\.png: expected height x width 30 x 40.*got 300 x 300"):
        dataset[1]
    (tmp_path / "1.png").write_bytes(whole[: len(whole) // 2])
    truncated = open_dataset(path)
    with pytest.raises(ValueError, match=r"cannot read image .*1\.png: .*truncated"):
        truncated[1]
    (tmp_path / "1.png").write_bytes(b"not an image")
    with pytest.raises(
        GroundTruthError, match=r"annotations\.json: '1\.png': cannot read image .*: expected one of JPEG"
    ):
        open_dataset(path)
    (tmp_path / "1.png").unlink()
    with pytest.raises(GroundTruthError, match=r"annotations\.json: '1\.png': expected the image .*does not exist"):
        open_dataset(path)
    with pytest.raises(FileNotFoundError, match=r"1\.png"):
        dataset[1]


def test_image_too_large_for_pillow_is_named(tmp_path, monkeypatch):
    path = write_json(tmp_path / "annotations.json", folder_data())
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 100)
    with pytest.raises(GroundTruthError, match=r"cannot read image .*0\.png: .*exceeds limit"):
        open_dataset(path)


def test_given_classes_fix_order_of_labels(tmp_path):
    path = write_json(tmp_path / "annotations.json", folder_data())
    dataset = open_dataset(path, classes=["dog", "cat", "zebra"])
    assert dataset.classes == ("dog", "cat", "zebra") and dataset.samples[0].labels.tolist() == [2]
    with pytest.raises(GroundTruthError, match=r"json: images\['0.png'\]\[0\]: expected one of dog, zebra, got 'cat'"):
        open_dataset(path, classes=("dog", "zebra"))


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ([], "at least 1"),
        ("cat", "expected a list .* got 'cat'"),
        (["cat", 3], "non-blank strings, got 3"),
        (["cat", ""], "non-blank strings, got ''"),
        (["cat", "dog", "cat"], "each name once, got 'cat' twice"),
        (["__background__", "cat"], "without the background, got '__background__'"),
    ],
)
def test_open_dataset_rejects_classes(tmp_path, classes, message):
    path = write_json(tmp_path / "annotations.json", folder_data())
    with pytest.raises(GroundTruthError, match=f"open_dataset: classes: .*{message}"):
        open_dataset(path, classes=classes)


def test_open_dataset_recognizes_format(tmp_path):
    write_voc(tmp_path / "voc", {"a": object_xml()})
    write_json(tmp_path / "coco" / "annotations" / "instances_val.json", coco_data(), tmp_path / "coco" / "val")
    write_json(tmp_path / "folder" / "annotations.json", folder_data())
    write_json(tmp_path / "mixed" / "annotations.json", coco_data())  # COCO's content, folder's name
    for name, length in (("voc", 1), ("coco", 2), ("folder", 2), ("mixed", 2)):
        assert len(open_dataset(tmp_path / name)) == length
        if name != "mixed":
            assert len(open_dataset(str(tmp_path / name), format=name)) == length
    assert open_dataset(tmp_path / "mixed").classes == ("zebra", "cat")


def test_open_dataset_refuses_unknown_or_ambiguous_format(tmp_path):
    (tmp_path / "empty").mkdir()
    looked = r"Annotations/\*.xml .*annotations/instances_\*.json .*annotations.json"
    with pytest.raises(GroundTruthError, match=f"empty: .*{looked}.*found none"):
        open_dataset(tmp_path / "empty")
    write_voc(tmp_path / "both", {"a": object_xml()})
    write_json(tmp_path / "both" / "annotations.json", folder_data())
    with pytest.raises(GroundTruthError, match="found voc and folder: choose by format="):
        open_dataset(tmp_path / "both")
    assert len(open_dataset(tmp_path / "both", format="voc")) == 1
    for text, given in (("[1]", "got list"), ('{"pictures": 3}', "got an object with pictures")):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(GroundTruthError, match=f'x.json: .*"images".*{given}'):
            open_dataset(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"path": "nowhere"}, FileNotFoundError, "path: .*nowhere does not exist"),
        ({"images": "nowhere"}, FileNotFoundError, "images: .*nowhere does not exist"),
        ({"format": "yolo"}, ValueError, "format: expected 'auto' or 'voc' or 'coco' or 'folder', got 'yolo'"),
        ({"policy": "ignore"}, ValueError, "policy: expected 'raise' or 'drop' or 'clip', got 'ignore'"),
        ({"format": "voc"}, GroundTruthError, "annotations.json: VOC: expected a folder, got a file"),
    ],
)
def test_open_dataset_rejects_arguments(tmp_path, options, error, message):
    options = {"path": write_json(tmp_path / "annotations.json", folder_data()), **options}
    with pytest.raises(error, match=message):
        open_dataset(**options)


@pytest.mark.parametrize("name", ["coco", "folder"])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"images": [\n1, }', "annotations.json: line 2, column 4: invalid JSON"),
        (b"", "line 1, column 1: invalid JSON"),
        (b'{"images": "\xff"}', "byte 12: expected JSON in UTF-8"),
        (b'{"images": {}, "images": []}', "each key of an object once, got 'images' twice"),
        (b"[" * 100000, "nested too deeply"),
        (b"[" + b"9" * 5000 + b"]", "annotations.json: .*digits"),
    ],
)
def test_unreadable_json_is_named(tmp_path, name, text, message):
    path = tmp_path / "annotations.json"
    path.write_bytes(text)
    with pytest.raises(GroundTruthError, match=message):
        open_dataset(path, format=name)


def test_json_may_have_byte_order_mark(tmp_path):
    path = write_json(tmp_path / "annotations.json", folder_data())
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(folder_data()).encode())
    assert len(open_dataset(path)) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"boxes": np.zeros((1, 4))}, r"boxes: expected a NumPy array float32 \[1, 4\], got float64 \[1, 4\]"),
        ({"boxes": np.zeros((2, 5), np.float32)}, r"boxes: .*\[2, 4\], got float32 \[2, 5\]"),
        ({"labels": np.array([1, 2])}, r"labels: .*int64 \[1\], got int64 \[2\]"),
        ({"ignored": torch.tensor([True])}, r"ignored: expected a NumPy array bool"),
    ],
)
def test_sample_rejects_arrays(change, message):
    with pytest.raises(ValueError, match=rf"Sample 'a\.png': {message}"):
        sample(**change)


def test_dataset_can_be_made_from_samples():
    assert len(DetectionDataset([sample()], ["cat"])) == 1
    with pytest.raises(GroundTruthError, match="at least 1 image, got 0"):
        DetectionDataset([], ["cat"])
    with pytest.raises(GroundTruthError, match=r"classes: .* at least 1"):
        DetectionDataset([sample()], [])
    for label in (0, 2, -1):
        with pytest.raises(GroundTruthError, match=rf"'a\.png': expected labels in 1\.\.1, got {label}"):
            DetectionDataset([sample(labels=np.array([label]))], ["cat"])


def test_open_dataset_reads_bccd():
    """BCCD, a dataset of blood cells, has two degenerate boxes that make a plain SSD's loss NaN."""
    root = os.environ.get("SSD_FAST_BCCD")
    if not root:
        pytest.skip("SSD_FAST_BCCD does not name a copy of BCCD")
    with pytest.warns(GroundTruthWarning, match="2 problems in 292 images"):
        train = open_dataset(root, "trainval")
    test = open_dataset(root, "test", policy="raise")
    assert (len(train), len(test)) == (292, 72)
    assert train.classes == test.classes == ("Platelets", "RBC", "WBC")
    assert [(Path(p.file).name, p.item, p.label, p.values) for p in train.problems] == [
        ("BloodImage_00338.xml", 12, "RBC", (504, 337, 504, 337)),
        ("BloodImage_00343.xml", 3, "RBC", (181, 329, 181, 329)),
    ]
    labels = Counter(label for dataset in (train, test) for s in dataset.samples for label in s.labels.tolist())
    assert labels == {1: 361, 2: 4155 - 2, 3: 372}
    assert {s.size for s in test.samples} == {(480, 640)} and test[0][0].shape == (3, 480, 640)
    with pytest.raises(GroundTruthError, match=r"00338\.xml: object 12 'RBC'.*00343\.xml: object 3 'RBC'"):
        open_dataset(root, policy="raise")


def test_list_splits_of_each_format(tmp_path):
    voc = write_voc(tmp_path / "voc", {"a": object_xml()}, {"val": ["a"], "train": ["a"], "cat_train": ["a  1"]})
    assert list_splits(voc) == list_splits(voc, format="voc") == ["train", "val"]
    for split in ("val", "train"):
        write_json(tmp_path / "coco" / "annotations" / f"instances_{split}.json", coco_data())
    assert list_splits(tmp_path / "coco") == ["train", "val"]
    assert list_splits(tmp_path / "coco" / "annotations" / "instances_val.json") == []
    path = write_json(tmp_path / "plain" / "annotations.json", folder_data() | {"splits": {"val": [], "train": []}})
    assert list_splits(path) == list_splits(path.parent) == ["train", "val"]
    assert list_splits(write_json(path, {"images": {}})) == []
    with pytest.raises(GroundTruthError, match="found none"):
        list_splits(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"^list_splits: path: expected .*missing does not exist$"):
        list_splits(tmp_path / "missing")
    with pytest.raises(TypeError, match=r"^list_splits: path: expected the path of a folder or a JSON file, got"):
        list_splits(3)
    with pytest.raises(ValueError, match=r"^list_splits: format: expected 'auto' or .*, got 'yolo'$"):
        list_splits(voc, format="yolo")
