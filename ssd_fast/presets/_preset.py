"""Preset: the specs of one SSD dialect, and the same as JSON can hold it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .._checks import instance, require, shown
from ..specs import BoxCoderSpec, DefaultBoxSpec, LossSpec, MatcherSpec, PostprocessSpec
from ..specs._json import from_plain, to_plain


@dataclass(frozen=True)
class Preset:
    """The specs of one SSD dialect, to be handed to default_boxes, encode_boxes, match, multibox_loss and postprocess.

    loss is None where the original's loss cannot be expressed; to train such a network, choose one.

    Raises:
        ValueError: the message names the field, what was expected and what was given.
        TypeError: the message names the field, what was expected and what was given.
    """

    name: str
    default_boxes: DefaultBoxSpec
    coder: BoxCoderSpec
    matcher: MatcherSpec
    loss: LossSpec | None
    postprocess: PostprocessSpec

    def __post_init__(self) -> None:
        require(isinstance(self.name, str), "Preset", "name", "a string", self.name)
        for field, kind in _SPECS.items():
            if field != "loss" or self.loss is not None:
                instance("Preset", field, getattr(self, field), kind)

    def to_dict(self) -> dict[str, Any]:
        """Everything in it as JSON can hold it, so that a weight file can say how its network is read."""
        specs = {field: getattr(self, field) for field in _SPECS}
        return {"name": self.name, **{field: None if spec is None else to_plain(spec) for field, spec in specs.items()}}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Preset:
        """The preset that `to_dict` took apart.

        Raises:
            ValueError: a field is missing, unknown or wrong.
        """
        require(isinstance(fields, Mapping), "Preset", "fields", "a dict such as to_dict returns", fields)
        names = ("name", *_SPECS)
        missing, unknown = set(names) - set(fields), set(fields) - set(names)
        for what, wrong in (("without", missing), ("with", unknown)):
            if wrong:
                given = shown(next(iter(wrong)))
                raise ValueError(f"Preset: fields: expected {', '.join(names)}, got a dict {what} {given}")
        specs: dict[str, Any] = {
            field: None if field == "loss" and fields[field] is None else from_plain(kind, fields[field])
            for field, kind in _SPECS.items()
        }
        return cls(fields["name"], **specs)


_SPECS: dict[str, type] = {
    "default_boxes": DefaultBoxSpec,
    "coder": BoxCoderSpec,
    "matcher": MatcherSpec,
    "loss": LossSpec,
    "postprocess": PostprocessSpec,
}


def require_preset(value: object, op: str) -> Preset:
    """value, a Preset.

    Raises:
        TypeError: the message names op, which says how to get one by its name.
    """
    if isinstance(value, Preset):
        return value
    hint = f": preset({value!r}) is one" if isinstance(value, str) else ""
    raise TypeError(f"{op}: preset: expected a Preset, such as ssd_fast.preset(name), got {shown(value)}{hint}")


# What the SSD300 and SSD512 of every codebase share.
SSD300_MAPS = (38, 19, 10, 5, 3, 1)
SSD300_STEPS = (8, 16, 32, 64, 100, 300)
SSD300_RATIOS = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))
SSD512_MAPS = (64, 32, 16, 8, 4, 2, 1)
SSD512_STEPS = (8, 16, 32, 64, 128, 256, 512)
SSD512_RATIOS = ((2,), (2, 3), (2, 3), (2, 3), (2, 3), (2,), (2,))

# Box sizes in pixels by dataset: the smaller size of each map, and of one map more.
VOC300_SIZES = (30, 60, 111, 162, 213, 264, 315)
COCO300_SIZES = (21, 45, 99, 153, 207, 261, 315)
VOC512_SIZES = (35.84, 76.8, 153.6, 230.4, 307.2, 384.0, 460.8, 537.6)
COCO512_SIZES = (20.48, 51.2, 133.12, 215.04, 296.96, 378.88, 460.8, 542.72)
