"""The command line `ssd-fast`. Exit status: 0 success, 1 failure, 2 wrong usage."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from ..models import list_networks
from ._output import out, output_errors, warnings_in_one_line
from .demo import demo
from .detect import detect
from .doctor import doctor
from .evaluate import eval
from .train import train

__all__ = ["app", "main"]

app = typer.Typer(
    name="ssd-fast",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from .. import __version__

        typer.echo(f"ssd-fast {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Fast, exact SSD object detection for PyTorch: detect, train and evaluate."""
    context.with_resource(warnings_in_one_line())


for command in (detect, demo, doctor, eval):
    app.command()(command)
app.command(epilog=f"Networks for --model: {', '.join(list_networks())}.")(train)


def main() -> None:
    """Run the command line with the arguments of the process."""
    if "COLUMNS" in os.environ:
        os.environ["COLUMNS"] = str(out.width)  # so that Typer's own texts, such as --help, have the same width
    with output_errors():
        app(prog_name="ssd-fast")
