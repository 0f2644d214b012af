"""A call of an op as data, which layouts and mutations change."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

Place = tuple[str, int | None]  # an argument, and, if it is a list or tuple, the index in it


@dataclass
class Spec:
    """A spec not yet made: specs check their fields, so they are made only when the call is."""

    kind: Callable[..., Any]
    fields: dict[str, Any]


@dataclass
class Call:
    """An op and its arguments.

    backward: "" or the upstream gradient: "ones", "ramp".
    tame: no arithmetic of its values overflows, so that gradients can be compared with the reference's.
    exact: no rounding of exp or log can change a decision.
    shapes_only: no array has memory; all are FakeTensors or meta tensors.
    huge: an array has more elements than fit in any machine's memory.
    dual: the argument that carries a tangent of forward-mode differentiation.
    must_refuse: the oddity that no op may accept, or "".
    """

    op: str
    arguments: dict[str, Any]
    backward: str = ""
    tame: bool = True
    exact: bool = True
    shapes_only: bool = False
    huge: bool = False
    dual: str = ""
    oddities: list[str] = field(default_factory=list)
    must_refuse: str = ""

    def built(self) -> dict[str, Any]:
        """Return the arguments, with specs made. Raises: the errors of the specs."""
        return {k: v.kind(**v.fields) if isinstance(v, Spec) else v for k, v in self.arguments.items()}


def is_array(value: Any) -> bool:
    return isinstance(value, (torch.Tensor, np.ndarray))


def places(arguments: dict[str, Any]) -> list[Place]:
    """Return the places of arrays."""
    found: list[Place] = []
    for name, value in arguments.items():
        if is_array(value):
            found.append((name, None))
        elif isinstance(value, (list, tuple)):
            found += [(name, index) for index, item in enumerate(value) if is_array(item)]
    return found


def get(arguments: dict[str, Any], place: Place) -> Any:
    name, index = place
    return arguments[name] if index is None else arguments[name][index]


def put(arguments: dict[str, Any], place: Place, value: Any) -> None:
    name, index = place
    if index is None:
        arguments[name] = value
    else:
        items = list(arguments[name])
        items[index] = value
        arguments[name] = type(arguments[name])(items)


def note(call: Call, oddity: str, must_refuse: bool) -> None:
    """Record a change of the call for the report and the verdict."""
    call.oddities.append(oddity)
    if must_refuse:
        call.must_refuse = oddity


def generator(seed: int, number: int, part: int | str) -> random.Random:
    """Return the generator of one part of a call, so that leaving out another part does not change it."""
    return random.Random(f"{seed} {number} {part}")


def describe(arguments: dict[str, Any]) -> dict[str, str]:
    """Describe each argument in a few words, without reading elements: some arrays are huge, or have none."""
    return {name: _describe(value) for name, value in arguments.items()}


def _describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        flags = "" if value.flags.aligned else " unaligned"
        return f"{type(value).__name__} {value.dtype} {list(value.shape)} strides {list(value.strides)}{flags}"
    if isinstance(value, torch.Tensor) and value.is_nested:
        return "a nested tensor"
    if isinstance(value, torch.Tensor):
        text = f"{type(value).__name__} {value.dtype} {list(value.shape)}"
        if value.layout == torch.strided:
            text += f" strides {list(value.stride())} offset {value.storage_offset()}"
        return f"{text} {value.layout} {value.device}"
    if isinstance(value, Spec):
        return f"{value.kind.__name__}({', '.join(f'{name}={item!r}' for name, item in value.fields.items())})"
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__}: " + "; ".join(map(_describe, value))
    return repr(value)[:200]
