"""What is timed on a GPU, the most telling first: ops at the sizes of an SSD300 with 21 or 91 columns."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import training_steps
import workloads
from timing import size_of
from torch import Tensor

import ssd_fast
from ssd_fast import _backend

IOU = 0.5
WINDOW = (300, 300)  # of the images


@dataclass
class Prepared:
    """A case on a device: call(*inputs) is what is timed.

    result makes of what call returned the tensors that a user gets: without what lies behind a count.
    """

    inputs: tuple[Any, ...]
    call: Callable[..., Any]
    result: Callable[[Any], Any] = lambda returned: returned

    def bytes_moved(self, returned: Any) -> int:
        """The least that any implementation must read and write."""
        return size_of(self.inputs) + size_of(self.result(returned))


@dataclass(frozen=True)
class Case:
    """sizes are the arguments of build; small replaces some of them where the case only has to run."""

    name: str
    op: str
    build: Callable[..., Prepared]
    sizes: dict[str, Any]
    small: dict[str, Any] = field(default_factory=dict)

    def prepare(self, device: torch.device, *, small: bool = False) -> Prepared:
        return self.build(device, **(self.sizes | (self.small if small else {})))


# ---- builders -------------------------------------------------------------------------------------------------------


def postprocess(
    device: torch.device,
    heads: str,
    images: int,
    columns: int,
    dtype: torch.dtype = torch.float32,
    layout: torch.memory_format | None = None,
    maps: int = 6,
) -> Prepared:
    """layout: of raw head maps; None: rows [N, P, C]."""
    preset = workloads.preset(maps)
    *rows, default_boxes = workloads.head_outputs(heads, images, columns, device, maps=maps)
    logits, deltas = (x.to(dtype) for x in rows)
    inputs: tuple[Any, ...] = logits, deltas
    if layout is not None:
        inputs = tuple(workloads.raw_maps(x, preset.default_boxes, layout) for x in inputs)
    run = functools.partial(ssd_fast.postprocess, spec=preset.postprocess, coder=preset.coder, image_sizes=WINDOW)
    return Prepared((*inputs, default_boxes), run)


def nms(device: torch.device, n: int) -> Prepared:
    """The extension's own form of nms, which does not wait for the GPU: all indices, of which count are valid."""

    def run(boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        workspace = torch.empty(_backend.C.nms_workspace(boxes), dtype=torch.uint8, device=device)
        kept = torch.empty(n, dtype=torch.int64, device=device)
        count = torch.empty(1, dtype=torch.int64, device=device)
        _backend.C.nms(boxes, scores, IOU, workspace, kept, count)
        return kept, count

    inputs = workloads.clustered_boxes(n).to(device), workloads.distinct_scores(n).to(device)
    return Prepared(inputs, run, _valid)


def batched_nms(device: torch.device, n: int, classes: int) -> Prepared:
    """As nms, with classes."""

    def run(boxes: Tensor, scores: Tensor, idxs: Tensor) -> tuple[Tensor, Tensor]:
        workspace = torch.empty(_backend.C.nms_workspace(boxes), dtype=torch.uint8, device=device)
        kept = torch.empty(n, dtype=torch.int64, device=device)
        count = torch.empty(1, dtype=torch.int64, device=device)
        _backend.C.batched_nms(boxes, scores, idxs, IOU, workspace, kept, count)
        return kept, count

    return Prepared(tuple(x.to(device) for x in workloads.boxes_of_classes(n, classes)), run, _valid)


def _valid(returned: tuple[Tensor, Tensor]) -> Tensor:
    kept, count = returned
    return kept[: int(count)]


def nms_padded(device: torch.device, images: int, classes: int, n: int) -> Prepared:
    inputs = tuple(x.to(device) for x in workloads.problems_of_images(images, classes, n))
    return Prepared(inputs, functools.partial(ssd_fast.nms_padded, iou_threshold=IOU, max_output=200))


def match(device: torch.device, images: int, gts: int, maps: int = 6) -> Prepared:
    def run(boxes: Tensor, offsets: Tensor, default_boxes: Tensor) -> Tensor:
        return ssd_fast.match((boxes, offsets), default_boxes, training_steps.MATCHER)

    default_boxes = ssd_fast.default_boxes(workloads.preset(maps).default_boxes, device=device)
    return Prepared((*(x.to(device) for x in workloads.crowds(images, gts)), default_boxes), run)


def loss(device: torch.device, images: int, columns: int, step: str, maps: int = 6) -> Prepared:
    """step: "forward", "forward and backward", or "training step", which matches first."""
    *heads, default_boxes = workloads.head_outputs("dense", images, columns, device, maps=maps)
    boxes, labels = ([x.to(device) for x in parts] for parts in workloads.ground_truth(images, columns))
    logits, deltas, packed, *others = training_steps.as_packed_leaves(*heads, boxes, labels, default_boxes)
    if step == "training step":
        run = training_steps.training_step(training_steps.of_package(ssd_fast))
        return Prepared((logits, deltas, packed, *others), run)
    losses = functools.partial(ssd_fast.multibox_loss, coder=workloads.preset().coder, loss=training_steps.LOSS)
    matched = ssd_fast.match(packed, default_boxes, training_steps.MATCHER)
    inputs = logits, deltas, packed, others[0], matched, default_boxes
    if step == "forward":
        return Prepared(inputs, lambda *tensors: tuple(losses(*tensors).values()))
    return Prepared(inputs, training_steps.training_step(losses))


def box_iou(device: torch.device, n: int, m: int) -> Prepared:
    inputs = tuple(workloads.uniform_boxes(count, seed).to(device) for seed, count in enumerate((n, m)))
    return Prepared(inputs, ssd_fast.box_iou)


def coder(device: torch.device, op: str, images: int, maps: int = 6) -> Prepared:
    preset = workloads.preset(maps)
    _, rows, default_boxes = workloads.head_outputs("dense", images, 2, device, maps=maps)
    if op == "encode_boxes":
        rows = ssd_fast.decode_boxes(rows, default_boxes, preset.coder)
    return Prepared((rows, default_boxes), functools.partial(getattr(ssd_fast, op), coder=preset.coder))


def default_boxes(device: torch.device, maps: int = 6) -> Prepared:
    spec = workloads.preset(maps).default_boxes
    return Prepared((), lambda: ssd_fast.default_boxes(spec, device=device))


# ---- the table ------------------------------------------------------------------------------------------------------

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
    return Case(" ".join(words), "postprocess", postprocess, sizes, small)


def _nms(n: int) -> Case:
    return Case(f"nms n={n}", "nms", nms, {"n": n}, {"n": min(n // 100, 1100) + 30})


def _loss(step: str, columns: int) -> Case:
    sizes = {"images": 32, "columns": columns, "step": step}
    small = {"images": 2, "columns": 5, "maps": 3}
    return Case(f"multibox_loss {step} N=32 C={columns}", "multibox_loss", loss, sizes, small)


def _coder(op: str) -> Case:
    return Case(f"{op} N=32", op, coder, {"op": op, "images": 32}, {"images": 2, "maps": 3})


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
    Case("match N=32 G=8", "match", match, {"images": 32, "gts": 8}, {"images": 2, "maps": 3}),
    _loss("training step", 91),
    _loss("training step", 21),
    _loss("forward", 91),
    _loss("forward and backward", 91),
    Case("box_iou 1000 x 8732", "box_iou", box_iou, {"n": 1000, "m": 8732}, {"n": 40, "m": 50}),
    _nms(1_000),
    _nms(1_000_000),
    Case(
        "nms_padded N=8 C=90 n=400",
        "nms_padded",
        nms_padded,
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
    Case("batched_nms n=30000 C=90", "batched_nms", batched_nms, {"n": 30_000, "classes": 90}, {"n": 300}),
    Case("default_boxes", "default_boxes", default_boxes, {}, {"maps": 3}),
    _coder("decode_boxes"),
    _coder("encode_boxes"),
)


def chosen(parts: Sequence[str] = ()) -> Iterator[Case]:
    """The cases whose name has one of the parts in it, or all."""
    return (case for case in CASES if not parts or any(part in case.name for part in parts))


def named(name: str) -> Case:
    """Raises: KeyError: there is no such case."""
    return {case.name: case for case in CASES}[name]
