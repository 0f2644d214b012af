"""The error for a weight file that does not fit a network: a table of differences, and a hint."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

_ROWS_SHOWN = 6  # per kind of difference
_NAMES_SHOWN = 4  # for a file that is not recognized
_COUNTERS = "num_batches_tracked"  # of batch norms: files from before torch 0.4.1 lack it, and nothing reads it

Tensors = Mapping[str, Tensor]
Names = Mapping[str, Sequence[str]]  # by kind of difference


def differences(given: Tensors, wanted: Tensors) -> dict[str, list[str]]:
    """Group the differing names by kind of difference, without empty kinds; empty if the tensors fit."""
    kinds = {
        "missing": [name for name in wanted if name not in given and not name.endswith(_COUNTERS)],
        "unknown": [name for name in given if name not in wanted],
        "of another shape": [name for name in wanted if name in given and given[name].shape != wanted[name].shape],
    }
    return {kind: names for kind, names in kinds.items() if names}


def explanation(given: Tensors, wanted: Tensors, found: Names, num_classes: int | None) -> str:
    """Format counts, a table of the first names of each kind with their shapes, and advice where there is any.

    Args:
        given: the file's tensors.
        wanted: the network's tensors.
        found: their differences.
        num_classes: the network's class columns, None if unknown.
    """
    counts = ", ".join(f"{len(names)} {kind}" for kind, names in found.items())
    rows = [("tensor", "in the file", "in the network")]
    for kind, names in found.items():
        rows += [(name, _shape(given.get(name)), _shape(wanted.get(name))) for name in names[:_ROWS_SHOWN]]
        if len(names) > _ROWS_SHOWN:
            rows.append((f"... and {len(names) - _ROWS_SHOWN} more {kind}", "", ""))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([counts, *(f"  {line}" for line in table), *_advice(given, wanted, found, num_classes)])


def require_numbers(tensors: dict[str, Tensor], path: Path, op: str) -> dict[str, Tensor]:
    """Return the tensors if parameters can be copied from all of them.

    Raises:
        ValueError: a tensor is not a dense tensor of real numbers.
    """
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta or tensor.is_complex():
            kind = "a meta tensor" if tensor.is_meta else f"{tensor.dtype}, {tensor.layout}"
            raise ValueError(f"{op}: {path}: {name}: expected a dense tensor of real numbers, got {kind}")
    return tensors


def first_names(names: Iterable[str]) -> str:
    """The first few of a file's names, by which a reader may recognize it."""
    shown = list(names)
    return ", ".join(shown[:_NAMES_SHOWN]) + (", ..." if len(shown) > _NAMES_SHOWN else "")


def _shape(tensor: Tensor | None) -> str:
    return "-" if tensor is None else str(tuple(tensor.shape))


def _advice(given: Tensors, wanted: Tensors, found: Names, num_classes: int | None) -> list[str]:
    advice = []
    reshaped = found.get("of another shape", ())
    columns = _columns(given, wanted, reshaped, num_classes)
    if columns is not None and set(found) == {"of another shape"}:
        prefix = _common_prefix(reshaped)
        advice.append(
            f'The file has {columns} class columns, the network {num_classes}: exclude=("{prefix}",) starts the class '
            "head anew."
        )
    if "backbone.conv4_3_norm.weight" in given and "backbone.scale_weight" in wanted:
        advice.append(
            "The file normalizes its first map with a batch norm, the network with an L2 norm, which cannot replace "
            'it: make the network with conv4_3_norm="batch_norm".'
        )
    third_conv, seventh_block = "backbone.layer1.0.conv3.weight", "backbone.layer3.6.conv1.weight"
    has_resnet50 = third_conv in given and seventh_block not in given
    if third_conv in wanted and "backbone.layer1.0.conv1.weight" in given and not has_resnet50:
        advice.append("The file's ResNet is not ResNet-50, the only ResNet that this package supports.")
    tail = "backbone.features.1.0.3.0.weight"
    if tail in reshaped and tuple(given[tail].shape[:1]) == (2 * wanted[tail].shape[0],):
        advice.append("The file's last bottlenecks have their full width: make the network with reduced_tail=False.")
    return advice


def _columns(given: Tensors, wanted: Tensors, reshaped: Sequence[str], num_classes: int | None) -> int | None:
    """The number of the file's class columns, if it explains every tensor of another shape."""
    if not reshaped or num_classes is None:
        return None
    columns = set()
    for name in reshaped:
        theirs, ours = given[name].shape, wanted[name].shape
        if not theirs or not ours or theirs[1:] != ours[1:] or theirs[0] * num_classes % ours[0]:
            return None
        columns.add(theirs[0] * num_classes // ours[0])
    return columns.pop() if len(columns) == 1 else None


def _common_prefix(names: Sequence[str]) -> str:
    """The longest common beginning of whole name parts, such as head.classification_head."""
    parts = [name.split(".") for name in names]
    shared = []
    for column in zip(*parts, strict=False):
        if len(set(column)) > 1:
            break
        shared.append(column[0])
    return ".".join(shared)
