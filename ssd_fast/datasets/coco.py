"""Datasets in COCO's JSON, and any dataset as such a JSON."""

from __future__ import annotations

import os
from collections.abc import Container
from pathlib import Path
from typing import Any

from .._io.text import brief
from ..ground_truth import GroundTruthError
from .assembly import RawImage, RawItem
from .dataset import DetectionDataset
from .files import image_path, number, read_box

__all__ = ["read_coco", "to_coco"]

_IDS = 2**63  # larger integers could all have the same hash, and so make every look-up slow


def read_coco(path: Path, data: Any, split: str, images: Path | None) -> tuple[list[RawImage], tuple[str, ...]]:
    """The images in the file's order, and its classes in the order of their ids.

    Args:
        path: the JSON file, which `data` was read from.
        split: its name, for the folder of the images: they are beside the file or in its parent folder, or there in
            images/, in <split>/ or in images/<split>/.
        images: that folder instead.

    Raises:
        GroundTruthError: the message names file and item.
    """
    if not isinstance(data, dict):
        raise GroundTruthError(f"{path}: COCO: expected an object, got {type(data).__name__}")
    names = _categories(path, data)
    entries = _by_id(path, data, "images")
    if not entries:
        raise GroundTruthError(f"{path}: images: expected at least 1 image, got 0")
    files = {key: _file(path, where, entry) for key, (where, entry) in entries.items()}
    folder = images or _find_folder(path, split, list(files.values()))
    raws = {}
    for key, (where, entry) in entries.items():
        raws[key] = RawImage(path, where, folder / files[key], entry["file_name"], _size(path, where, entry))
    seen: dict[Any, str] = {}
    for index, annotation in enumerate(_list(path, data, "annotations")):
        where = f"annotations[{index}]"
        if not isinstance(annotation, dict):
            raise GroundTruthError(f"{path}: {where}: expected an object, got {brief(annotation)}")
        if "id" in annotation:
            where = _identify(path, where, annotation, seen)
        image = _known(path, where, annotation, "image_id", raws)
        raws[image].items.append(_item(path, index, where, annotation, names))
    return list(raws.values()), tuple(names.values())


