"""Small datasets of each format, which tests write and then break."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

HEIGHT, WIDTH = 30, 40
SIZE_XML = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"


def save_image(path: Path, size: tuple[int, int] = (HEIGHT, WIDTH), orientation: int | None = None) -> Path:
    """Write an image that is red in its stored upper left corner and black elsewhere."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((*size, 3), np.uint8)
    pixels[: size[0] // 2, : size[1] // 2, 0] = 255
    options: dict[str, Any] = {}
    if orientation is not None:
        exif = PIL.Image.Exif()
        exif[0x0112] = orientation
        options["exif"] = exif
    PIL.Image.fromarray(pixels).save(path, **options)
    return path


def object_xml(label: str = "cat", box: Sequence[object] = (1, 2, 20, 25), extra: str = "") -> str:
    corners = "".join(
        f"<{tag}>{value}</{tag}>" for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    return f"<object><name>{label}</name>{extra}<bndbox>{corners}</bndbox></object>"


def write_voc(root: Path, annotations: Mapping[str, str], splits: Mapping[str, Sequence[str]] | None = None) -> Path:
    """Write a VOC root from the content of each image's <annotation> and the lines of each split."""
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name, body in annotations.items():
        (root / "Annotations" / f"{name}.xml").write_text(f"<annotation>\n{body}\n</annotation>\n")
        save_image(root / "JPEGImages" / f"{name}.png")
    for split, lines in (splits or {}).items():
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{line}\n" for line in lines))
    return root


def coco_data(count: int = 2) -> dict[str, Any]:
    """Return COCO's JSON with images 10, 20, ..., one box each, and unordered category ids with a gap."""
    return {
        "images": [
            {"id": 10 * (i + 1), "file_name": f"{i}.png", "width": WIDTH, "height": HEIGHT} for i in range(count)
        ],
        "annotations": [
            {"id": 100 + i, "image_id": 10 * (i + 1), "category_id": 7, "bbox": [1 + i, 2, 10, 20], "iscrowd": 0}
            for i in range(count)
        ],
        "categories": [{"id": 7, "name": "cat"}, {"id": 3, "name": "zebra"}],
    }


def folder_data(count: int = 2) -> dict[str, Any]:
    """Return the folder format's JSON with one box per image."""
    return {
        "classes": ["zebra", "cat"],
        "images": {f"{i}.png": [{"box": [1 + i, 2, 11 + i, 22], "label": "cat"}] for i in range(count)},
    }


def write_json(path: Path, data: Any, images: Path | None = None, count: int = 2) -> Path:
    """Write the JSON file, and the images 0.png, 1.png, ... beside it or in another folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))
    for i in range(count):
        save_image((images or path.parent) / f"{i}.png")
    return path


def write_boxes(folder: Path, boxes: list) -> Path:
    """Write the folder format's JSON of one image with these boxes, all of them cats."""
    data = {"images": {"0.png": [{"box": box, "label": "cat"} for box in boxes]}}
    return write_json(folder / "annotations.json", data, count=1)
