"""Hostile datasets: every fault raises an error that names the file, quickly and in one printable line."""

from __future__ import annotations

import copy
import io
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from helpers.cli_checks import FAILED, FINE, one_line, run
from helpers.dataset_files import HEIGHT, WIDTH, coco_data, folder_data, object_xml, save_image, write_json, write_voc
from ssd_fast import load_detector
from ssd_fast.datasets import open_dataset
from ssd_fast.datasets.coco import read_coco
from ssd_fast.datasets.dataset import check_classes
from ssd_fast.datasets.files import read_json
from ssd_fast.evaluation import evaluate_detections, missing_classes
from ssd_fast.evaluation._inputs import labels_of
from ssd_fast.ground_truth import GroundTruthError

MANY = 1500  # quadratic work would be a thousand times as much
OUTSIDE = ["../secret.png", "a/../../secret.png", "a/..", "/etc/passwd", "..", r"..\secret.png", r"C:\secret.png"]
NOT_NAMES = ["", ".", "./", "a\0.png", "\ud800.png"]


def refused(error: pytest.ExceptionInfo[Exception], *parts: object) -> None:
    """Check that the error is one printable line of sensible length that holds these parts."""
    message = str(error.value)
    assert message.isprintable() and len(message) <= 3000, message
    assert all(str(part) in message for part in parts), message


@pytest.mark.parametrize("name", OUTSIDE + NOT_NAMES)
def test_image_names_must_stay_in_folder(tmp_path, name):
    save_image(tmp_path / "secret.png")
    root = tmp_path / "data"
    coco, folder = coco_data(), folder_data()
    coco["images"][1]["file_name"] = name
    folder["images"] = {"0.png": [], name: []}
    for kind, data, item in (("coco", coco, "images[1] (id 20): file_name"), ("folder", folder, "images[")):
        path = write_json(root / f"{kind}.json", data)
        for images in (None, root):
            with pytest.raises(GroundTruthError) as error:
                open_dataset(path, images=images, classes=["cat", "zebra"])
            refused(error, path, item, "expected the name of a file in the folder of the images")


@pytest.mark.parametrize("name", OUTSIDE)
def test_voc_filename_must_stay_in_folder(tmp_path, name):
    save_image(tmp_path / "secret.png")
    root = write_voc(tmp_path / "voc", {"a": f"<filename>{name}</filename>{object_xml()}"})
    (root / "JPEGImages" / "a.png").unlink()
    with pytest.raises(GroundTruthError) as error:
        open_dataset(root)
    refused(error, "a.xml: filename: expected the name of a file in the folder of the images")


def test_links_out_of_folder_are_followed(tmp_path):
    save_image(tmp_path / "elsewhere" / "1.png")
    path = write_json(tmp_path / "data" / "annotations.json", folder_data())
    (tmp_path / "data" / "1.png").unlink()
    (tmp_path / "data" / "1.png").symlink_to(tmp_path / "elsewhere" / "1.png")
    (tmp_path / "data" / "photos").symlink_to(tmp_path / "elsewhere")
    path.write_text(json.dumps({"classes": ["cat"], "images": {"1.png": [], "./photos/1.png": []}}))
    assert [image.shape for image, _ in open_dataset(path)] == [(3, HEIGHT, WIDTH)] * 2


@pytest.mark.parametrize("blank", ["", " ", "\t\n", "\u3000"])
def test_blank_class_names_are_refused(tmp_path, blank):
    coco, folder = coco_data(), folder_data()
    coco["categories"][1]["name"] = folder["images"]["1.png"][0]["label"] = blank
    write_json(tmp_path / "coco.json", coco)
    write_json(tmp_path / "folder.json", folder)
    for name, item in (("coco.json", "categories[1] (id 3): name"), ("folder.json", "images['1.png'][0]: label")):
        with pytest.raises(GroundTruthError) as error:
            open_dataset(tmp_path / name)
        refused(error, tmp_path / name, item)


