"""Read the files of datasets: JSON without silent duplicates, XML without entities, and headers of images.

Any file may come from a stranger. Errors name the file; image names stay within their folder.
"""

from __future__ import annotations

import json
import math
import os
import xml.etree.ElementTree as ET
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any, TypeVar
from xml.parsers import expat

import PIL.ExifTags
import PIL.Image
import PIL.ImageOps

from .._io.paths import failure_reason, require_input_file
from .._io.text import brief, listing
from ..ground_truth import GroundTruthError
from ..images import open_image

_T = TypeVar("_T", bound=Hashable)

_TURNED = (5, 6, 7, 8)  # EXIF orientations that swap width and height


def read_bytes(path: Path) -> bytes:
    """Read a file.

    Raises:
        GroundTruthError: the file cannot be read or is not a regular file; the message names it.
    """
    try:
        require_input_file(path)
        return path.read_bytes()
    except ValueError as error:
        raise GroundTruthError(error) from error
    except OSError as error:
        raise GroundTruthError(f"{path}: cannot be read: {failure_reason(error)}") from error


def read_json(path: Path) -> Any:
    """Read the JSON value in a file.

    Raises:
        GroundTruthError: the message names file, line and column, or a key that an object has twice (Python's reader
            would silently keep the last).
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) != len(pairs):
            raise GroundTruthError(
                f"{path}: expected each key of an object once, got {twice(key for key, _ in pairs)!r} twice"
            )
        return value

    try:
        return json.loads(read_bytes(path), object_pairs_hook=unique)
    except GroundTruthError:
        raise
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise GroundTruthError(f"{path}: {place}: invalid JSON: {error.msg}") from error
    except UnicodeDecodeError as error:
        raise GroundTruthError(f"{path}: byte {error.start}: expected JSON in UTF-8, got other bytes") from error
    except RecursionError as error:
        raise GroundTruthError(f"{path}: not the JSON of a dataset: nested too deeply") from error
    except ValueError as error:  # an integer of thousands of digits
        raise GroundTruthError(f"{path}: not the JSON of a dataset: {error}") from error


def read_xml(path: Path) -> ET.Element:
    """Read the root element of an XML file.

    Raises:
        GroundTruthError: invalid XML, or a document type (<!DOCTYPE ...>), which no annotation needs and whose entities
            can grow without bound or read other files; the message names file, line and column.
    """
    builder = ET.TreeBuilder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data

    def refuse(*_: object) -> None:
        place = f"line {parser.CurrentLineNumber}, column {parser.CurrentColumnNumber + 1}"
        raise GroundTruthError(f"{path}: {place}: document types and entities (<!DOCTYPE ...>) are refused: remove it")

    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(read_bytes(path), True)
    except GroundTruthError:
        raise
    except (expat.ExpatError, LookupError, ValueError) as error:
        place = f"line {getattr(error, 'lineno', 1)}, column {getattr(error, 'offset', 0) + 1}"
        raise GroundTruthError(f"{path}: {place}: invalid XML: {error}") from error
    return builder.close()


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Read (height, width) of the upright image from the file's header.

    Raises:
        FileNotFoundError: as ssd_fast.images.open_image.
        ValueError: as ssd_fast.images.open_image.
    """
    with open_image(path) as image:
        if image.format == "TIFF":  # Pillow's version decides whether the size of an undecoded TIFF is upright
            width, height = PIL.ImageOps.exif_transpose(image).size
        else:
            # The base class's method, because PNG's decodes the image to look for EXIF after the pixels.
            orientation = PIL.Image.Image.getexif(image).get(PIL.ExifTags.Base.Orientation)
            width, height = image.size[::-1] if orientation in _TURNED else image.size
    return height, width


def image_path(folder: Path, name: str, where: str) -> Path:
    """The path of an image named in an annotation file. Only the name is checked: links may lead anywhere.

    Raises:
        GroundTruthError: the name leads out of the folder, on this system or another, or cannot be the name of a file;
            the message begins with `where`.
    """
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        fault = "which cannot be the name of a file"
    else:
        parts = name.split("/")
        if "\\" in name:
            fault = "which contains a backslash (folders are separated by /)"
        elif name.startswith("/") or ".." in parts:
            fault = "which leads out of the folder"
        elif "\0" in name or not set(parts) - {"", "."}:
            fault = "which cannot be the name of a file"
        else:
            return folder / name
    raise GroundTruthError(f"{where}: expected the name of a file in the folder of the images, got {name!r}, {fault}")


def twice(values: Iterable[_T]) -> _T | None:
    """Find the first value that repeats an earlier one; None if there is none."""
    seen = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None


def number(value: Any) -> float | None:
    """Convert a number of a JSON file to a float, which may be NaN or infinite; None if it is not a number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value)
    except OverflowError:  # an integer beyond the floats
        return math.inf if value > 0 else -math.inf


def read_box(value: Any, where: str, form: str) -> tuple[float, float, float, float]:
    """Read the four numbers of a box in a JSON file, in a form such as "x1, y1, x2, y2"."""
    if not isinstance(value, list) or len(value) != 4:
        raise GroundTruthError(f"{where}: expected 4 numbers [{form}], got {brief(value)}")
    numbers = [number(item) for item in value]
    a, b, c, d = numbers
    if a is None or b is None or c is None or d is None:
        raise GroundTruthError(f"{where}: expected 4 numbers [{form}], got {brief(value)}")
    return a, b, c, d


def find_splits(folder: Path, prefix: str, suffix: str) -> list[str]:
    """List the part between prefix and suffix of the file names in a folder, sorted."""
    names = (path.name for path in folder.glob(f"{prefix}*{suffix}") if path.is_file())
    return sorted(name[len(prefix) : len(name) - len(suffix)] for name in names)


def json_splits(file: Path) -> list[str]:
    """List the keys of "splits" in a JSON file, sorted; empty if it has no such object."""
    data = read_json(file)
    splits = data.get("splits") if isinstance(data, dict) else None
    return sorted(splits) if isinstance(splits, dict) else []


def unknown_split(path: Path, split: str, known: list[str]) -> GroundTruthError:
    """Make the error that lists the known splits."""
    there_are = listing(known) or "none"
    return GroundTruthError(f"{path}: there is no split {split!r}; the splits are: {there_are}")
