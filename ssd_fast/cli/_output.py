"""What the commands share: where results, progress and errors go, and what reaches a terminal."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

import torch
import typer
from rich.console import Console, ConsoleDimensions, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from .._checks import choice
from .._io.paths import failure_reason
from .._io.text import message_line, printable

if TYPE_CHECKING:
    from ..datasets import DetectionDataset

FORMATS = ("auto", "voc", "coco", "folder")
_PROBLEMS_SHOWN = 5
_LEAST_WIDTH = 60


class PrintableConsole(Console):
    """Escapes control characters, which files and their names may contain, and what its encoding lacks.

    Rich's own control codes are not text, and pass. So do line breaks, because Rich lays out whole texts: call
    `printable` where a line break in a name would mislead.

    It is never narrower than _LEAST_WIDTH, since Rich crops what does not fit: at COLUMNS=0, everything.
    """

    @property
    def size(self) -> ConsoleDimensions:
        """The width and height that texts are laid out for."""
        size = super().size
        return size._replace(width=max(size.width, _LEAST_WIDTH))

    @size.setter
    def size(self, size: tuple[int, int]) -> None:
        self._width, self._height = size

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """The segments of a renderable, from which all output is made."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=self._escaped(segment.text))

    def _escaped(self, text: str) -> str:
        lines = "\n".join(map(printable, text.split("\n")))
        return lines.encode(self.encoding, "backslashreplace").decode(self.encoding)


out = PrintableConsole()
err = PrintableConsole(stderr=True)


def print_json(value: Any) -> None:
    """One JSON value on stdout: of an array one element per line. All but printable ASCII is escaped."""
    if isinstance(value, list) and value:
        text = "[\n" + ",\n".join(json.dumps(item, allow_nan=False) for item in value) + "\n]"
    else:
        text = json.dumps(value, indent=2, allow_nan=False)
    typer.echo(text)


def print_error(message: object) -> None:
    """One line on stderr."""
    _print_line("error: ", "bold red", message)


def print_warning(message: object) -> None:
    """One line on stderr."""
    _print_line("warning: ", "yellow", message)


def _print_line(kind: str, style: str, message: object) -> None:
    line = message_line(" ".join(str(message).split()))
    err.print(Text.assemble((kind, style), line), soft_wrap=True)


def fail(message: object) -> NoReturn:
    """One line on stderr, and exit status 1."""
    print_error(message)
    raise typer.Exit(1)


def make_folder(option: str, folder: Path) -> None:
    """Makes the folder that results go to.

    Raises:
        OSError: the message names the option: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:  # ValueError: a surrogate in the name
        raise OSError(f"{option} {folder}: cannot create this folder: {failure_reason(error)}") from error


@contextlib.contextmanager
def output_errors() -> Iterator[None]:
    """Of output that cannot be written: one line on stderr and exit status 1. A closed pipe is not an error here.

    The commands report the failures of all other files themselves.
    """
    try:
        yield
    except OSError as error:
        with contextlib.suppress(OSError):  # stderr may be full too
            print_error(f"the output cannot be written: {failure_reason(error)}")
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python writes what is left when it ends
        raise SystemExit(1) from error


@contextlib.contextmanager
def warnings_in_one_line() -> Iterator[None]:
    """Shows Python's warnings as the commands' own, without the line of code that they arose in."""

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        print_warning(message)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def open_data(path: Path, split: str | None, *, quiet: bool = False, **options: Any) -> DetectionDataset:
    """open_dataset; what is wrong in the dataset goes to stderr, the first problems one per line."""
    from ..datasets import open_dataset
    from ..ground_truth import GroundTruthWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GroundTruthWarning)  # whose message is for programmers; the same follows
        data = open_dataset(path, split, **options)
    for problem in () if quiet else data.problems[:_PROBLEMS_SHOWN]:
        print_warning(problem)
    if (more := len(data.problems) - _PROBLEMS_SHOWN) > 0 and not quiet:
        print_warning(f"and {more} more; --json lists all")
    return data


def check_choice(option: str, given: str, allowed: Sequence[str]) -> None:
    """Exits for wrong use, unless the option is one of these words."""
    try:
        choice("", option, given, allowed)
    except ValueError as error:
        raise wrong_option(option, error) from error


def wrong_option(option: str, error: ValueError) -> typer.BadParameter:
    """Wrong use of an option, for an error that begins with an owner and a field."""
    return typer.BadParameter(str(error).split(": ", 2)[2], param_hint=option)


def choose_device(name: str | None) -> torch.device:
    """The device that was asked for; by default the GPU if our kernels run there, else the CPU. Else: exits."""
    from .._backend import cuda_status

    status = cuda_status()
    usable = torch.cuda.is_available() and status.startswith("available")
    if name is None:
        return torch.device("cuda" if usable else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise typer.BadParameter(f"unknown device {name!r}; try cpu, cuda or cuda:N", param_hint="--device") from error
    if device.type not in ("cpu", "cuda"):
        raise typer.BadParameter(f"expected cpu or cuda, got {name!r}", param_hint="--device")
    if device.type == "cuda" and not usable:
        why = "torch finds no CUDA device" if status.startswith("available") else f"CUDA is {status}"
        fail(f"--device {name}: {why}; use --device cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        fail(f"--device {name}: there are {torch.cuda.device_count()} CUDA devices")
    return device
