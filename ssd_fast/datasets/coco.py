"""Read datasets in COCO's JSON format."""

from __future__ import annotations

import os
from collections.abc import Container
from pathlib import Path
from typing import Any

from .._io.text import brief, listing
from ..ground_truth import GroundTruthError
from .assembly import Classes, Format, RawImage, RawItem
from .files import find_splits, image_path, json_splits, number, read_box, unknown_split

__all__ = ["COCO", "read_coco"]

_INSTANCES = "instances_"
_IDS = 2**63  # larger integers could all have the same hash, which would make every lookup slow


def read_coco(path: Path, data: Any, split: str, images: Path | None) -> tuple[list[RawImage], Classes]:
    """Read the images in the file's order, and its classes in the order of their ids.

    Args:
        path: the JSON file from which `data` was read.
        data: the JSON value.
        split: the name of the split, for finding the images: they are beside the file or in its parent folder, or there
            in images/, in <split>/ or in images/<split>/.
        images: the folder of the images, instead of these.

    Raises:
        GroundTruthError: the data is faulty; the message names the file and the item.
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


def _list(path: Path, data: dict[str, Any], key: str) -> list[Any]:
    value = data.get(key)
    if not isinstance(value, list):
        given = "nothing" if key not in data else type(value).__name__
        raise GroundTruthError(f"{path}: {key}: expected a list, got {given}")
    return value


def _by_id(path: Path, data: dict[str, Any], key: str) -> dict[Any, tuple[str, dict[str, Any]]]:
    """Index the objects of a list by id, each with the words that identify it in messages."""
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
    """Check that no earlier entry has the id, and return `where` with the id."""
    key = entry.get("id")
    if isinstance(key, bool) or not isinstance(key, (int, str)) or (isinstance(key, int) and abs(key) >= _IDS):
        raise GroundTruthError(f"{path}: {where}: id: expected an integer of 64 bits or a string, got {brief(key)}")
    if key in seen:
        raise GroundTruthError(f"{path}: {where}: id: expected each id once, got {key!r}, which {seen[key]} has too")
    seen[key] = where
    return f"{where} (id {key})"


def _known(path: Path, where: str, entry: dict[str, Any], key: str, known: Container[Any]) -> Any:
    value = entry.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, str)) or value not in known:
        list_name = {"image_id": "images", "category_id": "categories"}[key]
        raise GroundTruthError(f"{path}: {where}: {key}: expected the id of one of the {list_name}, got {brief(value)}")
    return value


def _categories(path: Path, data: dict[str, Any]) -> dict[Any, str]:
    """Read the class names by id, in the order of the ids, which may have gaps."""
    found: dict[Any, str] = {}
    taken: set[str] = set()
    for key, (where, entry) in _by_id(path, data, "categories").items():
        name = entry.get("name")
        if not isinstance(key, int):
            raise GroundTruthError(f"{path}: {where}: id: expected an integer, got {key!r}")
        if not isinstance(name, str) or not name.strip() or name in taken:
            raise GroundTruthError(f"{path}: {where}: name: expected a name that no other has, got {brief(name)}")
        taken.add(name)
        found[key] = name
    if not found:
        raise GroundTruthError(f"{path}: categories: expected at least 1, got 0")
    return dict(sorted(found.items()))


def _file(path: Path, where: str, entry: dict[str, Any]) -> Path:
    """The path of the image within the folder of the images."""
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
    """Find the first folder that holds any of the images; if there is none, the error lists the folders tried."""
    places = [place for base in (path.parent, path.parent.parent) for place in _places(base, split)]
    for some in (names[:1], names):  # the first image is mostly enough
        for place in places:
            if any(os.path.isfile(place / name) for name in some):  # also False where the system refuses a name
                return place
    looked = ", ".join(str(place) for place in places)
    raise GroundTruthError(f"{path}: images: expected {str(names[0])!r} in one of {looked}; pass the folder as images=")


def _places(base: Path, split: str) -> list[Path]:
    within = ["", "images", split, f"images/{split}"] if split else ["", "images"]
    return [base / place for place in within]


def _folder_splits(folder: Path) -> list[str]:
    return find_splits(folder / "annotations", _INSTANCES, ".json")


def _annotations(folder: Path, split: str | None) -> Path:
    """The JSON file of a split."""
    known = _folder_splits(folder)
    if not known:
        raise GroundTruthError(f"{folder}: COCO: expected a file annotations/instances_<split>.json, found none")
    if split is None and len(known) > 1:
        raise GroundTruthError(f"{folder}: COCO: expected split, one of {listing(known)}, got None")
    if split is not None and split not in known:
        raise unknown_split(folder, split, known)
    return folder / "annotations" / f"{_INSTANCES}{split or known[0]}.json"


def _own_split(file: Path, split: str | None) -> str:
    """The split that a COCO file holds according to its name, or ""."""
    own = file.stem.removeprefix(_INSTANCES) if file.stem.startswith(_INSTANCES) else ""
    if split is not None and split != own:
        expected = f"no split, or {own!r}" if own else "no split"
        raise GroundTruthError(f"{file}: COCO: a JSON file is one split: expected {expected}, got {split!r}")
    return own


COCO = Format(
    folder_mark="annotations/instances_*.json",
    in_folder=lambda folder: bool(_folder_splits(folder)),
    file=_annotations,
    read=lambda file, data, split, images, classes: read_coco(file, data, _own_split(file, split), images),
    splits=lambda path: _folder_splits(path) if path.is_dir() else json_splits(path),
    json_images=list,
)
