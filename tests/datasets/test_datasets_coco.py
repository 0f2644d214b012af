"""COCO's JSON: reading, writing, and the message for every broken file."""

from __future__ import annotations

import contextlib
import io
import json

import numpy as np
import pytest

from helpers.dataset_files import HEIGHT, WIDTH, coco_data, write_json
from ssd_fast.datasets import open_dataset, to_coco
from ssd_fast.ground_truth import GroundTruthError, GroundTruthWarning


def test_coco_boxes_labels_and_crowds(tmp_path):
    data = coco_data()
    more = {"id": 7, "image_id": 20, "category_id": 3, "bbox": [0.5, 1, 2.25, 3], "iscrowd": 1, "segmentation": []}
    data["annotations"].insert(0, more)
    del data["annotations"][1]["iscrowd"], data["images"][0]["width"], data["images"][0]["height"]
    dataset = open_dataset(write_json(tmp_path / "a.json", data), policy="raise")
    assert dataset.classes == ("zebra", "cat"), "not in the order of the ids, 3 and 7"
    assert [s.boxes.tolist() for s in dataset.samples] == [[[1, 2, 11, 22]], [[0.5, 1, 2.75, 4], [2, 2, 12, 22]]]
    assert [s.labels.tolist() for s in dataset.samples] == [[2], [1, 2]]
    assert [s.ignored.tolist() for s in dataset.samples] == [[False], [True, False]]
    assert [s.size for s in dataset.samples] == [(HEIGHT, WIDTH)] * 2


def test_images_without_annotations_are_kept(tmp_path):
    data = coco_data(3)
    del data["annotations"][1]
    dataset = open_dataset(write_json(tmp_path / "a.json", data, count=3))
    assert [len(sample.boxes) for sample in dataset.samples] == [1, 0, 1]


@pytest.mark.parametrize("size", [[0, 5], [5, 0], [-3, 5]])
def test_degenerate_boxes_are_named_with_values_of_file(tmp_path, size):
    data = coco_data()
    data["annotations"][1]["bbox"] = [3, 4, *size]
    with pytest.warns(GroundTruthWarning, match=r"a\.json: annotations\[1\] \(id 101\) 'cat' \(3, 4, "):
        dataset = open_dataset(write_json(tmp_path / "a.json", data))
    (problem,) = dataset.problems
    assert problem.item == 1 and problem.values == (3, 4, *size)


PLACES = [
    ("a.json", "."),
    ("a.json", "images"),
    ("annotations/instances_val.json", "."),
    ("annotations/instances_val.json", "images"),
    ("annotations/instances_val.json", "val"),
    ("annotations/instances_val.json", "images/val"),
    ("annotations/instances_val.json", "annotations"),
    ("annotations/instances_val.json", "annotations/val"),
]


@pytest.mark.parametrize(("file", "images"), PLACES)
def test_images_are_found_in_usual_folders(tmp_path, file, images):
    path = write_json(tmp_path / file, coco_data(), tmp_path / images)
    dataset = open_dataset(path)
    assert [sample.path for sample in dataset.samples] == [str(tmp_path / images / f"{i}.png") for i in range(2)]
    assert dataset.samples[0].name == "0.png" and dataset[1][0].shape == (3, HEIGHT, WIDTH)


def test_images_elsewhere_need_argument_images(tmp_path):
    path = write_json(tmp_path / "set" / "a.json", coco_data(), tmp_path / "elsewhere" / "x")
    with pytest.raises(
        GroundTruthError, match=r"a\.json: images: expected '0\.png' in one of .*set.*; pass .* images="
    ):
        open_dataset(path)
    assert len(open_dataset(path, images=tmp_path / "elsewhere" / "x")) == 2


def test_entry_without_its_image_is_named(tmp_path):
    path = write_json(tmp_path / "a.json", coco_data(), count=1)
    with pytest.raises(GroundTruthError, match=r"a\.json: '1\.png': expected the image .*1\.png, which does not exist"):
        open_dataset(path)
    (tmp_path / "images").mkdir()
    (tmp_path / "0.png").rename(tmp_path / "images" / "1.png")
    with pytest.raises(GroundTruthError, match=r"'0\.png': expected the image .*images/0\.png, which does not exist"):
        open_dataset(path)


