"""Mutations of a call: each changes the call in place, and says whether every op must refuse the result."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import torch

from . import specs
from .array_mutations import mutate_array
from .calls import Call, Spec, is_array, note

_NUMBERS = (
    *(2**31 - 1, 2**31, 2**32 + 5, 2**63 - 1, 2**63, 2**64, -1, 0, 1, 3, -(2**31) - 1, 1e300, 1e-400, 1e39),
    *(math.nan, math.inf, -math.inf, -0.0, 0.5, True, False, None, "0.5", "nan", b"1", 1j, object(), [1], (), {}),
    *(np.float64(0.5), np.float32(0.5), np.float16(0.5), np.int64(1), np.int32(2), np.uint8(3), np.bool_(True)),
    *(np.array(0.5), np.array([1]), torch.tensor(0.5), torch.tensor(1), torch.tensor([0.5, 0.5])),
)


def mutate(call: Call, rng: random.Random) -> None:
    """Apply the drawn mutation if it fits the call; none follows one that changes the op's promise."""
    if not (call.must_refuse or call.shapes_only or call.huge or call.dual):
        rng.choices((mutate_array, _number, _spec, _structure), (6, 2, 1, 1))[0](call, rng)


# ---- numbers --------------------------------------------------------------------------------------------------------


def _number(call: Call, rng: random.Random) -> None:
    """Change a number of the call, or in a field of a spec."""
    value = rng.choice(_NUMBERS)
    no_number = isinstance(value, (str, bytes, complex, dict)) or type(value) is object
    names = [name for name, given in call.arguments.items() if isinstance(given, (Spec, int, float))]
    if not names:
        return
    name = rng.choice(names)
    given = call.arguments[name]
    if not isinstance(given, Spec):
        call.arguments[name] = value
        note(call, f"{name}: {value!r}", no_number or value is None or isinstance(value, (list, tuple)))
        return
    field = rng.choice(list(given.fields))
    fields = dict(given.fields)
    row = fields[field]
    if isinstance(row, tuple) and row and rng.random() < 0.2:
        index = rng.randrange(len(row))
        fields[field] = rng.choice((row[:index] + row[index + 1 :], row + row[index : index + 1], list(row)))
        text, no_number = f"{len(fields[field])} entries", False
    else:
        fields[field] = _replaced(row, value, rng)
        text = repr(value)
    call.arguments[name] = Spec(given.kind, fields)
    note(call, f"{name}.{field}: {text}", no_number)


def _replaced(old: Any, value: Any, rng: random.Random) -> Any:
    """Return the value, or for a row of numbers or rows mostly the row with one entry replaced by it."""
    if not (isinstance(old, tuple) and old and rng.random() < 0.9):
        return value
    index = rng.randrange(len(old))
    return (*old[:index], _replaced(old[index], value, rng), *old[index + 1 :])


# ---- specs and lists ------------------------------------------------------------------------------------------------


def _spec(call: Call, rng: random.Random) -> None:
    """Put something else in the place of a spec."""
    names = [name for name, value in call.arguments.items() if isinstance(value, Spec)]
    if not names:
        return
    name = rng.choice(names)
    given = call.arguments[name]
    choices: dict[str, Any] = {
        "None": None,
        "a dict": dict(given.fields),
        "a string": "default",
        "its class": given.kind,
        "its name": given.kind.__name__,
        "a tuple": tuple(given.fields.values()),
        "another spec": (specs.matcher if name != "matcher" else specs.coder)(rng),
        "an array": np.zeros(4, np.float32),
    }
    text = rng.choice(list(choices))
    call.arguments[name] = choices[text]
    note(call, f"{name}: {text}", True)


def _structure(call: Call, rng: random.Random) -> None:
    """Give a list of arrays wrong entries, or make it something else than a list."""
    names = [n for n, value in call.arguments.items() if isinstance(value, (list, tuple)) and any(map(is_array, value))]
    if not names:
        return
    name = rng.choice(names)
    items = list(call.arguments[name])
    choices: dict[str, Any] = {
        "one less": items[:-1],
        "one more": [*items, items[-1]],
        "empty": [],
        "an empty tuple": (),
        "a tuple": tuple(items),
        "a list": items,
        "twice": [*items, *items],
        "9 or more": (items * 9)[: max(9, len(items))],
        "reversed": items[::-1],
        "None among them": [*items[:-1], None],
        "nested": [items],
        "an iterator": iter(items),
        "a dict": dict(enumerate(items)),
        "an array of objects": _objects(items),
    }
    text = rng.choice(list(choices))
    call.arguments[name] = choices[text]
    wrong = ("None among them", "nested", "an iterator", "a dict", "an array of objects")
    note(call, f"{name}: {text}", text in wrong)


def _objects(items: list[Any]) -> np.ndarray:
    array = np.empty(len(items), object)
    array[:] = [str(type(item)) for item in items]
    return array
