"""Calls that take seconds on the CPU and need little memory, for tests that interrupt them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

import numpy as np
import torch

import ssd_fast
from ssd_fast import BoxCoderSpec, LossSpec, MatcherSpec, PostprocessSpec

Call = Callable[[], torch.Tensor]

CODER = BoxCoderSpec()
ROWS, COLUMNS = 4000, 81


def boxes_apart(n: int) -> torch.Tensor:
    """Return boxes of which no two overlap, so small that NMS compares each with all before it."""
    corners = 2.0 * torch.arange(n)[:, None].expand(n, 2)
    return torch.cat((corners, corners + 1), 1) * 2.0**-56


def boxes_together(n: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    corners = torch.rand(n, 2, dtype=dtype)
    return torch.cat((corners, corners + torch.rand(n, 2, dtype=dtype)), 1)


def nms(n: int) -> Call:
    boxes, scores = boxes_apart(n), torch.linspace(1, 0, n)
    return lambda: ssd_fast.nms(boxes, scores, 0.5)


def registered_nms(n: int) -> Call:
    boxes, scores = boxes_apart(n), torch.linspace(1, 0, n)
    return lambda: torch.ops.ssd_fast.nms(boxes, scores, 0.5)


def batched_nms(n: int) -> Call:
    boxes, scores, classes = boxes_apart(n), torch.linspace(1, 0, n), torch.arange(n) % 2
    return lambda: ssd_fast.batched_nms(boxes, scores, classes, 0.5)


def nms_padded(n: int) -> Call:
    boxes, scores = boxes_apart(n)[None], torch.linspace(1, 0, n).repeat(1, 2, 1)
    return lambda: ssd_fast.nms_padded(boxes, scores, 0.5, n)[0]


def match(n: int) -> Call:
    truth, default_boxes = [boxes_together(n), boxes_together(n)], boxes_together(n)
    return lambda: ssd_fast.match(truth, default_boxes, MatcherSpec())


def bipartite_match(n: int) -> Call:
    truth, default_boxes = [boxes_together(1).repeat(n, 1)] * 2, boxes_together(n)
    return lambda: ssd_fast.match(truth, default_boxes, MatcherSpec(rule="bipartite"))


def match_by_second_thread(n: int) -> Call:
    """Return a call in which the first thread has nothing to do."""
    truth, default_boxes = [boxes_together(0), boxes_together(n)], boxes_together(n)
    return lambda: ssd_fast.match(truth, default_boxes, MatcherSpec())


def box_iou(n: int) -> Call:
    boxes1, boxes2 = boxes_together(n, torch.float64), boxes_together(n, torch.float64)
    return lambda: ssd_fast.box_iou(boxes1, boxes2)


def postprocess(n: int) -> Call:
    logits, deltas = torch.rand(1, ROWS, 21).expand(n, ROWS, 21), torch.zeros(1, ROWS, 4).expand(n, ROWS, 4)
    default_boxes, spec = boxes_together(ROWS), PostprocessSpec()
    return lambda: ssd_fast.postprocess(logits, deltas, default_boxes, spec, coder=CODER).scores


def make_loss(n: int, needs_gradient: bool) -> Call:
    images = 1 + n // 65_536
    logits = torch.from_numpy(np.zeros((images, n, COLUMNS), np.float32))  # takes no memory until it is written to
    logits.requires_grad_(needs_gradient)
    deltas, matched = torch.zeros(images, n, 4), torch.zeros(images, n, dtype=torch.int64)
    truth, labels, default_boxes = [boxes_together(1)] * images, [torch.tensor([1])] * images, boxes_together(n)
    loss = LossSpec(classification="focal")

    def call() -> torch.Tensor:
        losses = ssd_fast.multibox_loss(logits, deltas, truth, labels, matched, default_boxes, coder=CODER, loss=loss)
        return losses["classification"]

    if not needs_gradient:
        return call
    total = call()
    return lambda: torch.autograd.grad(total, logits, retain_graph=True)[0]


def loss(n: int) -> Call:
    return make_loss(n, needs_gradient=False)


def loss_gradient(n: int) -> Call:
    return make_loss(n, needs_gradient=True)


# What prepares each call, with a size for which the call takes a moment, and one for which it takes seconds.
SIZES: dict[Callable[[int], Call], tuple[int, int]] = {
    nms: (40, 1_000_000),
    registered_nms: (40, 1_000_000),
    batched_nms: (40, 1_000_000),
    nms_padded: (40, 1_000_000),
    match: (40, 100_000),
    bipartite_match: (40, 100_000),
    match_by_second_thread: (40, 100_000),
    box_iou: (40, 24_000),
    postprocess: (2, 30_000),
    loss: (40, 1_000_000),
    loss_gradient: (40, 500_000),
}


def seeded(prepare: Callable[[int], Call], size: int) -> Call:
    torch.manual_seed(0)
    return prepare(size)


def send_soon(signal_number: int, sent: list[float]) -> threading.Timer:
    """Send this process a signal in 0.3 s, from another thread, and append the time to `sent`."""

    def send() -> None:
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal_number)

    timer = threading.Timer(0.3, send)
    timer.start()
    return timer
