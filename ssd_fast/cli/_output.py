"""What the commands share: where results, progress and errors go."""

from __future__ import annotations

import json
from typing import Any, NoReturn

import torch
import typer
from rich.console import Console
from rich.text import Text

out = Console()
err = Console(stderr=True)


def print_json(value: Any) -> None:
    """One JSON value on stdout: of an array one element a line."""
    if isinstance(value, list) and value:
        text = "[\n" + ",\n".join(json.dumps(item, allow_nan=False) for item in value) + "\n]"
    else:
        text = json.dumps(value, indent=2, allow_nan=False)
    typer.echo(text)


def print_error(message: object) -> None:
    """One line on stderr."""
    line = " ".join(str(message).split())
    err.print(Text.assemble(("error: ", "bold red"), line), soft_wrap=True)


def fail(message: object) -> NoReturn:
    """One line on stderr, and exit status 1."""
    print_error(message)
    raise typer.Exit(1)


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
        raise typer.BadParameter(f"{name!r} is no device; try cpu, cuda or cuda:1", param_hint="--device") from error
    if device.type not in ("cpu", "cuda"):
        raise typer.BadParameter(f"expected cpu or cuda, got {name}", param_hint="--device")
    if device.type == "cuda" and not usable:
        why = "torch finds no CUDA device" if status.startswith("available") else f"CUDA is {status}"
        fail(f"--device {name}: {why}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        fail(f"--device {name}: there are {torch.cuda.device_count()} CUDA devices")
    return device