def test_ids_beyond_64_bits_are_refused(tmp_path):
    data = coco_data()
    data["annotations"][1]["id"] = 2**61 - 1  # its hash is 0, as are those of its multiples
    assert len(open_dataset(write_json(tmp_path / "x.json", data))) == 2
    for key in (2**63, -(2**63), 5 * (2**61 - 1)):
        for part in ("images", "annotations", "categories"):
            data = coco_data()
            data[part][1]["id"] = key
            with pytest.raises(GroundTruthError, match=rf"x\.json: {part}\[1\]: id: expected an integer of 64 bits"):
                open_dataset(write_json(tmp_path / "x.json", data))


def test_background_category_is_error_of_file(tmp_path):
    data = coco_data()
    data["categories"][1]["name"] = "background"
    with pytest.raises(GroundTruthError, match=r"x\.json: classes: expected names without the background"):
        open_dataset(write_json(tmp_path / "x.json", data))


@pytest.mark.parametrize("text", ["x" * 1_000_000, "\x1b[31m" * 1000, "\u202e\n\r\x9b" * 1000])
def test_long_and_unprintable_names_give_short_printable_errors(tmp_path, text):
    changes: list[Callable[[Any], None]] = [
        lambda data: data["images"][0].update(file_name=f"{text}.png"),
        lambda data: data["images"][0].update(id=[text]),
        lambda data: data["annotations"][0].update(category_id=text),
        lambda data: data["annotations"][0].update(bbox=[text] * 5),
        lambda data: data["annotations"][0].update(iscrowd=text),
        lambda data: data["categories"].extend([{"id": 8, "name": text}, {"id": 9, "name": text}]),
    ]
    for change in changes:
        data = coco_data()
        change(data)
        path = write_json(tmp_path / "x.json", data)
        with pytest.raises(GroundTruthError) as error:
            open_dataset(path, policy="raise")
        refused(error, path)


@pytest.mark.parametrize("depth", [10, 150, 400, 900, 100_000])
def test_deeply_nested_json_is_refused(tmp_path, depth):
    path = tmp_path / "annotations.json"
    for text in ('{"images": {"0.png": %s}}', '{"images": %s}', '{"images": [], "categories": [%s]}', "%s"):
        path.write_text(text % ("[" * depth + "]" * depth))
        with pytest.raises(GroundTruthError) as error:
            open_dataset(path)
        refused(error, path)


def test_json_may_be_in_other_unicode_encodings(tmp_path):
    path = write_json(tmp_path / "annotations.json", folder_data())
    text = path.read_text()
    for encoding in ("utf-8-sig", "utf-16", "utf-32"):
        path.write_bytes(text.encode(encoding))
        assert len(open_dataset(path)) == 2
    path.write_bytes(text.encode("utf-16")[:-1])
    with pytest.raises(GroundTruthError) as error:
        open_dataset(path)
    refused(error, path)


def test_only_some_missing_classes_are_compared_with_known_ones(tmp_path, monkeypatch):
    compared = []
    monkeypatch.setattr("difflib.get_close_matches", lambda word, *_: compared.append(word) or [])
    data = coco_data()
    data["categories"] = [{"id": i, "name": f"{i}" + "x" * 10_000} for i in range(300)]
    data["annotations"] = [{**data["annotations"][0], "id": i, "category_id": i} for i in range(300)]
    dataset = open_dataset(write_json(tmp_path / "x.json", data))
    with pytest.raises(ValueError, match=r"does not know 300 classes .* 292 more; it knows person, .*") as error:
        missing_classes(load_detector(device="cpu"), dataset)
    refused(error)
    assert len(compared) == 8 and max(map(len, compared)) == 100


