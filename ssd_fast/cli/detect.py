"""The command `ssd-fast detect`: detects objects in images and folders of images."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from .._io.paths import shown_path
from .._io.text import display_name, printable
from .._io.writing import WriteError, require_output_file, write_errors
from ..images import IMAGE_SUFFIXES
from ._output import choose_device, err, fail, make_folder, out, print_error, print_json, wrong_option

if TYPE_CHECKING:
    from ..detector import Detector


def detect(
    images: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGE|FOLDER...", show_default=False, help="Images, or folders of images."),
    ],
    pictures: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            file_okay=False,
            help="Output folder for images with their detections drawn on them.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array and nothing else.")] = False,
    score: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Keep only detections that score higher than this.")
    ] = 0.5,
    weights: Annotated[
        str | None,
        typer.Option(metavar="FILE|coco", help="Weights to use, such as run/weights.safetensors.", show_default="coco"),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="Device: cpu, cuda or cuda:N.", show_default="the GPU if there is one")
    ] = None,
    tile: Annotated[
        int | None,
        typer.Option(metavar="PIXELS", min=32, help="Cut larger images into tiles of this size, for small objects."),
    ] = None,
    overlap: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Least share of a tile that the next one repeats.", show_default="0.2"),
    ] = None,
) -> None:
    """Detect objects in images, or in all images of a folder."""
    detector = _load(weights, device, _tiles(tile, overlap))
    try:
        if pictures is not None:
            make_folder("--out", pictures)
    except OSError as error:
        fail(error)
    paths, failures = _find(images)
    names = _Names(paths)
    results = []
    for path in _progress(paths) if paths and any(map(os.path.isdir, images)) else paths:
        try:
            result, picture = _detect_one(detector, path, score, draw=pictures is not None)
            if picture is not None and pictures is not None:
                target = names.unused(pictures, path)
                require_output_file(target)
                with write_errors(target):
                    picture.save(target)
        except WriteError as error:
            failures += 1
            print_error(error)
            continue
        except (OSError, ValueError, RuntimeError) as error:
            failures += 1
            named = shown_path(path) in str(error)
            print_error(error if named else f"{path}: {error}")
            continue
        results.append(result)
    if as_json:
        print_json(results)
    else:  # after the progress bar, which shares the terminal
        for result in results:
            _show(result, detector)
    if pictures is not None and results and not as_json:
        out.print(Text(f"{len(results)} image{'s' if len(results) > 1 else ''} written to {pictures}"), soft_wrap=True)
    if failures:
        raise typer.Exit(1)


def _tiles(tile: int | None, overlap: float | None) -> dict[str, Any]:
    """The arguments of load_detector that say how images are cut. Exits for wrong usage."""
    from ..detector.tiles import as_tiling

    if tile is None and overlap is not None:
        raise typer.BadParameter("only tiles overlap: give --tile too", param_hint="--overlap")
    try:
        as_tiling("detect", tile, 0 if overlap is None else overlap)
    except ValueError as error:
        raise wrong_option(f"--{str(error).split(': ')[1]}", error) from error
    return {"tile": tile} if overlap is None else {"tile": tile, "overlap": overlap}


def _load(weights: str | None, device: str | None, tiles: dict[str, Any]) -> Detector:
    chosen = choose_device(device)
    from ..detector import load_detector

    try:
        return load_detector("coco" if weights is None else weights, device=chosen, **tiles)
    except (OSError, ValueError, RuntimeError) as error:
        fail(error)


def _find(images: Iterable[Path]) -> tuple[list[Path], int]:
    """Find the image files, those of a folder sorted by name, and count the arguments that lead nowhere."""
    paths, failures = [], 0
    for path in images:
        if not os.path.isdir(path):
            paths.append(path)
            continue
        try:
            found = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file())
        except OSError as error:
            print_error(f"{path}: {error.strerror}")
            failures += 1
            continue
        if not found:
            print_error(f"{path}: no images in this folder")
            failures += 1
        paths += found
    return paths, failures


def _detect_one(detector: Detector, path: Path, score: float, draw: bool) -> tuple[dict[str, Any], Any]:
    """The JSON object of an image, and its picture if `draw`. OSError, ValueError or RuntimeError if it fails."""
    from ..drawing.detections import draw_detections
    from ..images import as_image_tensor

    image = as_image_tensor(path)
    (found,) = detector([image], score).to_list()
    detections = [
        {
            "label": detector.classes[label],
            "label_id": label,
            "score": round(value, 6),
            "box": [round(corner, 3) for corner in box],
        }
        for label, value, box in zip(
            found["labels"].tolist(), found["scores"].tolist(), found["boxes"].tolist(), strict=True
        )
    ]
    picture = draw_detections(image, found, detector.classes) if draw else None
    return {"image": os.fspath(path), "detections": detections}, picture


def _show(result: dict[str, Any], detector: Detector) -> None:
    from ..drawing.colors import class_color

    if not result["detections"]:
        out.print(Text.assemble((printable(result["image"]), "bold"), ": nothing found"), soft_wrap=True)
        return
    table = Table(title=Text(printable(result["image"]), style="bold"), title_justify="left")
    table.add_column("label")
    table.add_column("score", justify="right")
    for corner in ("x1", "y1", "x2", "y2"):
        table.add_column(corner, justify="right")
    for found in result["detections"]:
        red, green, blue = class_color(found["label_id"])
        label = Text.assemble(("■ ", f"rgb({red},{green},{blue})"), display_name(found["label"]))
        table.add_row(label, f"{found['score']:.1%}", *(f"{corner:.1f}" for corner in found["box"]))
    out.print(table)


def _progress(paths: list[Path]) -> Iterator[Path]:
    """Yield the paths, with a progress bar on stderr."""
    columns = (TextColumn("detecting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err) as progress:
        yield from progress.track(paths)


class _Names:
    """Chooses the output paths: never the same path twice, and never that of an input image."""

    def __init__(self, images: Iterable[Path]) -> None:
        self._used = {os.path.realpath(path) for path in images}

    def unused(self, folder: Path, image: Path) -> Path:
        number = 1
        while True:
            path = folder / f"{image.stem}_detections{'' if number == 1 else f'_{number}'}.png"
            if os.path.realpath(path) not in self._used:
                self._used.add(os.path.realpath(path))
                return path
            number += 1
