"""Read datasets in the layout of PASCAL VOC: one XML file per image, and lists of names for the splits."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from collections.abc import Container
from pathlib import Path

from ..ground_truth import GroundTruthError
from ..images import IMAGE_SUFFIXES
from .assembly import Classes, Format, RawImage, RawItem
from .files import find_splits, image_path, read_bytes, read_xml, unknown_split

__all__ = ["VOC", "read_voc"]

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def read_voc(
    root: Path, split: str | None, images: Path | None, classes: Classes | None
) -> tuple[list[RawImage], Classes]:
    """Read the images of a split in its order, or all images sorted by name, and the classes.

    Args:
        root: the folder that holds Annotations/, JPEGImages/ and ImageSets/Main/.
        split: the name of the split; None for all annotations.
        images: the folder of the images, instead of JPEGImages/.
        classes: the classes; None for those that occur in any annotation, sorted, so that the labels of splits agree.

    Raises:
        GroundTruthError: the data is faulty; the message names the file and the item.
    """
    if not root.is_dir():
        raise GroundTruthError(f"{root}: VOC: expected a folder, got a file")
    annotations = root / "Annotations"
    folder = root / "JPEGImages" if images is None else images
    for needed in (annotations, folder):
        if not needed.is_dir():
            raise GroundTruthError(f"{root}: VOC: expected the folder {needed}, which does not exist")
    known = {path.stem: path for path in sorted(annotations.glob("*.xml"))}
    if not known:
        raise GroundTruthError(f"{annotations}: expected at least 1 annotation, *.xml, got 0")
    names = list(known) if split is None else _names(root / "ImageSets" / "Main", split, known)
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            files.setdefault(path.stem, []).append(path)
    raws = [_image(known[name], folder, files.get(name, [])) for name in names]
    if classes is None:
        found = {item.label for raw in raws for item in raw.items}
        for name in known.keys() - set(names):
            found.update(_label(element) for element in read_xml(known[name]).findall("object"))
        classes = tuple(sorted(found - {""}))
    return raws, classes


def _names(folder: Path, split: str, known: dict[str, Path]) -> list[str]:
    """Read the names that a split lists, each of which must have an annotation."""
    path = folder / f"{split}.txt"
    if not path.is_file():
        raise unknown_split(folder, split, voc_splits(folder))
    try:
        lines = read_bytes(path).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise GroundTruthError(f"{path}: byte {error.start}: expected names in UTF-8, got other bytes") from error
    numbered = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
    if not numbered:
        raise GroundTruthError(f"{path}: expected at least 1 image name, got an empty split")
    seen: dict[str, int] = {}
    for line, name in numbered:
        if name not in known:
            columns = name.split()
            if len(columns) == 2 and columns[0] in known:
                expected = (
                    f"one name per line, got {name!r} (a file for one class, such as cat_train.txt, is not a split)"
                )
            else:
                expected = f"names with an annotation, got {name!r} without {name}.xml in Annotations"
            raise GroundTruthError(f"{path}: line {line}: expected {expected}")
        if name in seen:
            raise GroundTruthError(
                f"{path}: line {line}: expected each name once, got {name!r} again, as in line {seen[name]}"
            )
        seen[name] = line
    return list(seen)


def voc_splits(folder: Path) -> list[str]:
    """List the splits in ImageSets/Main, sorted."""
    splits = dict.fromkeys(find_splits(folder, "", ".txt"))
    return [name for name in splits if not _is_of_one_class(name, splits)]


def _is_of_one_class(name: str, splits: Container[str]) -> bool:
    """Whether the file is for one class: cat_train.txt says which images of train show a cat, and is not a split."""
    parts = name.split("_")
    return any("_".join(parts[first:]) in splits for first in range(1, len(parts)))


def _image(path: Path, folder: Path, candidates: list[Path]) -> RawImage:
    root = read_xml(path)
    if root.tag != "annotation":
        raise GroundTruthError(f"{path}: expected the root element <annotation>, got <{root.tag}>")
    # The image has the name of its annotation; <filename>, stale in many datasets, decides where that is not enough.
    named = (root.findtext("filename") or "").strip()
    if len(candidates) != 1 and named:
        place = image_path(folder, named, f"{path}: filename")
        candidates = [place] if os.path.isfile(place) else candidates
    if len(candidates) > 1:
        found = ", ".join(candidate.name for candidate in candidates)
        raise GroundTruthError(f"{path}: expected one image {path.stem} in {folder}, got {found}")
    if not candidates:
        also = f" or {named!r}" if named and Path(named).stem != path.stem else ""
        expected = f"an image {path.stem}.jpg (or {', '.join(IMAGE_SUFFIXES[1:])}){also} in {folder}"
        raise GroundTruthError(f"{path}: expected {expected}, which does not exist")
    items = [_item(path, index, element) for index, element in enumerate(root.findall("object"))]
    return RawImage(path, "filename", candidates[0], candidates[0].name, _size(path, root), items)


def _size(path: Path, root: ET.Element) -> tuple[float, float] | None:
    element = root.find("size")
    if element is None:
        return None
    width, height = (_number(path, "size", element, tag) for tag in ("width", "height"))
    return height, width


def _item(path: Path, index: int, element: ET.Element) -> RawItem:
    where = f"object {index}"
    label = _label(element)
    if not label:
        raise GroundTruthError(f"{path}: {where}: expected a <name>, got none")
    boxes = element.findall("bndbox")
    if len(boxes) != 1:
        raise GroundTruthError(f"{path}: {where} {label!r}: expected one <bndbox>, got {len(boxes)}")
    values = tuple(_number(path, f"{where} {label!r}", boxes[0], corner) for corner in _CORNERS)
    difficult = (element.findtext("difficult") or "0").strip()
    if difficult not in ("0", "1"):
        raise GroundTruthError(f"{path}: {where} {label!r}: difficult: expected 0 or 1, got {difficult!r}")
    return RawItem(index, where, label, values, values, difficult == "1")


def _label(element: ET.Element) -> str:
    return (element.findtext("name") or "").strip()


def _number(path: Path, where: str, element: ET.Element, tag: str) -> float:
    children = element.findall(tag)
    if len(children) != 1:
        others = ", ".join(sorted({child.tag for child in element})) or "nothing"
        given = f"{len(children)}; it has {others}"
        raise GroundTruthError(f"{path}: {where}: expected one <{tag}> in <{element.tag}>, got {given}")
    text = (children[0].text or "").strip()
    try:
        return float(text if "_" not in text else "")  # Python would read 1_0 as 10
    except ValueError:
        raise GroundTruthError(f"{path}: {where}: {tag}: expected a number, got {text!r}") from None


VOC = Format(
    folder_mark="Annotations/*.xml",
    in_folder=lambda folder: any((folder / "Annotations").glob("*.xml")),
    file=lambda folder, split: folder,
    read=lambda folder, data, split, images, classes: read_voc(folder, split, images, classes),
    splits=lambda path: voc_splits(path / "ImageSets" / "Main"),
)