def test_classes_without_ground_truths_are_not_evaluated(tmp_path, monkeypatch):
    cocoeval = pytest.importorskip("pycocotools.cocoeval", reason="pycocotools is not installed")
    visits = []
    evaluate_image = cocoeval.COCOeval.evaluateImg
    monkeypatch.setattr(
        cocoeval.COCOeval, "evaluateImg", lambda *arguments: visits.append(1) or evaluate_image(*arguments)
    )
    data = coco_data()
    data["categories"] += [{"id": 100 + i, "name": f"class {i}"} for i in range(300)]
    dataset = open_dataset(write_json(tmp_path / "x.json", data))
    found = [{"boxes": s.boxes, "scores": np.ones(len(s.boxes)), "labels": s.labels} for s in dataset.samples]
    evaluation = evaluate_detections(found, dataset)
    assert evaluation.ap == evaluation.voc12 == 1 and len(evaluation.per_class) == 302
    assert len(visits) == 2 * 1 * 4, "not images x classes with ground truths x ranges of area"


class Counted(str):
    """A string that counts how often it is compared."""

    compared = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return str.__eq__(self, other)


@pytest.fixture
def names(monkeypatch) -> list[Counted]:
    monkeypatch.setattr(Counted, "compared", 0)
    return [Counted(f"class {number}") for number in range(MANY)]


def test_duplicate_keys_are_found_in_linear_time(tmp_path, names, monkeypatch):
    pairs = [(name, 1) for name in [*names, Counted(names[-1])]]
    monkeypatch.setattr("json.loads", lambda _, object_pairs_hook: object_pairs_hook(pairs))
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(GroundTruthError, match=f"each key of an object once, got 'class {MANY - 1}' twice"):
        read_json(tmp_path / "x.json")
    assert Counted.compared < 10 * MANY


def test_classes_are_checked_in_linear_time(tmp_path, names):
    assert len(check_classes(names, "here")) == MANY
    data = {"categories": [{"id": index, "name": name} for index, name in enumerate(names)], "annotations": []}
    data["images"] = [{"id": 1, "file_name": "0.png"}]
    _, classes = read_coco(tmp_path / "x.json", data, "", tmp_path)
    assert len(classes) == MANY

    class Dataset:
        pass

    Dataset.classes = tuple(names)
    assert labels_of(Dataset, [Counted(name) for name in names]) == set(range(1, MANY + 1))
    assert Counted.compared < 20 * MANY


SWAPS: list[Any] = [None, True, -1, 0, 7, 10, 1e400, float("nan"), 10**400]
SWAPS += ["", "cat", "0.png", "../x", "\x1b[2J", "x" * 9999, "\ud800", "a\0b"]
SWAPS += [[], {}, [[]], [1, 2, 3, 4], {"box": [1, 2, 3, 4], "label": "cat"}, [{"id": 1}], {"a": {"b": 1}}]


def mutated_value(value: Any, rng: random.Random) -> Any:
    """Return the value with one to three parts replaced, duplicated or deleted."""
    value = copy.deepcopy(value)
    for _ in range(rng.randint(1, 3)):
        at = value
        while isinstance(at, (dict, list)) and at:
            key = rng.choice(list(at) if isinstance(at, dict) else range(len(at)))
            if not isinstance(at[key], (dict, list)) or not at[key] or rng.random() < 0.3:
                if rng.random() < 0.2:
                    del at[key]
                elif isinstance(at, list) and rng.random() < 0.3:
                    at.append(copy.deepcopy(at[key]))
                else:
                    at[key] = copy.deepcopy(rng.choice(SWAPS))
                break
            at = at[key]
    return value


def mutated_bytes(content: bytes, rng: random.Random) -> bytes:
    """Return the bytes with some of them replaced, repeated or cut off."""
    changed = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(len(changed) + 1)
        kind = rng.randrange(4)
        if kind == 0:
            changed[at : at + rng.randint(1, 4)] = rng.randbytes(rng.randint(0, 4))
        elif kind == 1:
            changed[at:at] = changed[rng.randrange(len(changed) + 1) :][:30]
        elif kind == 2 and at < len(changed):
            changed[at] ^= 1 << rng.randrange(8)
        elif rng.random() < 0.2:
            del changed[at:]
    return bytes(changed)


