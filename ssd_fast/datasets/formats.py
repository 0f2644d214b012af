"""open_dataset: which format a path holds, and its reader."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from .._checks import as_path, choice, instance
from .._io.paths import shown_path
from .._io.text import listing, printable
from ..ground_truth import GroundTruthError, Policy
from ..ground_truth.policy import check_policy
from ..images import IMAGE_SUFFIXES
from .assembly import build
from .coco import read_coco
from .dataset import DetectionDataset, check_classes
from .files import find_splits, read_json, unknown_split
from .folder import read_folder
from .voc import read_voc, voc_splits

__all__ = ["list_splits", "open_dataset"]

_FORMATS = ("auto", "voc", "coco", "folder")
_INSTANCES = "instances_"


def open_dataset(
    path: str | os.PathLike[str],
    split: str | None = None,
    *,
    format: Literal["auto", "voc", "coco", "folder"] = "auto",
    classes: Sequence[str] | None = None,
    policy: Policy = "drop",
    images: str | os.PathLike[str] | None = None,
) -> DetectionDataset:
    """The images and ground truths of a dataset on disk; annotations and the headers of images are read, no pixels.

    Formats, and how `path` names them:
        "voc": a folder with Annotations/*.xml, JPEGImages/ and ImageSets/Main/<split>.txt. Without a split: all
            annotations. Coordinates are taken as they stand, though VOC's own count from 1; difficult is ignored.
        "coco": a JSON file, or a folder with annotations/instances_<split>.json, whose split may be left out if there
            is one. Images are beside the JSON or in its parent folder, or there in images/ or <split>/. iscrowd is
            ignored; segmentations are not read.
        "folder": a folder of images with annotations.json, or such a file: see ssd_fast.datasets.folder.
        "auto": whichever of these is there; of a JSON file the content decides.

    Args:
        path: a folder or a JSON file.
        split: its name; None: everything (of COCO's: the only one).
        classes: fixes their order. None: the order of COCO's category ids, that of the folder's file, or, where no file
            lists them, the names that occur, sorted; in all of the dataset, so that the labels of its splits agree.
        policy: what becomes of a box that is not finite, has no width or height or reaches out of the image by more
            than 1 pixel (up to that it is cut off at the edge, as annotations are rounded), and of a size in the file
            that is not the image's. "raise": an error that names them. "drop": such boxes, and images with a wrong
            size, are left out. "clip": boxes are cut off at the edge and left out only if nothing remains; images keep
            their true size. An image whose boxes are all left out stays, without any.
        images: the folder that image names refer to, in place of the format's.

    Returns:
        the dataset. What "drop" and "clip" did is in its `problems`.

    Raises:
        FileNotFoundError: path or images does not exist.
        TypeError: a path, split or images of another kind, an unknown format or policy. GroundTruthError (a
            ValueError), naming file and item: an unknown split (those there are), no image, a missing or unreadable
            file, names of images that lead out of their folder, ids, names or images that occur twice, unknown ids or
            classes, what is not a number, and, with "raise", the faults above.
        ValueError: a path, split or images of another kind, an unknown format or policy. GroundTruthError (a
            ValueError), naming file and item: an unknown split (those there are), no image, a missing or unreadable
            file, names of images that lead out of their folder, ids, names or images that occur twice, unknown ids or
            classes, what is not a number, and, with "raise", the faults above.

    Warns:
        GroundTruthWarning, once, if there are problems.
    """
    check_policy(policy, "open_dataset")
    choice("open_dataset", "format", format, _FORMATS)
    order = None if classes is None else check_classes(classes, "open_dataset: classes")
    if split is not None:
        instance("open_dataset", "split", split, str, "the name of a split, or None")
    origin = as_path("open_dataset", "path", path, "the path of a folder or a JSON file")
    if not os.path.exists(origin):
        expected = f"a folder or a JSON file, {shown_path(origin)} does not exist"
        raise FileNotFoundError(f"open_dataset: path: expected {expected}")
    if origin.suffix.lower() in IMAGE_SUFFIXES and not origin.is_dir():
        raise GroundTruthError(f"{origin}: expected a dataset, which is a folder or a JSON file, got an image")
    folder = None if images is None else as_path("open_dataset", "images", images, "the path of a folder")
    if folder is not None and not os.path.isdir(folder):
        expected = f"a folder, {printable(str(folder))} does not exist or is not one"
        raise FileNotFoundError(f"open_dataset: images: expected {expected}")
    kind = _kind_of_folder(origin) if format == "auto" and origin.is_dir() else format
    if kind == "voc":
        if not origin.is_dir():
            raise GroundTruthError(f"{origin}: VOC: expected a folder, got a file")
        raws, listed = read_voc(origin, split, folder, order)
        return build(origin, raws, listed, policy)
    file = _annotations(origin, split, kind) if origin.is_dir() else origin
    data = read_json(file)
    if format == "auto":
        kind = _kind_of_json(file, data)
    if kind == "coco":
        raws, listed = read_coco(file, data, _own_split(file, split), folder)
    else:
        raws, listed = read_folder(file, data, split, folder)
    return build(file, raws, order or listed, policy)


def list_splits(path: str | os.PathLike[str], *, format: str = "auto") -> list[str]:
    """The names of a dataset's splits, sorted; none where nothing is split. Arguments and errors: of open_dataset."""
    origin = Path(path)
    kind = _kind_of_folder(origin) if format == "auto" and origin.is_dir() else format
    if kind == "voc":
        return voc_splits(origin / "ImageSets" / "Main")
    if kind == "coco" and origin.is_dir():
        return find_splits(origin / "annotations", _INSTANCES, ".json")
    data = read_json(_annotations(origin, None, "folder") if origin.is_dir() else origin)
    splits = data.get("splits") if isinstance(data, dict) else None
    return sorted(splits) if isinstance(splits, dict) else []


def _kind_of_folder(folder: Path) -> str:
    found = []
    if any((folder / "Annotations").glob("*.xml")):
        found.append("voc")
    if find_splits(folder / "annotations", _INSTANCES, ".json"):
        found.append("coco")
    if (folder / "annotations.json").is_file():
        found.append("folder")
    if len(found) != 1:
        looked = 'Annotations/*.xml ("voc"), annotations/instances_*.json ("coco") and annotations.json ("folder")'
        given = f"found {' and '.join(found)}: choose by format=" if found else "found none"
        raise GroundTruthError(f"{folder}: expected one of the formats, looked for {looked}, {given}")
    return found[0]


def _kind_of_json(file: Path, data: Any) -> str:
    images = data.get("images") if isinstance(data, dict) else None
    if isinstance(images, list):
        return "coco"
    if isinstance(images, dict):
        return "folder"
    looked = '"images" in it, a list for "coco", an object for "folder"'
    given = f"an object with {listing(data) or 'nothing'}" if isinstance(data, dict) else type(data).__name__
    raise GroundTruthError(f"{file}: expected one of the formats, looked for {looked}, got {given:.60}")


def _annotations(folder: Path, split: str | None, kind: str) -> Path:
    """The JSON file of a folder."""
    if kind == "folder":
        if not (folder / "annotations.json").exists():
            raise GroundTruthError(f"{folder}: folder: expected the file annotations.json, which does not exist")
        return folder / "annotations.json"
    known = find_splits(folder / "annotations", _INSTANCES, ".json")
    if not known:
        raise GroundTruthError(f"{folder}: COCO: expected a file annotations/instances_<split>.json, found none")
    if split is None and len(known) > 1:
        raise GroundTruthError(f"{folder}: COCO: expected split, one of {listing(known)}, got None")
    if split is not None and split not in known:
        raise unknown_split(folder, split, known)
    return folder / "annotations" / f"{_INSTANCES}{split or known[0]}.json"


def _own_split(file: Path, split: str | None) -> str:
    """The split that a COCO file is by its name, or no name."""
    own = file.stem.removeprefix(_INSTANCES) if file.stem.startswith(_INSTANCES) else ""
    if split is not None and split != own:
        expected = f"no split, or {own!r}" if own else "no split"
        raise GroundTruthError(f"{file}: COCO: a JSON file is one split: expected {expected}, got {split!r}")
    return own
