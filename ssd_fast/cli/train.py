"""The command `ssd-fast train`: trains a detector on your own photos and boxes."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from ..datasets.formats import FORMATS
from ._next_step import next_step
from ._output import (
    FORMAT_HELP,
    check_choice,
    choose_device,
    err,
    fail,
    open_data,
    out,
    print_json,
    print_warning,
    wrong_option,
)
from ._training_bar import TrainingBar

if TYPE_CHECKING:
    import torch

    from ..datasets import DetectionDataset
    from ..evaluation import Evaluation

_FLIP = "Random flips: none, horizontal, or both (also vertical, for photos with no 'up')."
_OPTIONS = {"learning_rate": "--lr"}  # options whose names differ from the config's fields


def train(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", show_default=False, help="Folder or COCO JSON file.")],
    folder: Annotated[Path, typer.Option("--out", metavar="RUN", file_okay=False, help="Output folder.")],
    split: Annotated[str | None, typer.Option(help="Split to train on, such as trainval.")] = None,
    eval_split: Annotated[str | None, typer.Option(help="Split to evaluate the trained detector on.")] = None,
    layout: Annotated[str, typer.Option("--format", help=FORMAT_HELP)] = "auto",
    images: Annotated[
        Path | None,
        typer.Option(metavar="DIR", file_okay=False, help="Folder of the images.", show_default="the format's own"),
    ] = None,
    policy: Annotated[str, typer.Option(help="Policy for faulty boxes: drop, clip or raise.")] = "drop",
    model: Annotated[
        str | None,
        typer.Option(help="Network: one of those below.", show_default="ssd_tiny, or the network of --weights"),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(metavar="HxW", help="Input size (ssd_tiny only).", show_default="240x320 or the photos' shape"),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(metavar="FILE|coco", help="Initial weights, except for the class heads.")
    ] = None,
    epochs: Annotated[int, typer.Option(metavar="N", min=1, help="Passes over the dataset.")] = 45,
    batch_size: Annotated[int, typer.Option(metavar="N", min=1, help="Images per iteration, over all processes.")] = 8,
    lr: Annotated[float, typer.Option(help="Peak learning rate.")] = 1.5e-3,
    optimizer: Annotated[str, typer.Option(help="Optimizer: adamw or sgd.")] = "adamw",
    loss: Annotated[str, typer.Option(help="Classification loss: softmax or focal.")] = "softmax",
    flip: Annotated[str, typer.Option(help=_FLIP)] = "horizontal",
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Random seed; equal seeds give equal weights.")] = 0,
    precision: Annotated[str, typer.Option(help="Precision: fp32, bf16 or fp16.")] = "fp32",
    device: Annotated[
        str | None, typer.Option(help="Device: cpu, cuda or cuda:N.", show_default="the GPU if there is one")
    ] = None,
    workers: Annotated[
        int, typer.Option(metavar="N", min=0, max=1024, help="Worker processes for augmentation; 0: none.")
    ] = 0,
    cache: Annotated[bool, typer.Option(help="Keep the resized photos in memory.")] = True,
    resume: Annotated[bool, typer.Option("--resume", help="Continue RUN; keep the other options unchanged.")] = False,
    log_every: Annotated[int, typer.Option(metavar="N", min=1, help="Log every N iterations.")] = 1,
    checkpoint_every: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Save a checkpoint every N iterations.", show_default="one epoch"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Train a detector. On several GPUs: torchrun --nproc-per-node N -m ssd_fast train ..."""
    from .. import training
    from ..assets import weights_path
    from ..models import list_networks

    chosen = choose_device(device)
    input_size = _parse_size(size)
    check_choice("--format", layout, ("auto", *FORMATS))
    check_choice("--policy", policy, ("drop", "clip", "raise"))
    if model is not None:
        check_choice("--model", model, list_networks())
    given = {"optimizer": optimizer, "loss": loss, "flip": flip, "precision": precision, "seed": seed}
    try:
        config = training.TrainingConfig(epochs=epochs, batch_size=batch_size, learning_rate=lr, **given)  # type: ignore[arg-type]
    except ValueError as error:
        field = str(error).split(": ")[1]
        raise wrong_option(_OPTIONS.get(field, f"--{field.replace('_', '-')}"), error) from error
    evaluation = None
    try:
        with training.joined_processes(chosen) as (processes, own):
            opening: dict[str, Any] = {"format": layout, "images": images, "policy": policy}
            opening["quiet"] = not processes.is_main
            data = open_data(dataset, split, **opening)
            if split is None and processes.is_main:
                _warn_of_splits(dataset, layout, len(data))
            test = None
            if eval_split is not None:
                _require_evaluation()
                test = open_data(dataset, eval_split, classes=data.classes, **opening)
            source = None if weights is None else weights_path(weights)
            network = training.start_network(data, name=model, size=input_size, weights=source, seed=seed)
            begin = time.perf_counter()
            with TrainingBar(processes.is_main) as bar:
                written = training.train(
                    network,
                    data,
                    config,
                    folder,
                    device=own,
                    processes=processes,
                    workers=workers,
                    cache=cache,
                    resume=resume,
                    log_every=log_every,
                    checkpoint_every=checkpoint_every,
                    on_step=bar.show,
                )
            seconds = time.perf_counter() - begin
        if not processes.is_main:
            return
        if test is not None:
            evaluation = _evaluate(written, test, own)
            training.log_evaluation(folder, eval_split, evaluation.to_dict())
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        fail(error)
    except KeyboardInterrupt:
        fail(f"interrupted; the same command with --resume continues from the last checkpoint in {folder}")

    follow_up, note = next_step(dataset, layout, images, split, data, written, evaluated=evaluation is not None)
    if as_json:
        print_json(
            {
                "weights": str(written),
                "images": len(data),
                "classes": list(data.classes),
                "iterations": bar.last.iteration if bar.last else 0,
                "losses": bar.last.losses if bar.last else None,
                "seconds": round(seconds, 3),
                "problems": [str(problem) for problem in data.problems],
                "evaluation": None if evaluation is None else evaluation.to_dict(),
                "next": follow_up,
            }
        )
        return
    if evaluation is not None:
        out.print(evaluation.table())
        out.print(evaluation.summary())
    done = "this training was already finished" if bar.last is None else f"written after {seconds:.0f} s"
    out.print(Text(f"{written}: {done}; now try: {follow_up}{note and f' ({note})'}"), soft_wrap=True)


def _parse_size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    found = re.fullmatch(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", text)
    if found is None:
        raise typer.BadParameter(f"expected HEIGHTxWIDTH such as 240x320, got {text!r}", param_hint="--size")
    return int(found[1]), int(found[2])


def _warn_of_splits(dataset: Path, layout: str, images: int) -> None:
    """Say that the splits of a dataset are trained on together, test photos included."""
    from ..datasets import list_splits

    if len(splits := list_splits(dataset, format=layout)) > 1:
        print_warning(f"no --split: training on all {images} images, of all splits ({', '.join(splits)})")


def _require_evaluation() -> None:
    """Raise ImportError before minutes of work if pycocotools is missing."""
    from ..evaluation.coco import require_pycocotools

    require_pycocotools()


def _evaluate(weights: Path, data: DetectionDataset, device: torch.device) -> Evaluation:
    from ..detector import load_detector
    from ..evaluation import evaluate

    with err.status(f"evaluating {len(data)} images"):
        return evaluate(load_detector(weights, device=device), data)