def encoded(kind: str) -> bytes:
    pixels = np.arange(HEIGHT * WIDTH * 3, dtype=np.uint8).reshape(HEIGHT, WIDTH, 3)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, kind, **({"exif": exif} if kind in ("PNG", "JPEG", "TIFF") else {}))
    return file.getvalue()


def read_all(path: Path) -> None:
    """Open a dataset and read its images; any error must be of a documented kind and name a file."""
    for policy in ("drop", "raise", "clip"):
        try:
            for image, _ in open_dataset(path, policy=policy):
                assert image.ndim == 3
        except (ValueError, FileNotFoundError) as error:
            assert str(error).isprintable() and str(path.parent) in str(error), repr(error)


ROUNDS = int(os.environ.get("SSD_FAST_FUZZ_ROUNDS", "1"))  # more for a longer search


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(40 * ROUNDS))
def test_mutated_datasets_are_read_or_refused(tmp_path, seed):
    rng = random.Random(seed)
    for kind, data in (("coco", coco_data()), ("folder", {**folder_data(), "splits": {"train": ["0.png"]}})):
        path = write_json(tmp_path / kind / "x.json", data)
        for _ in range(4):
            path.write_text(json.dumps(mutated_value(data, rng)))
            read_all(path)
            path.write_bytes(mutated_bytes(json.dumps(data).encode(), rng))
            read_all(path)
    body = f"<filename>a.png</filename><size><width>{WIDTH}</width><height>{HEIGHT}</height></size>{object_xml()}"
    root = write_voc(tmp_path / "voc", {"a": body}, {"train": ["a"]})
    for file in (root / "Annotations" / "a.xml", root / "ImageSets" / "Main" / "train.txt"):
        content = file.read_bytes()
        for _ in range(4):
            file.write_bytes(mutated_bytes(content, rng))
            read_all(root)
        file.write_bytes(content)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "JPEG2000"])
def test_mutated_images_are_read_or_refused(tmp_path, kind):
    rng = random.Random(kind)
    content = encoded(kind)
    path = write_json(tmp_path / "x.json", {"classes": ["cat"], "images": {"0.png": []}}, count=0)
    for _ in range(60 * ROUNDS):
        (tmp_path / "0.png").write_bytes(mutated_bytes(content, rng))
        read_all(path)


@pytest.mark.usefixtures("one_thread")
def test_detect_reads_or_refuses_mutated_images(tmp_path):
    rng = random.Random(0)
    kinds = ("PNG", "JPEG", "GIF", "TIFF", "WEBP")
    for index in range(20 * ROUNDS):
        (tmp_path / f"{index}.png").write_bytes(mutated_bytes(encoded(kinds[index % len(kinds)]), rng))
    result = run("detect", "--json", "--device", "cpu", tmp_path)
    assert result.exit_code in (FINE, FAILED) and isinstance(result.exception, (SystemExit, type(None)))
    assert len(json.loads(result.stdout)) + result.stderr.count("error: ") == 20 * ROUNDS
    assert "Traceback" not in result.output


@pytest.mark.usefixtures("one_thread")
def test_eval_reads_or_refuses_mutated_datasets(tmp_path):
    pytest.importorskip("pycocotools", reason="pycocotools, which computes COCO AP, is not installed")
    rng = random.Random(1)
    path = write_json(tmp_path / "x.json", coco_data())
    options = ("--device", "cpu", "--ignore-missing")
    assert run("eval", path, *options).exit_code == FINE
    for _ in range(30 * ROUNDS):
        path.write_text(json.dumps(mutated_value(coco_data(), rng)))
        result = run("eval", path, *options)
        if result.exit_code != FINE:
            one_line(result)
        assert all(text.replace("\n", "").isprintable() for text in (result.stdout, result.stderr))
