"""Faulty boxes and wrong sizes are raised, dropped or clipped, and always named."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from helpers.dataset_files import (
    HEIGHT,
    SIZE_XML,
    WIDTH,
    coco_data,
    object_xml,
    save_image,
    write_boxes,
    write_json,
    write_voc,
)
from ssd_fast.datasets import open_dataset
from ssd_fast.ground_truth import GroundTruthError, GroundTruthWarning

# A faulty box, the reason that the message gives, and the box that policy "clip" leaves.
FAULTS = [
    ([5, 6, 5, 20], "no width", None),
    ([5, 6, 9, 6], "no height", None),
    ([9, 6, 5, 20], "no width", None),
    ([5, float("nan"), 9, 20], "not finite", None),
    ([5, 6, float("inf"), 20], "not finite", None),
    ([5, 6, 1e39, 20], "not finite", None),  # beyond float32
    ([5, 6, 10**400, 20], "not finite", None),
    ([50, 6, 60, 20], "out of the image, which is 40 wide and 30 high", None),
    ([40, 6, 40.5, 20], "beside the image", None),
    ([5, 6, 41.5, 20], "out of the image", [5, 6, 40, 20]),
    ([5, 6, 9, 31.5], "out of the image", [5, 6, 9, 30]),
    ([-1.5, 6, 9, 20], "out of the image", [0, 6, 9, 20]),
    ([5, -1.5, 9, 20], "out of the image", [5, 0, 9, 20]),
    ([-1.5, -8, 9, 45], "out of the image", [0, 0, 9, 30]),
]


@pytest.mark.parametrize(("box", "reason", "clipped"), FAULTS)
@pytest.mark.parametrize("policy", ["drop", "clip"])
def test_faulty_boxes_are_dropped_or_clipped_and_named(tmp_path, box, reason, clipped, policy):
    sound = [1, 2, 3, 4]
    with pytest.warns(GroundTruthWarning, match=reason) as caught:
        dataset = open_dataset(write_boxes(tmp_path, [sound, box, sound]), policy=policy)
    assert len(caught) == 1 and caught[0].filename == __file__, "not one warning, at the line that opened the dataset"
    middle = [clipped] if policy == "clip" and clipped else []
    assert dataset[0][1]["boxes"].tolist() == [sound, *middle, sound]
    assert len(dataset.samples[0].labels) == len(dataset.samples[0].ignored) == 2 + len(middle)
    (problem,) = dataset.problems
    assert (problem.file, problem.item, problem.label) == (str(tmp_path / "annotations.json"), 1, "cat")
    assert reason in problem.reason and problem.action == ("clipped" if middle else "dropped")
    np.testing.assert_array_equal(problem.values, [float("inf") if value == 10**400 else value for value in box])
    assert str(problem) in str(caught[0].message)


@pytest.mark.parametrize(("box", "reason", "clipped"), FAULTS)
def test_faulty_boxes_are_raised(tmp_path, box, reason, clipped):
    with pytest.raises(GroundTruthError, match=rf"annotations.json: images\['0.png'\]\[1\] 'cat' .*{reason}") as caught:
        open_dataset(write_boxes(tmp_path, [[1, 2, 3, 4], box]), policy="raise")
    assert "dropped" not in str(caught.value)


@pytest.mark.parametrize("policy", ["raise", "drop", "clip"])
def test_overhang_up_to_a_pixel_is_rounding(tmp_path, policy):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = open_dataset(write_boxes(tmp_path, [[-1, -0.5, 41, 31], [1, 2, 40.25, 20]]), policy=policy)
    assert dataset.samples[0].boxes.tolist() == [[0, 0, 40, 30], [1, 2, 40, 20]] and not dataset.problems


def test_many_faults_are_one_warning(tmp_path):
    with pytest.warns(GroundTruthWarning, match=r"8 problems in 1 images.*and 3 more") as caught:
        dataset = open_dataset(write_boxes(tmp_path, [[1, 1, 1, 1]] * 8))
    assert len(caught) == 1 and [problem.item for problem in dataset.problems] == list(range(8))
    assert len(dataset) == 1 and dataset.samples[0].boxes.shape == (0, 4), "the image is not kept, without boxes"
    with pytest.raises(GroundTruthError, match=r"8 problems in 1 images.*and 3 more"):
        open_dataset(write_boxes(tmp_path, [[1, 1, 1, 1]] * 8), policy="raise")


def test_labels_and_flags_stay_with_boxes(tmp_path):
    items = [("cat", 1, False), ("dog", 0, True), ("dog", 5, True), ("cat", 0, False), ("dog", 7, False)]
    data = {"images": {"0.png": [{"box": [3, 3, 3 + w, 9], "label": n, "ignored": f} for n, w, f in items]}}
    with pytest.warns(GroundTruthWarning):
        dataset = open_dataset(write_json(tmp_path / "annotations.json", data))
    target = dataset[0][1]
    assert (target["boxes"][:, 2] - 3).tolist() == [1, 5, 7]
    assert target["labels"].tolist() == [1, 2, 2] and target["ignored"].tolist() == [False, True, False]


@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff", "webp"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_sizes_are_those_of_upright_image(tmp_path, suffix, orientation):
    save_image(tmp_path / f"a.{suffix}", orientation=orientation)
    data = {"classes": ["cat"], "images": {f"a.{suffix}": []}}
    dataset = open_dataset(write_json(tmp_path / "annotations.json", data, count=0))
    expected = (WIDTH, HEIGHT) if orientation in (6, 8) else (HEIGHT, WIDTH)
    assert dataset.samples[0].size == expected and tuple(dataset[0][0].shape[1:]) == expected


@pytest.mark.parametrize("stated", [(HEIGHT, WIDTH), (HEIGHT + 1, WIDTH), (WIDTH, HEIGHT)])
@pytest.mark.parametrize("orientation", [1, 6])
def test_wrong_image_size_is_named(tmp_path, stated, orientation):
    data = coco_data()
    data["images"][0] |= {"height": stated[0], "width": stated[1]}
    path = write_json(tmp_path / "a.json", data)
    true = (WIDTH, HEIGHT) if orientation == 6 else (HEIGHT, WIDTH)
    save_image(tmp_path / "0.png", orientation=orientation)
    if stated == true:
        assert not open_dataset(path, policy="raise").problems
        return
    named = rf"size of '0.png' \({stated[1]}, {stated[0]}\): .*are {true[1]} x {true[0]}"
    with pytest.warns(GroundTruthWarning, match=named):
        dataset = open_dataset(path)
    assert [s.name for s in dataset.samples] == ["1.png"], "kept boxes that are for another image"
    assert dataset.problems[0].item is None and dataset.problems[0].values == stated[::-1]
    assert ("EXIF" in dataset.problems[0].reason) == (stated == true[::-1])
    with pytest.warns(GroundTruthWarning, match=f"{named}.*: kept"):
        dataset = open_dataset(path, policy="clip")
    assert dataset.samples[0].size == true and dataset.samples[0].boxes.tolist() == [[1, 2, 11, 22]]
    with pytest.raises(GroundTruthError, match=named):
        open_dataset(path, policy="raise")


@pytest.mark.parametrize("size", ["", "<size><width>0</width><height>0</height></size>"])
def test_image_size_may_be_missing(tmp_path, size):
    dataset = open_dataset(write_voc(tmp_path, {"a": size + object_xml()}), policy="raise")
    assert dataset.samples[0].size == (HEIGHT, WIDTH)


def test_dataset_without_images_left_is_an_error(tmp_path):
    data = coco_data(1)
    data["images"][0]["width"] = 99
    with pytest.raises(GroundTruthError, match=r"no image is left.*99"):
        open_dataset(write_json(tmp_path / "a.json", data, count=1))


def test_voc_size_is_compared(tmp_path):
    """The size in VOC's XML is compared as that in COCO's JSON is."""
    root = write_voc(tmp_path, {"a": SIZE_XML + object_xml(), "b": SIZE_XML + object_xml()})
    assert not open_dataset(root, policy="raise").problems
    save_image(root / "JPEGImages" / "b.png", (HEIGHT, WIDTH + 5))
    with pytest.raises(GroundTruthError, match=r"b\.xml: size of 'b\.png' \(40, 30\): .*45 x 30"):
        open_dataset(root, policy="raise")
