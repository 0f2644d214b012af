"""Preset: the specs of one SSD dialect, and their conversion to JSON and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .._checks import instance, require
from .._io.text import brief
from ..specs import BoxCoderSpec, DefaultBoxSpec, LossSpec, MatcherSpec, PostprocessSpec
from ..specs._json import from_plain, to_plain


@dataclass(frozen=True)
class Preset:
    """The specs of one SSD dialect, for default_boxes, encode_boxes, match, multibox_loss and postprocess.

    Attributes:
        name: what the preset is called.
        default_boxes: where the default boxes lie.
        coder: how offsets describe a box.
        matcher: which default boxes stand for which ground truth.
        loss: what the losses sum; None where the original's loss cannot be expressed: to train such a network, choose
            one.
        postprocess: how head outputs become detections.

    Raises:
        TypeError: a field is not a spec of its kind; the message names it, the expected and the given type.
        ValueError: the name is not a string.

    Examples:
        >>> import dataclasses, ssd_fast
        >>> voc = ssd_fast.preset("torchvision_ssd300_vgg16")
        >>> strict = dataclasses.replace(voc.postprocess, score_threshold=0.5)
        >>> ssd_fast.Preset("mine", voc.default_boxes, voc.coder, voc.matcher, voc.loss, strict).postprocess.top_k
        400
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
        """Return all fields as values that JSON can hold, so that a weight file can say how its network is read."""
        specs = {field: getattr(self, field) for field in _SPECS}
        return {"name": self.name, **{field: None if spec is None else to_plain(spec) for field, spec in specs.items()}}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Preset:
        """Make the preset again from what `to_dict` returned.

        Raises:
            ValueError: a field is missing, unknown or wrong.
        """
        require(isinstance(fields, Mapping), "Preset", "fields", "a dict such as to_dict returns", fields)
        names = ("name", *_SPECS)
        missing, unknown = set(names) - set(fields), set(fields) - set(names)
        for what, wrong in (("without", missing), ("with", unknown)):
            if wrong:
                given = brief(next(iter(wrong)))
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
    """Return the value if it is a Preset.

    Raises:
        TypeError: it is not; the message names op and says how to get a preset by its name.
    """
    if isinstance(value, Preset):
        return value
    hint = f"; did you mean ssd_fast.preset({value!r})?" if isinstance(value, str) else ""
    raise TypeError(f"{op}: preset: expected a Preset, such as ssd_fast.preset(name), got {brief(value)}{hint}")


# Shared by the SSD300 and SSD512 of every codebase.
SSD300_MAPS = (38, 19, 10, 5, 3, 1)
SSD300_STEPS = (8, 16, 32, 64, 100, 300)
SSD300_RATIOS = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))
SSD512_MAPS = (64, 32, 16, 8, 4, 2, 1)
SSD512_STEPS = (8, 16, 32, 64, 128, 256, 512)
SSD512_RATIOS = ((2,), (2, 3), (2, 3), (2, 3), (2, 3), (2,), (2,))

# Box sizes in pixels by dataset: the smaller size of each map and of one map more.
VOC300_SIZES = (30, 60, 111, 162, 213, 264, 315)
COCO300_SIZES = (21, 45, 99, 153, 207, 261, 315)
VOC512_SIZES = (35.84, 76.8, 153.6, 230.4, 307.2, 384.0, 460.8, 537.6)
COCO512_SIZES = (20.48, 51.2, 133.12, 215.04, 296.96, 378.88, 460.8, 542.72)