def to_coco(dataset: DetectionDataset) -> dict[str, Any]:
    """The ground truths of a dataset as COCO's JSON has them, for pycocotools or a file.

    Returns:
        {"images", "annotations", "categories"}: an image's id is 1 + its index in the dataset, a category's id
            its label, an annotation's id counts from 1. "bbox" is xywh in pixels. "area" is that of the box, since
            segmentations are not read: COCO's own, of the mask, is smaller, and moves objects between small, medium and
            large. "iscrowd" and "ignore" are 1 where the ground truth is ignored (pycocotools heeds iscrowd alone).
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index, sample in enumerate(dataset.samples):
        height, width = sample.size
        images.append({"id": index + 1, "file_name": sample.name, "width": width, "height": height})
        columns = (sample.boxes.tolist(), sample.labels.tolist(), sample.ignored.tolist())
        for (x1, y1, x2, y2), label, ignored in zip(*columns, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index + 1,
                    "category_id": label,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": int(ignored),
                    "ignore": int(ignored),
                }
            )
    categories = [{"id": label, "name": name} for label, name in enumerate(dataset.classes, 1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _list(path: Path, data: dict[str, Any], key: str) -> list[Any]:
    value = data.get(key)
    if not isinstance(value, list):
        given = "nothing" if key not in data else type(value).__name__
        raise GroundTruthError(f"{path}: {key}: expected a list, got {given}")
    return value


def _by_id(path: Path, data: dict[str, Any], key: str) -> dict[Any, tuple[str, dict[str, Any]]]:
    """The objects of a list by their ids, each with the words that name it."""
    found: dict[Any, tuple[str, dict[str, Any]]] = {}
    seen: dict[Any, str] = {}
    for index, entry in enumerate(_list(path, data, key)):
        where = f"{key}[{index}]"
        if not isinstance(entry, dict):
            raise GroundTruthError(f"{path}: {where}: expected an object, got {brief(entry)}")
        where = _identify(path, where, entry, seen)
        found[entry["id"]] = where, entry
    return found


def _identify(path: Path, where: str, entry: dict[str, Any], seen: dict[Any, str]) -> str:
    """where, with the id; which no entry seen before has."""
    key = entry.get("id")
    if isinstance(key, bool) or not isinstance(key, (int, str)) or (isinstance(key, int) and abs(key) >= _IDS):
        raise GroundTruthError(f"{path}: {where}: id: expected an integer of 64 bits or a string, got {brief(key)}")
    if key in seen:
        raise GroundTruthError(f"{path}: {where}: id: expected each id once, got {key!r}, as {seen[key]} has")
    seen[key] = where
    return f"{where} (id {key})"


def _known(path: Path, where: str, entry: dict[str, Any], key: str, known: Container[Any]) -> Any:
    value = entry.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, str)) or value not in known:
        list_name = {"image_id": "images", "category_id": "categories"}[key]
        raise GroundTruthError(f"{path}: {where}: {key}: expected the id of one of the {list_name}, got {brief(value)}")
    return value


def _categories(path: Path, data: dict[str, Any]) -> dict[Any, str]:
    """Names by id, in the order of the ids, which may have gaps."""
    found: dict[Any, str] = {}
    taken: set[str] = set()
    for key, (where, entry) in _by_id(path, data, "categories").items():
        name = entry.get("name")
        if not isinstance(key, int):
            raise GroundTruthError(f"{path}: {where}: id: expected an integer, got {key!r}")
        if not isinstance(name, str) or not name.strip() or name in taken:
            raise GroundTruthError(f"{path}: {where}: name: expected one that no other has, got {brief(name)}")
        taken.add(name)
        found[key] = name
    if not found:
        raise GroundTruthError(f"{path}: categories: expected at least 1, got 0")
    return dict(sorted(found.items()))


def _file(path: Path, where: str, entry: dict[str, Any]) -> Path:
    """The image's place within the folder of the images."""
    name, where = entry.get("file_name"), f"{path}: {where}: file_name"
    if not isinstance(name, str):
        raise GroundTruthError(f"{where}: expected a name, got {brief(name)}")
    return image_path(Path(), name, where)


def _size(path: Path, where: str, entry: dict[str, Any]) -> tuple[float, float] | None:
    if "width" not in entry and "height" not in entry:
        return None
    width, height = number(entry.get("width")), number(entry.get("height"))
    if width is None or height is None:
        given = f"{brief(entry.get('width'))}, {brief(entry.get('height'))}"
        raise GroundTruthError(f"{path}: {where}: width, height: expected numbers, got {given}")
    return height, width


def _item(path: Path, index: int, where: str, annotation: dict[str, Any], names: dict[Any, str]) -> RawItem:
    label = names[_known(path, where, annotation, "category_id", names)]
    values = read_box(annotation.get("bbox"), f"{path}: {where} {label!r}: bbox", "x, y, width, height")
    crowd = annotation.get("iscrowd", 0)
    if not isinstance(crowd, int) or crowd not in (0, 1):
        raise GroundTruthError(f"{path}: {where} {label!r}: iscrowd: expected 0 or 1, got {brief(crowd)}")
    x, y, width, height = values
    return RawItem(index, where, label, (x, y, x + width, y + height), values, bool(crowd))


def _find_folder(path: Path, split: str, names: list[Path]) -> Path:
    """The first folder that holds any of the images; without one, the error says where they were looked for."""
    places = [place for base in (path.parent, path.parent.parent) for place in _places(base, split)]
    for some in (names[:1], names):  # the first image mostly tells
        for place in places:
            if any(os.path.isfile(place / name) for name in some):  # False too where the system refuses a name
                return place
    looked = ", ".join(str(place) for place in places)
    raise GroundTruthError(f"{path}: images: expected {str(names[0])!r} in one of {looked}; name the folder by images=")


def _places(base: Path, split: str) -> list[Path]:
    within = ["", "images", split, f"images/{split}"] if split else ["", "images"]
    return [base / place for place in within]
