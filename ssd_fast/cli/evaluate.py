"""The command `ssd-fast eval`: evaluates a detector on a dataset."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from .._io.writing import require_output_file
from ..datasets.formats import FORMATS
from ._output import FORMAT_HELP, check_choice, choose_device, err, fail, make_folder, open_data, out, print_json

if TYPE_CHECKING:
    from ..datasets import DetectionDataset
    from ..detector import Detector
    from ..evaluation import Evaluation


def eval(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", show_default=False, help="Folder or COCO JSON file.")],
    weights: Annotated[
        str | None,
        typer.Option(metavar="FILE|coco", help="Weights to use, such as run/weights.safetensors.", show_default="coco"),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split of the dataset, such as test.")] = None,
    layout: Annotated[str, typer.Option("--format", help=FORMAT_HELP)] = "auto",
    images: Annotated[
        Path | None,
        typer.Option(metavar="DIR", file_okay=False, help="Folder of the images.", show_default="the format's own"),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per batch.")] = 8,
    ignore_missing: Annotated[
        bool, typer.Option("--ignore-missing", help="Leave out classes that the detector does not know.")
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", dir_okay=False, help="Write precision-recall curves to this .png, .pdf or .svg."),
    ] = None,
    detections: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", dir_okay=False, help="Write the detections in COCO's results format to this .json."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    device: Annotated[
        str | None, typer.Option(help="Device: cpu, cuda or cuda:N.", show_default="the GPU if there is one")
    ] = None,
) -> None:
    """Evaluate a detector on a dataset: COCO and VOC average precision, per class and on average."""
    chosen = choose_device(device)
    check_choice("--format", layout, ("auto", *FORMATS))
    _check_outputs(plot, detections)
    from ..detector import load_detector

    try:  # first everything that can fail before the long work
        _require(plot)
        data = open_data(dataset, split, format=layout, images=images)
        detector = load_detector(device=chosen) if weights is None else load_detector(weights, device=chosen)
        for option, path in (("--plot", plot), ("--detections", detections)):
            if path is not None:
                make_folder(option, path.parent)
                require_output_file(path)
        evaluation, found = _evaluate(detector, data, batch_size, ignore_missing)
        if plot is not None:
            evaluation.plot(plot)
        if detections is not None:
            from ..evaluation import coco_results

            with open(detections, "w") as file:
                json.dump(coco_results(found, data), file, allow_nan=False)
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        fail(error)

    if as_json:
        origin = {"dataset": dataset, "split": split, "weights": weights, "device": chosen}
        written = {"plot_file": plot, "detections_file": detections}
        texts = {name: None if value is None else str(value) for name, value in (origin | written).items()}
        print_json({**texts, **evaluation.to_dict(), "problems": [str(problem) for problem in data.problems]})
        return
    out.print(evaluation.table())
    out.print(evaluation.summary())
    for what, path in (("precision-recall curves", plot), ("detections", detections)):
        if path is not None:
            out.print(Text(f"{what} written to {path}"), soft_wrap=True)


def _check_outputs(plot: Path | None, detections: Path | None) -> None:
    from ..evaluation.plot import SUFFIXES

    expected = {"--plot": (plot, SUFFIXES), "--detections": (detections, (".json",))}
    for option, (path, suffixes) in expected.items():
        if path is not None and path.suffix.lower() not in suffixes:
            raise typer.BadParameter(f"expected a file {' or '.join(suffixes)}, got {str(path)!r}", param_hint=option)


def _require(plot: Path | None) -> None:
    """Raise ImportError before minutes of work if pycocotools, or matplotlib where it is needed, is missing."""
    from ..evaluation.coco import require_pycocotools
    from ..evaluation.plot import require_matplotlib

    require_pycocotools()
    if plot is not None:
        require_matplotlib()


def _evaluate(
    detector: Detector, data: DetectionDataset, batch_size: int, ignore_missing: bool
) -> tuple[Evaluation, list[dict[str, Any]]]:
    """Compute the evaluation and the detections, with a progress bar on stderr."""
    from ..evaluation import detect_dataset, evaluate_detections, missing_classes

    missing = missing_classes(detector, data, ignore=ignore_missing)
    columns = (TextColumn("evaluating"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err) as progress:
        task = progress.add_task("evaluating", total=len(data))
        found, rate = detect_dataset(
            detector, data, batch_size=batch_size, progress=lambda done, _: progress.update(task, completed=done)
        )
    with err.status("comparing"):
        return evaluate_detections(found, data, missing=missing, images_per_second=rate), found
