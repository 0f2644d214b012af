"""The command `ssd-fast demo`: draws detections and stages, and compares the kernels with torch and torchvision."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import PIL.Image
import torch
import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from ..._io.writing import require_output_file, write_errors
from .._output import choose_device, err, fail, make_folder, out, print_json

if TYPE_CHECKING:
    from ...detector import Detector
    from .comparison import Row

_PHOTOS = ("coffee", "astronaut", "chelsea")


def demo(
    folder: Annotated[Path, typer.Option("--out", metavar="DIR", file_okay=False, help="Output folder.")] = Path(
        "demo"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    device: Annotated[
        str | None, typer.Option(help="Device: cpu, cuda or cuda:N.", show_default="the GPU if there is one")
    ] = None,
) -> None:
    """Detect objects in photos, show the stages of an SSD, and compare speed and results with torchvision."""
    chosen = choose_device(device)
    from ..._backend import cuda_status
    from ...assets import asset_path
    from ...detector import load_detector

    photos = [asset_path(f"{name}.jpg") for name in _PHOTOS]
    with err.status("loading the detector") as status:
        detector = load_detector(device=chosen)
        try:
            make_folder("--out", folder)
            pictures = _pictures(detector, photos, folder, status.update)
        except OSError as error:
            fail(error)
        status.update("comparing with torch and torchvision")
        rows, omitted = _rows(detector, photos)
    differ = [row for row in rows if row.same != row.total]

    if as_json:
        report = {
            "pictures": pictures,
            "rows": [row.as_dict() for row in rows],
            "omitted": omitted,
            "cuda": cuda_status(),
        }
        print_json(report)
    else:
        _show(pictures, rows, omitted, cuda_status())
    if differ:
        row = differ[0]
        images = f"{row.images} image{'s' * (row.images > 1)}"
        fail(f"{row.what}, {images}: {row.same} of {row.total} detections are identical to {row.rival}")


def _pictures(
    detector: Detector, photos: list[Path], folder: Path, announce: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Write the PNGs and return the path and the contents of each."""
    from ...drawing.detections import as_pil, draw_detections
    from ...drawing.stages import default_boxes_picture, stages, stages_picture

    written = []

    def write(picture: PIL.Image.Image, name: str, shows: str) -> None:
        require_output_file(folder / name)
        with write_errors(folder / name):
            picture.save(folder / name)
        written.append({"path": str(folder / name), "shows": shows})

    announce("detecting")
    for photo, found in zip(photos, detector(photos, 0.5).to_list(), strict=True):
        names = [detector.classes[label] for label in found["labels"].tolist()]
        shows = ", ".join(f"{name} {score:.0%}" for name, score in zip(names, found["scores"].tolist(), strict=True))
        write(draw_detections(photo, found, detector.classes), f"{photo.stem}.png", shows)

    announce("drawing the stages")
    coffee, astronaut, _ = map(as_pil, photos)
    spec = detector.preset.default_boxes
    shows = f"the default boxes of one cell on each of {len(spec.feature_maps)} feature maps, {spec.num_boxes:,} in all"
    write(default_boxes_picture(astronaut, spec, at=(0.44, 0.4)), "default_boxes.png", shows)
    found_stages = stages(detector, coffee)
    shows = " > ".join(f"{stage.count:,} {stage.unit}" for stage in found_stages)
    write(stages_picture(coffee, found_stages, detector.classes), "stages.png", shows)
    return written


def _rows(detector: Detector, photos: list[Path]) -> tuple[list[Row], str | None]:
    """The comparisons, or the reason why there are none."""
    if importlib.util.find_spec("torchvision") is None:
        return [], "comparison omitted: torchvision is not installed; pip install ssd_fast[torchvision]"
    from .comparison import detector_rows, patch_rows

    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError) as error:  # RuntimeError: built for another torch
        return [], f"comparison omitted: torchvision does not load ({error})"
    return detector_rows(detector, photos) + patch_rows(detector.device), None


def _show(pictures: list[dict[str, Any]], rows: list[Row], omitted: str | None, cuda: str) -> None:
    for picture in pictures:
        out.print(Text.assemble((picture["path"], "bold"), "  ", (picture["shows"], "dim")), soft_wrap=True)
    out.print()
    if rows:
        threads = f", {torch.get_num_threads()} of its threads" if rows[0].device == "cpu" else ""
        title = Text(
            f"Milliseconds on the {rows[0].device.upper()}{threads}, medians of alternating runs", style="bold"
        )
        table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
        table.add_column("operation", no_wrap=True)
        for header in ("N", "torch +\ntorchvision", "ssd_fast", "speedup", "identical\ndetections"):
            table.add_column(header, justify="right", min_width=max(map(len, header.split("\n"))))
        for row in rows:
            same = Text(f"{row.same}/{row.total}", style="green" if row.same == row.total else "bold red")
            ratio = Text(f"{row.ratio:.1f}x", style="bold" if row.ratio >= 1 else "yellow")
            table.add_row(row.what, str(row.images), f"{row.rival_ms:.2f}", f"{row.ours_ms:.2f}", ratio, same)
        out.print(table)
        for what, rival in {row.what.partition(":")[0]: row.rival for row in rows}.items():
            out.print(Text(f"{what}: compared with {rival}", style="dim"), soft_wrap=True)
    if omitted is not None:
        out.print(Text(omitted, style="yellow"), soft_wrap=True)
    style = "green" if cuda.startswith("available") else "yellow"
    out.print(Text.assemble("CUDA: ", (cuda, style)), soft_wrap=True)
