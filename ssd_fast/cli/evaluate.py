"""`ssd-fast eval`: how good is a detector on a dataset?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from .._io.writing import require_output_file
from ._output import FORMATS, check_choice, choose_device, err, fail, make_folder, open_data, out, print_json

if TYPE_CHECKING:
    from ..datasets import DetectionDataset
    from ..detector import Detector
    from ..evaluation import Evaluation


def eval(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", show_default=False, help="A folder or a COCO JSON.")],
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|coco", help="Weights to use, such as run/weights.safetensors.", show_default="COCO's"
        ),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Which part of the dataset, such as test.")] = None,
    layout: Annotated[str, typer.Option("--format", help="auto, voc, coco or folder.")] = "auto",
    images: Annotated[
        Path | None,
        typer.Option(metavar="DIR", file_okay=False, help="The folder of the images.", show_default="the format's"),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images that the detector sees at once.")] = 8,
    ignore_missing: Annotated[
        bool, typer.Option("--ignore-missing", help="Leave out classes that the detector does not know.")
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", dir_okay=False, help="Write precision-recall curves: .png, .pdf or .svg."),
    ] = None,
    detections: Annotated[
        Path | None,
        typer.Option(metavar="FILE", dir_okay=False, help="Write the detections in COCO's results format: .json."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda or cuda:N.", show_default="the GPU, if there is one")
    ] = None,
) -> None:
    """Measure a detector on a dataset: COCO's and VOC's average precision, for each class and in the mean."""
    chosen = choose_device(device)
    check_choice("--format", layout, FORMATS)
    _check_outputs(plot, detections)
    from ..detector import load_detector

    try:  # all that can be known to fail before the work
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
    """Raises: ImportError, before minutes of work: no pycocotools, or no matplotlib where it is needed."""
    from ..evaluation.coco import require_pycocotools
    from ..evaluation.plot import require_matplotlib

    require_pycocotools()
    if plot is not None:
        require_matplotlib()


def _evaluate(
    detector: Detector, data: DetectionDataset, batch_size: int, ignore_missing: bool
) -> tuple[Evaluation, list[dict[str, Any]]]:
    """The evaluation and the detections, with a bar on stderr."""
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