def test_coco_splits_are_instances_files(tmp_path):
    write_json(tmp_path / "annotations" / "instances_val.json", coco_data(1), tmp_path / "val", count=1)
    assert len(open_dataset(tmp_path)) == 1, "there is one split"
    write_json(tmp_path / "annotations" / "instances_train.json", coco_data(2), tmp_path / "train")
    assert len(open_dataset(tmp_path, "val")) == 1 and len(open_dataset(tmp_path, "train")) == 2
    assert open_dataset(tmp_path, "train").samples[0].path == str(tmp_path / "train" / "0.png")
    with pytest.raises(GroundTruthError, match="expected split, one of train, val, got None"):
        open_dataset(tmp_path)
    with pytest.raises(GroundTruthError, match="no split 'test'; the splits are: train, val"):
        open_dataset(tmp_path, "test")
    file = tmp_path / "annotations" / "instances_val.json"
    assert len(open_dataset(file, "val")) == 1
    with pytest.raises(GroundTruthError, match="a JSON file is one split: expected no split, or 'val', got 'train'"):
        open_dataset(file, "train")
    with pytest.raises(
        GroundTruthError, match=r"COCO: expected a file annotations/instances_<split>\.json, found none"
    ):
        open_dataset(tmp_path / "val", format="coco")


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("images",), [], "images: expected at least 1 image, got 0"),
        (("images",), {}, "images: expected a list, got dict"),
        (("images", 1), 3, r"images\[1\]: expected an object, got 3"),
        (("images", 1, "id"), 10, r"images\[1\]: id: expected each id once, got 10, which images\[0\] has"),
        (("images", 1, "id"), None, r"images\[1\]: id: expected an integer of 64 bits or a string, got None"),
        (("images", 1, "id"), [1], r"images\[1\]: id: expected an integer of 64 bits or a string, got \[1\]"),
        (
            ("images", 1, "file_name"),
            "0.png",
            r"images\[1\] \(id 20\): its image '0.png' already belongs to images\[0\] \(id 10",
        ),
        (
            ("images", 1, "file_name"),
            "./0.png",
            r"images\[1\] \(id 20\): its image './0.png' already belongs to",
        ),
        (("images", 1, "file_name"), None, r"images\[1\] \(id 20\): file_name: expected a name, got None"),
        (("images", 1, "width"), "40", r"images\[1\] \(id 20\): width, height: expected numbers, got '40', 30"),
        (("annotations",), None, "annotations: expected a list, got NoneType"),
        (("annotations", 1), [], r"annotations\[1\]: expected an object, got \[\]"),
        (
            ("annotations", 1, "id"),
            100,
            r"annotations\[1\]: id: expected each id once, got 100, which annotations",
        ),
        (("annotations", 1, "image_id"), 11, r"annotations\[1\] \(id 101\): image_id: .* one of the images, got 11"),
        (("annotations", 1, "image_id"), None, r"image_id: expected the id of one of the images, got None"),
        (("annotations", 1, "category_id"), 8, r"\(id 101\): category_id: .* one of the categories, got 8"),
        (("annotations", 1, "category_id"), [7], r"category_id: .*, got \[7\]"),
        (("annotations", 1, "category_id"), True, r"category_id: .*, got True"),
        (
            ("annotations", 1, "bbox"),
            [1, 2, 3],
            r"\(id 101\) 'cat': bbox: expected 4 numbers .*height\], got \[1, 2, 3\]",
        ),
        (("annotations", 1, "bbox"), [1, 2, 3, 4, 5], r"bbox: expected 4 numbers .*got \[1, 2, 3, 4, 5\]"),
        (("annotations", 1, "bbox"), None, r"bbox: expected 4 numbers .*got None"),
        (("annotations", 1, "bbox"), [1, 2, "3", 4], r"bbox: expected 4 numbers .*got \[1, 2, '3', 4\]"),
        (("annotations", 1, "bbox"), [1, 2, None, 4], r"bbox: expected 4 numbers .*got \[1, 2, None, 4\]"),
        (("annotations", 1, "bbox"), [1, 2, True, 4], r"bbox: expected 4 numbers .*got \[1, 2, True, 4\]"),
        (("annotations", 1, "iscrowd"), 2, r"\(id 101\) 'cat': iscrowd: expected 0 or 1, got 2"),
        (("annotations", 1, "iscrowd"), "0", r"iscrowd: expected 0 or 1, got '0'"),
        (("categories",), [], "categories: expected at least 1, got 0"),
        (("categories",), "cat", "categories: expected a list, got str"),
        (("categories", 1, "id"), 7, r"categories\[1\]: id: expected each id once, got 7"),
        (("categories", 1, "id"), "x", r"categories\[1\] \(id x\): id: expected an integer, got 'x'"),
        (
            ("categories", 1, "name"),
            "cat",
            r"categories\[1\] \(id 3\): name: expected a name that no other has, got 'cat'",
        ),
        (("categories", 1, "name"), 5, r"categories\[1\] \(id 3\): name: .*, got 5"),
    ],
)
def test_rejected_coco_files(tmp_path, place, value, message):
    data = coco_data()
    *way, last = place
    target = data
    for step in way:
        target = target[step]
    target[last] = value
    with pytest.raises(GroundTruthError, match=rf"a\.json: .*{message}"):
        open_dataset(write_json(tmp_path / "a.json", data), format="coco")


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_missing_lists_are_named(tmp_path, key):
    data = coco_data()
    del data[key]
    with pytest.raises(GroundTruthError, match=rf"a\.json: {key}: expected a list, got nothing"):
        open_dataset(write_json(tmp_path / "a.json", data), format="coco")


