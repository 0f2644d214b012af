"""Build what is timed on a GPU: calls of the ops, and their inputs on the device."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import training_steps
import workloads
from timing import size_of
from torch import Tensor

import ssd_fast
from ssd_fast import _backend
from ssd_fast.ops.default_boxes import pack_options

IOU = 0.5
WINDOW = (300, 300)  # size of the images


@dataclass(frozen=True)
class Prepared:
    """A case on a device: call(*inputs) is what is timed.

    result turns what call returned into the tensors that a user gets, without the elements past a count.
    """

    inputs: tuple[Any, ...]
    call: Callable[..., Any]
    result: Callable[[Any], Any] = lambda returned: returned

    def bytes_moved(self, returned: Any) -> int:
        """The bytes that any implementation must read and write at least."""
        return size_of(self.inputs) + size_of(self.result(returned))


def postprocess(
    device: torch.device,
    heads: str,
    images: int,
    columns: int,
    dtype: torch.dtype = torch.float32,
    layout: torch.memory_format | None = None,
    maps: int = 6,
) -> Prepared:
    """layout: the memory format of raw head maps; None for rows [N, P, C]."""
    preset = workloads.preset(maps)
    *rows, default_boxes = workloads.head_outputs(heads, images, columns, device, maps=maps)
    logits, deltas = (x.to(dtype) for x in rows)
    inputs: tuple[Any, ...] = logits, deltas
    if layout is not None:
        inputs = tuple(workloads.raw_maps(x, preset.default_boxes, layout) for x in inputs)
    run = functools.partial(ssd_fast.postprocess, spec=preset.postprocess, coder=preset.coder, image_sizes=WINDOW)
    return Prepared((*inputs, default_boxes), run)


def nms(device: torch.device, n: int) -> Prepared:
    inputs = workloads.clustered_boxes(n), workloads.distinct_scores(n)
    return _padded("nms", tuple(x.to(device) for x in inputs))


def batched_nms(device: torch.device, n: int, classes: int) -> Prepared:
    return _padded("batched_nms", tuple(x.to(device) for x in workloads.boxes_of_classes(n, classes)))


def _padded(op: str, inputs: tuple[Tensor, ...]) -> Prepared:
    """The extension's nms, which does not wait for the GPU: it returns all indices and how many are valid."""

    def run(boxes: Tensor, *others: Tensor) -> tuple[Tensor, Tensor]:
        workspace = boxes.new_empty(_backend.C.nms_workspace(boxes), dtype=torch.uint8)
        kept, count = boxes.new_empty(len(boxes), dtype=torch.int64), boxes.new_empty(1, dtype=torch.int64)
        getattr(_backend.C, op)(boxes, *others, IOU, workspace, kept, count)
        return kept, count

    return Prepared(inputs, run, lambda returned: returned[0][: int(returned[1])])


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
    logits, deltas, default_boxes = workloads.head_outputs("dense", images, columns, device, maps=maps)
    boxes, labels = ([x.to(device) for x in parts] for parts in workloads.ground_truth(images, columns))
    leaves = training_steps.as_packed_leaves(logits, deltas, boxes, labels, default_boxes)
    if step == "training step":
        return Prepared(leaves, training_steps.training_step(training_steps.of_package(ssd_fast)))
    logits, deltas, packed, packed_labels, default_boxes = leaves
    losses = functools.partial(ssd_fast.multibox_loss, coder=workloads.preset().coder, loss=training_steps.LOSS)
    matched = ssd_fast.match(packed, default_boxes, training_steps.MATCHER)
    inputs = logits, deltas, packed, packed_labels, matched, default_boxes
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
    """The extension's default_boxes: on the CPU, ssd_fast.default_boxes copies its cached result."""
    spec = workloads.preset(maps).default_boxes
    options = pack_options(spec)._asdict()

    def run() -> Tensor:
        boxes = torch.empty(spec.num_boxes, 4, dtype=torch.float32, device=device)
        _backend.C.default_boxes(**options, out=boxes)
        return boxes

    return Prepared((), run)
