"""The cases that are timed on a GPU, the most informative first: ops at SSD300's sizes with 21 or 91 columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import device_builders
import torch
from device_builders import Prepared


@dataclass(frozen=True)
class Case:
    """sizes: the arguments of build; small: replaces some of them where the case only has to run."""

    name: str
    op: str
    build: Callable[..., Prepared]
    sizes: dict[str, Any]
    small: dict[str, Any] = field(default_factory=dict)

    def prepare(self, device: torch.device, *, small: bool = False) -> Prepared:
        return self.build(device, **(self.sizes | (self.small if small else {})))


NCHW, NHWC = torch.contiguous_format, torch.channels_last
LAYOUTS = {NCHW: "NCHW", NHWC: "channels-last"}


def _postprocess(heads: str, images: int, columns: int, **others: Any) -> Case:
    words = [f"postprocess {heads} N={images} C={columns}"]
    if "dtype" in others:
        words.append(str(others["dtype"]).removeprefix("torch."))
    if "layout" in others:
        words.append(f"{LAYOUTS[others['layout']]} maps")
    sizes = {"heads": heads, "images": images, "columns": columns, **others}
    small = {"images": min(images, 2), "columns": 5, "maps": 3}
    return Case(" ".join(words), "postprocess", device_builders.postprocess, sizes, small)


def _nms(n: int) -> Case:
    return Case(f"nms n={n}", "nms", device_builders.nms, {"n": n}, {"n": min(n // 100, 1100) + 30})


def _loss(step: str, columns: int) -> Case:
    sizes = {"images": 32, "columns": columns, "step": step}
    small = {"images": 2, "columns": 5, "maps": 3}
    return Case(f"multibox_loss {step} N=32 C={columns}", "multibox_loss", device_builders.loss, sizes, small)


def _coder(op: str) -> Case:
    return Case(f"{op} N=32", op, device_builders.coder, {"op": op, "images": 32}, {"images": 2, "maps": 3})


BFLOAT16 = torch.bfloat16
CASES = (
    _postprocess("sparse", 1, 91),
    _postprocess("sparse", 128, 91),
    _postprocess("sparse", 1, 21),
    _postprocess("dense", 1, 91),
    _postprocess("untrained", 1, 91),
    _postprocess("sparse", 1, 91, layout=NCHW),
    _nms(10_000),
    _nms(100_000),
    Case("match N=32 G=8", "match", device_builders.match, {"images": 32, "gts": 8}, {"images": 2, "maps": 3}),
    _loss("training step", 91),
    _loss("training step", 21),
    _loss("forward", 91),
    _loss("forward and backward", 91),
    Case("box_iou 1000 x 8732", "box_iou", device_builders.box_iou, {"n": 1000, "m": 8732}, {"n": 40, "m": 50}),
    _nms(1_000),
    _nms(1_000_000),
    Case(
        "nms_padded N=8 C=90 n=400",
        "nms_padded",
        device_builders.nms_padded,
        {"images": 8, "classes": 90, "n": 400},
        {"images": 2, "classes": 2, "n": 60},
    ),
    _postprocess("sparse", 32, 91),
    _postprocess("sparse", 32, 21),
    _postprocess("sparse", 1, 91, dtype=BFLOAT16),
    _postprocess("sparse", 128, 91, dtype=BFLOAT16),
    _postprocess("sparse", 1, 91, layout=NHWC),
    _postprocess("sparse", 32, 91, layout=NCHW),
    _postprocess("sparse", 32, 91, layout=NHWC),
    _postprocess("sparse", 8, 91),
    _postprocess("sparse", 8, 21),
    _postprocess("sparse", 128, 21),
    _postprocess("dense", 1, 21),
    _loss("forward", 21),
    _loss("forward and backward", 21),
    Case(
        "batched_nms n=30000 C=90", "batched_nms", device_builders.batched_nms, {"n": 30_000, "classes": 90}, {"n": 300}
    ),
    Case("default_boxes", "default_boxes", device_builders.default_boxes, {}, {"maps": 3}),
    _coder("decode_boxes"),
    _coder("encode_boxes"),
)


def chosen(parts: Sequence[str] = ()) -> Iterator[Case]:
    """The cases with these names; a part that names no case selects all cases that contain it. No parts: all cases."""
    names = {case.name for case in CASES}
    return (
        case
        for case in CASES
        if not parts or any(part == case.name if part in names else part in case.name for part in parts)
    )


def named(name: str) -> Case:
    """The case of this name.

    Raises: KeyError: no case has this name.
    """
    return {case.name: case for case in CASES}[name]
