"""Shared by the commands: consoles for results, progress and errors, checks of options, and the choice of a device."""

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
from ..datasets.formats import FORMATS

if TYPE_CHECKING:
    from ..datasets import DetectionDataset

FORMAT_HELP = f"auto, {', '.join([*FORMATS][:-1])} or {[*FORMATS][-1]}."
_PROBLEMS_SHOWN = 5
_LEAST_WIDTH = 60


class PrintableConsole(Console):
    """A console that escapes control characters (files and their names may contain them) and what its encoding lacks.

    Rich's own control codes are not text and pass through. So do line breaks, because Rich lays out whole texts: call
    `printable` where a line break in a name would mislead.

    It is never narrower than _LEAST_WIDTH, since Rich crops whatever does not fit: at COLUMNS=0, everything.
    """

    @property
    def size(self) -> ConsoleDimensions:
        """The width and height for which texts are laid out."""
        size = super().size
        return size._replace(width=max(size.width, _LEAST_WIDTH))

    @size.setter
    def size(self, size: tuple[int, int]) -> None:
        self._width, self._height = size

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Yield the escaped segments of a renderable, from which all output is made."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=self._escaped(segment.text))

    def _escaped(self, text: str) -> str:
        lines = "\n".join(map(printable, text.split("\n")))
        return lines.encode(self.encoding, "backslashreplace").decode(self.encoding)


out = PrintableConsole()
err = PrintableConsole(stderr=True)


def print_json(value: Any) -> None:
    """Print a JSON value to stdout, an array with one element per line. All but printable ASCII is escaped."""
    if isinstance(value, list) and value:
        text = "[\n" + ",\n".join(json.dumps(item, allow_nan=False) for item in value) + "\n]"
    else:
        text = json.dumps(value, indent=2, allow_nan=False)
    typer.echo(text)


def print_error(message: object) -> None:
    """Print an error as one line to stderr."""
    _print_line("error: ", "bold red", message)


def print_warning(message: object) -> None:
    """Print a warning as one line to stderr."""
    _print_line("warning: ", "yellow", message)


def _print_line(kind: str, style: str, message: object) -> None:
    line = message_line(" ".join(str(message).split()))
    err.print(Text.assemble((kind, style), line), soft_wrap=True)


def fail(message: object) -> NoReturn:
    """Print an error as one line to stderr and exit with status 1."""
    print_error(message)
    raise typer.Exit(1)


def make_folder(option: str, folder: Path) -> None:
    """Make the folder for the results.

    Raises:
        OSError: the folder cannot be made; the message names the option.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:  # ValueError: a surrogate in the name
        raise OSError(f"{option} {folder}: cannot create this folder: {failure_reason(error)}") from error


@contextlib.contextmanager
def output_errors() -> Iterator[None]:
    """Turn output that cannot be written into one line on stderr and exit status 1. A closed pipe is not an error here.

    The commands themselves report failures of all other files.
    """
    try:
        yield
    except OSError as error:
        with contextlib.suppress(OSError):  # stderr may be full too
            print_error(f"the output cannot be written: {failure_reason(error)}")
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python writes the rest when it exits
        raise SystemExit(1) from error


@contextlib.contextmanager
def warnings_in_one_line() -> Iterator[None]:
    """Show Python's warnings like the commands' own, without the line of code that caused them."""

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
    """Open a dataset with open_dataset, and print its first problems to stderr, one per line."""
    from ..datasets import open_dataset
    from ..ground_truth import GroundTruthWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GroundTruthWarning)  # its message is for programmers; the problems follow
        data = open_dataset(path, split, **options)
    for problem in () if quiet else data.problems[:_PROBLEMS_SHOWN]:
        print_warning(problem)
    if (more := len(data.problems) - _PROBLEMS_SHOWN) > 0 and not quiet:
        print_warning(f"and {more} more; --json lists all")
    return data


def check_choice(option: str, given: str, allowed: Sequence[str]) -> None:
    """Exit for wrong usage unless the option is one of the allowed words."""
    try:
        choice("", option, given, allowed)
    except ValueError as error:
        raise wrong_option(option, error) from error


def wrong_option(option: str, error: ValueError) -> typer.BadParameter:
    """The error for wrong usage of an option, from an error whose message begins with an owner and a field."""
    return typer.BadParameter(str(error).split(": ", 2)[2], param_hint=option)


def choose_device(name: str | None) -> torch.device:
    """The requested device; by default the GPU if the kernels run there, else the CPU. Exits if it cannot be used."""
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
        fail(f"--device {name}: this machine has {torch.cuda.device_count()} CUDA devices")
    return device
