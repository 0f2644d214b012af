"""Read a folder of images with one JSON file that can be written by hand.

    {
      "classes": ["cat", "dog"],
      "images": {
        "a.jpg": [{"box": [12, 30, 200, 180], "label": "cat"},
                  {"box": [5, 5, 60, 40], "label": "dog", "ignored": true}],
        "b.jpg": []
      },
      "splits": {"train": ["a.jpg"], "test": ["b.jpg"]}
    }

The file is `annotations.json`, beside the images. Image names may contain folders, as in "a/b.jpg", but not "..". A box
is x1, y1, x2, y2 in pixels of the upright image, from its upper left corner. "classes", "splits" and "ignored" are
optional.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .._io.text import brief, listing
from ..ground_truth import GroundTruthError
from .assembly import Classes, Format, RawImage, RawItem
from .dataset import check_classes
from .files import image_path, json_splits, read_box, unknown_split

__all__ = ["FOLDER", "read_folder"]

_FILE = "annotations.json"


def read_folder(path: Path, data: Any, split: str | None, images: Path | None) -> tuple[list[RawImage], Classes]:
    """Read the images of a split, or all images, in the file's order; and the classes of the file, or those that occur.

    Args:
        path: the JSON file from which `data` was read.
        data: the JSON value.
        split: the name of the split; None for all images.
        images: the folder of the images, if it is not the file's.

    Raises:
        GroundTruthError: the data is faulty; the message names the file and the item.
    """
    _check_keys(path, "the file", data, required=("images",), optional=("classes", "splits"))
    entries = data["images"]
    if not isinstance(entries, dict) or not entries:
        expected = "an object that maps image file names to lists of boxes"
        raise GroundTruthError(f"{path}: images: expected {expected}, got {brief(entries)}")
    names = list(entries) if split is None else _names(path, data.get("splits", {}), split, entries)
    folder = path.parent if images is None else images
    raws = {name: _image(path, folder, name, items) for name, items in entries.items()}
    if "classes" in data:
        classes = check_classes(data["classes"], f"{path}: classes")
    else:
        classes = tuple(sorted({item.label for raw in raws.values() for item in raw.items}))
    return [raws[name] for name in names], classes


def _names(path: Path, splits: Any, split: str, entries: dict[str, Any]) -> list[str]:
    if not isinstance(splits, dict):
        raise GroundTruthError(
            f"{path}: splits: expected an object that maps splits to file names, got {brief(splits)}"
        )
    if split not in splits:
        raise unknown_split(path, split, sorted(splits))
    names = splits[split]
    where = f"splits[{split!r}]"
    if not isinstance(names, list) or not names:
        raise GroundTruthError(f"{path}: {where}: expected a list of at least 1 file name, got {brief(names)}")
    seen: set[str] = set()
    for index, name in enumerate(names):
        if not isinstance(name, str) or name not in entries:
            raise GroundTruthError(f"{path}: {where}[{index}]: expected a name that is in images, got {brief(name)}")
        if name in seen:
            raise GroundTruthError(f"{path}: {where}[{index}]: expected each name once, got {name!r} again")
        seen.add(name)
    return names


def _image(path: Path, folder: Path, name: str, items: Any) -> RawImage:
    where = f"images[{name!r}]"
    if not isinstance(items, list):
        raise GroundTruthError(f"{path}: {where}: expected a list of boxes, which may be empty, got {brief(items)}")
    raws = [_item(path, index, f"{where}[{index}]", item) for index, item in enumerate(items)]
    return RawImage(path, where, image_path(folder, name, f"{path}: {where}"), name, None, raws)


def _item(path: Path, index: int, where: str, item: Any) -> RawItem:
    _check_keys(path, where, item, required=("box", "label"), optional=("ignored",))
    label, ignored = item["label"], item.get("ignored", False)
    if not isinstance(label, str) or not label.strip():
        raise GroundTruthError(f"{path}: {where}: label: expected the name of a class, got {brief(label)}")
    values = read_box(item["box"], f"{path}: {where} {label!r}: box", "x1, y1, x2, y2")
    if not isinstance(ignored, bool):
        raise GroundTruthError(f"{path}: {where} {label!r}: ignored: expected true or false, got {brief(ignored)}")
    return RawItem(index, where, label, values, values, ignored)


def _check_keys(path: Path, where: str, value: Any, required: tuple[str, ...], optional: tuple[str, ...]) -> None:
    if not isinstance(value, dict):
        raise GroundTruthError(f"{path}: {where}: expected an object with {', '.join(required)}, got {brief(value)}")
    for key in required:
        if key not in value:
            raise GroundTruthError(f"{path}: {where}: expected {key!r}, got only {listing(value) or 'nothing'}")
    unknown = [key for key in value if key not in required + optional]
    if unknown:  # a misspelled key must not go unnoticed
        known = ", ".join(required + optional)
        raise GroundTruthError(f"{path}: {where}: expected only the keys {known}, got {unknown[0]!r}")


def _annotations(folder: Path, split: str | None) -> Path:
    if not (folder / _FILE).exists():
        raise GroundTruthError(f"{folder}: folder: expected the file {_FILE}, which does not exist")
    return folder / _FILE


FOLDER = Format(
    folder_mark=_FILE,
    in_folder=lambda folder: (folder / _FILE).is_file(),
    file=_annotations,
    read=lambda file, data, split, images, classes: read_folder(file, data, split, images),
    splits=lambda path: json_splits(_annotations(path, None) if path.is_dir() else path),
    json_images=dict,
)