def test_coco_file_must_hold_an_object(tmp_path):
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(GroundTruthError, match=r"a\.json: COCO: expected an object, got list"):
        open_dataset(tmp_path / "a.json", format="coco")


def test_annotations_need_no_id(tmp_path):
    data = coco_data()
    for annotation in data["annotations"]:
        del annotation["id"]
    assert len(open_dataset(write_json(tmp_path / "a.json", data)).samples[1].boxes) == 1


def test_to_coco_by_hand(tmp_path):
    items = [{"box": [1, 2, 4, 7.5], "label": "cat"}, {"box": [0, 0, 40, 30], "label": "ape", "ignored": True}]
    data = {"classes": ["cat", "dog", "ape"], "images": {"1.png": [], "0.png": items}}
    written = to_coco(open_dataset(write_json(tmp_path / "annotations.json", data)))
    size = {"width": WIDTH, "height": HEIGHT}
    assert written == {
        "images": [{"id": 1, "file_name": "1.png", **size}, {"id": 2, "file_name": "0.png", **size}],
        "annotations": [
            {"id": 1, "image_id": 2, "category_id": 1, "bbox": [1, 2, 3, 5.5], "area": 16.5, "iscrowd": 0, "ignore": 0},
            {"id": 2, "image_id": 2, "category_id": 3, "bbox": [0, 0, 40, 30], "area": 1200, "iscrowd": 1, "ignore": 1},
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}, {"id": 3, "name": "ape"}],
    }


def test_to_coco_can_be_read_again(tmp_path):
    generator = np.random.default_rng(0)
    corners = generator.uniform(0, 14, (50, 4)) + np.array([0, 0, 16, 15])
    items = [{"box": box, "label": "ab"[i % 2], "ignored": i % 3 == 0} for i, box in enumerate(corners.tolist())]
    path = write_json(tmp_path / "annotations.json", {"images": {"0.png": items, "1.png": items[:3]}})
    dataset = open_dataset(path)
    (tmp_path / "b.json").write_text(json.dumps(to_coco(dataset)))
    again = open_dataset(tmp_path / "b.json", policy="raise")
    assert again.classes == dataset.classes == ("a", "b")
    for old, new in zip(dataset.samples, again.samples, strict=True):
        assert (old.path, old.name, old.size) == (new.path, new.name, new.size)
        np.testing.assert_array_equal(old.boxes, new.boxes)
        np.testing.assert_array_equal(old.labels, new.labels)
        np.testing.assert_array_equal(old.ignored, new.ignored)


def test_pycocotools_reads_to_coco(tmp_path):
    """Perfect detections score 1, and ignored ground truths count neither as missed nor as wrong."""
    coco = pytest.importorskip("pycocotools.coco", reason="pycocotools is the oracle of this test")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    data = coco_data(3)
    data["annotations"][2]["iscrowd"] = 1
    dataset = open_dataset(write_json(tmp_path / "a.json", data, count=3))
    truth = coco.COCO()
    truth.dataset = to_coco(dataset)
    found = [
        {"image_id": a["image_id"], "category_id": a["category_id"], "bbox": a["bbox"], "score": 0.9}
        for a in truth.dataset["annotations"]
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        for detections in (found, found[:2]):
            scores = cocoeval.COCOeval(truth, truth.loadRes(detections), "bbox")
            scores.evaluate(), scores.accumulate(), scores.summarize()
            assert scores.stats[0] == 1
