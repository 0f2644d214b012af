"""postprocess: the device memory that its CUDA kernels need beside the outputs."""

from __future__ import annotations

import dataclasses
import importlib

import pytest
import torch

from ssd_fast import BoxCoderSpec, PostprocessSpec, _backend

OP = importlib.import_module("ssd_fast.ops.postprocess")._op  # ssd_fast.ops.postprocess is the function
SLACK = 16 * 256  # each array of the workspace begins at a multiple of 256 bytes

SPECS = {
    "per class": PostprocessSpec(),
    "sigmoid": PostprocessSpec("sigmoid", None),
    "argmax": PostprocessSpec(class_mode="argmax"),
    "agnostic": PostprocessSpec(class_mode="agnostic"),
    "best of images": PostprocessSpec(top_k=1000, top_k_scope="image"),
    "best of levels": PostprocessSpec(top_k=1000, top_k_scope="level"),
    "all candidates": PostprocessSpec(top_k=None),
}


def workspace(backend, images, rows, columns, spec):
    """Return the size in bytes; only the shape of the logits matters, so they take no memory."""
    logits = backend.to(torch.empty(1, 1, 1)).expand(images, rows, columns)
    options = OP.prepare(spec, BoxCoderSpec(), columns)
    return _backend.C.postprocess_workspace(logits, rows, columns, options)


def test_workspace_of_large_batch_is_small(backend):
    """The logits of these 512 images take 1.6 GB."""
    used = workspace(backend, 512, 8732, 91, PostprocessSpec(keep_top_k=200))
    assert used <= 160_000_000
    assert (used > 0) == (backend.name != "cpu")
    assert workspace(backend, 0, 8732, 91, PostprocessSpec()) == 0
    assert workspace(backend, 300, 0, 10**6, PostprocessSpec()) <= 300 * 16 + SLACK  # and not more per column


@pytest.mark.parametrize("name", SPECS)
def test_workspace_grows_with_rows_and_kept_boxes(backend, name):
    """It grows as N (P + C keep_top_k), with nothing per score, for any number of images, rows and columns."""
    n, p, c, k = 64, 20_000, 91, 200
    spec = dataclasses.replace(SPECS[name], keep_top_k=k)

    def used(images=n, rows=p, columns=c, keep=k):
        return workspace(backend, images, rows, columns, dataclasses.replace(spec, keep_top_k=keep))

    once = used()
    assert used(images=2 * n) <= 2 * once + SLACK
    # A row has 8 bytes and a bit; a column has 32 candidates and k detections, of 8 bytes each, and two counters.
    assert used(rows=2 * p) - once <= n * p * (8 + 1 / 8) + SLACK
    assert used(columns=2 * c) - once <= n * c * (8 * (32 + k) + 8) + SLACK
    # A block has k boxes, and there are at most 1024 blocks.
    assert used(keep=2 * k) - once <= n * c * k * 8 + 1024 * k * 16 + SLACK
    # Nothing else grows faster, neither with rows and columns nor with rows and detections.
    assert used(rows=2 * p, columns=2 * c) - used(rows=2 * p) - used(columns=2 * c) + once <= SLACK
    assert used(rows=2 * p, keep=2 * k) - used(rows=2 * p) - used(keep=2 * k) + once <= SLACK
    assert (once > 0) == (backend.name != "cpu")
