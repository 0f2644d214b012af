"""Find out which format a path holds, and open it with the reader of that format."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .._checks import as_path, choice, instance
from .._io.paths import shown_path
from .._io.text import listing, printable
from ..ground_truth import GroundTruthError, Policy
from ..ground_truth.policy import check_policy
from ..images import IMAGE_SUFFIXES
from .assembly import Format, build
from .coco import COCO
from .dataset import DetectionDataset, check_classes
from .files import json_splits, read_json
from .folder import FOLDER
from .voc import VOC

__all__ = ["FORMATS", "list_splits", "open_dataset"]

FORMATS: dict[str, Format] = {"voc": VOC, "coco": COCO, "folder": FOLDER}

_JSON_TYPES: dict[type | None, str] = {list: "a list", dict: "an object"}


def open_dataset(
    path: str | os.PathLike[str],
    split: str | None = None,
    *,
    format: str = "auto",
    classes: Sequence[str] | None = None,
    policy: Policy = "drop",
    images: str | os.PathLike[str] | None = None,
) -> DetectionDataset:
    """Open a dataset on disk; annotations and the headers of images are read, but no pixels.

    Formats:
        - "voc": a folder with Annotations/*.xml, JPEGImages/ and ImageSets/Main/<split>.txt. Without a split, all
          annotations are read. Coordinates are taken unchanged, though VOC's own count from 1; difficult is ignored.
        - "coco": a JSON file, or a folder with annotations/instances_<split>.json, whose split may be omitted if there
          is only one. Images are beside the JSON or in its parent folder, or there in images/ or <split>/. iscrowd is
          ignored; segmentations are not read.
        - "folder": a folder of images with annotations.json, or such a file: see ssd_fast.datasets.folder.
        - "auto": whichever of these is found; for a JSON file, the content decides.

    Args:
        path: a folder or a JSON file.
        split: the name of the split; None for everything (for COCO, the only split).
        format: one of the above.
        classes: the order of the classes. None: the order of COCO's category ids, the order in the folder's file, or,
            where no file lists them, the names that occur anywhere in the dataset, sorted, so that the labels of its
            splits agree.
        policy: how to handle a box that is not finite, has no width or height, or extends beyond the image by more than
            1 pixel (up to 1 pixel is cut off at the edge, since annotations are rounded), and a size in the file that
            differs from the image's. "raise": an error that names them. "drop": such boxes, and images with a wrong
            size, are left out. "clip": boxes are cut off at the edge and left out only if nothing remains; images keep
            their true size. An image whose boxes are all left out stays, without boxes.
        images: the folder to which image names refer, instead of the format's own.

    Returns:
        The dataset. What "drop" and "clip" changed is listed in its `problems`.

    Raises:
        FileNotFoundError: path or images does not exist.
        TypeError: a path, split or images of another type.
        ValueError: an unknown format or policy. Also, as GroundTruthError that names file and item: an unknown split
            (the message lists the splits), no image, a missing or unreadable file, image names that lead out of their
            folder, ids, names or images that occur twice, unknown ids or classes, values that are not numbers, and,
            with "raise", the faults above.

    Warns:
        GroundTruthWarning: once, if there are problems.

    Examples:
        >>> import json, tempfile
        >>> from pathlib import Path
        >>> import PIL.Image
        >>> from ssd_fast.datasets import open_dataset
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     PIL.Image.new("RGB", (200, 100)).save(Path(folder, "a.png"))
        ...     content = {"images": {"a.png": [{"box": [10, 20, 30, 60], "label": "cat"}]}}
        ...     _ = Path(folder, "annotations.json").write_text(json.dumps(content))
        ...     dataset = open_dataset(folder)
        ...     image, target = dataset[0]
        >>> dataset.classes, tuple(image.shape), target["boxes"].tolist()
        (('cat',), (3, 100, 200), [[10.0, 20.0, 30.0, 60.0]])
    """
    check_policy(policy, "open_dataset")
    origin = _checked_path("open_dataset", path, format)
    order = None if classes is None else check_classes(classes, "open_dataset: classes")
    if split is not None:
        instance("open_dataset", "split", split, str, "the name of a split, or None")
    folder = None if images is None else as_path("open_dataset", "images", images, "the path of a folder")
    if folder is not None and not os.path.isdir(folder):
        expected = f"a folder, {printable(str(folder))} does not exist or is not one"
        raise FileNotFoundError(f"open_dataset: images: expected {expected}")
    chosen = _chosen(origin, format)
    file = chosen.file(origin, split) if chosen is not None and origin.is_dir() else origin
    data = None
    if chosen is None or chosen.json_images is not None:
        data = read_json(file)
        chosen = _of_json(file, data) if chosen is None or format == "auto" else chosen
    raws, listed = chosen.read(file, data, split, folder, order)
    return build(file, raws, order or listed, policy)


def list_splits(path: str | os.PathLike[str], *, format: str = "auto") -> list[str]:
    """List the names of a dataset's splits, sorted; empty if it has none.

    Args:
        path: as for open_dataset.
        format: as for open_dataset.

    Raises:
        FileNotFoundError: path does not exist.
        TypeError: a path of another type.
        ValueError: an unknown format. Also, as GroundTruthError, a path that holds no dataset, or an unreadable file.

    Examples:
        >>> import json, tempfile
        >>> from pathlib import Path
        >>> from ssd_fast.datasets import list_splits
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     content = {"images": {"a.png": [], "b.png": []}, "splits": {"train": ["a.png"], "test": ["b.png"]}}
        ...     _ = Path(folder, "annotations.json").write_text(json.dumps(content))
        ...     list_splits(folder)
        ['test', 'train']
    """
    origin = _checked_path("list_splits", path, format)
    chosen = _chosen(origin, format)
    return json_splits(origin) if chosen is None else chosen.splits(origin)


def _checked_path(op: str, path: str | os.PathLike[str], format: str) -> Path:
    choice(op, "format", format, ("auto", *FORMATS))
    origin = as_path(op, "path", path, "the path of a folder or a JSON file")
    if not os.path.exists(origin):
        raise FileNotFoundError(f"{op}: path: expected a folder or a JSON file, {shown_path(origin)} does not exist")
    if origin.suffix.lower() in IMAGE_SUFFIXES and not origin.is_dir():
        raise GroundTruthError(f"{origin}: expected a dataset, which is a folder or a JSON file, got an image")
    return origin


def _chosen(origin: Path, format: str) -> Format | None:
    """The format by its name, or the one that a folder holds; None if a file's content must decide."""
    if format != "auto":
        return FORMATS[format]
    return _of_folder(origin) if origin.is_dir() else None


def _of_folder(folder: Path) -> Format:
    found = [name for name, known in FORMATS.items() if known.in_folder(folder)]
    if len(found) != 1:
        *marks, last = [f'{known.folder_mark} ("{name}")' for name, known in FORMATS.items()]
        given = f"found {' and '.join(found)}: choose by format=" if found else "found none"
        raise GroundTruthError(
            f"{folder}: expected one of the formats, looked for {', '.join(marks)} and {last}, {given}"
        )
    return FORMATS[found[0]]


def _of_json(file: Path, data: Any) -> Format:
    images = data.get("images") if isinstance(data, dict) else None
    for known in FORMATS.values():
        if known.json_images is not None and isinstance(images, known.json_images):
            return known
    marks = [f'{_JSON_TYPES[known.json_images]} for "{name}"' for name, known in FORMATS.items() if known.json_images]
    given = f"an object with {listing(data) or 'nothing'}" if isinstance(data, dict) else type(data).__name__
    looked = f'"images" in it, {", ".join(marks)}'
    raise GroundTruthError(f"{file}: expected one of the formats, looked for {looked}, got {given:.60}")
