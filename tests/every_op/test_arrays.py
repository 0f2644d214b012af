"""Arrays of every library reach the kernels unchanged: strides, dtypes, views, and the exchange protocols."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

import ssd_fast
from helpers import inputs
from ssd_fast import BoxCoderSpec, PostprocessSpec, _backend, reference

BOXES = torch.tensor([[0.0, 0, 10, 10], [1, 1, 11, 11], [20, 20, 30, 30], [0, 0, 9, 9]])
SCORES = torch.tensor([0.9, 0.8, 0.7, 0.6])


class OnlyDlpack:
    """An array as torch before 2.11 offers it: __dlpack__ without max_version, and no exchange API."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor

    def __dlpack__(self, stream=None):
        return self.tensor.__dlpack__()

    def __dlpack_device__(self):
        return self.tensor.__dlpack_device__()


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a,
        np.asfortranarray,
        lambda a: np.repeat(a, 2, axis=0)[::2],
        lambda a: np.ascontiguousarray(a[::-1])[::-1],
    ],
    ids=["plain", "fortran", "strided", "negative strides"],
)
def test_ops_take_numpy_views(backend, view):
    if backend.name == "cuda":
        pytest.skip("NumPy arrays are CPU arrays")
    boxes = view(BOXES.numpy().copy())
    boxes.flags.writeable = False
    kept = ssd_fast.nms(boxes, SCORES.numpy(), 0.5)
    assert isinstance(kept, np.ndarray) and kept.dtype == np.int64
    assert kept.tolist() == [0, 2]


def test_postprocess_takes_numpy_head_outputs(backend):
    if backend.name == "cuda":
        pytest.skip("NumPy arrays are CPU arrays")
    generator = torch.Generator().manual_seed(3)
    logits, deltas = torch.randn(2, 40, 5, generator=generator), torch.randn(2, 40, 4, generator=generator)
    default_boxes = inputs.boxes(1, 40)
    call = {"spec": PostprocessSpec(), "coder": BoxCoderSpec()}
    for dtype in (np.float32, np.float16):
        given = (logits.numpy().astype(dtype), deltas.numpy().astype(dtype), default_boxes.numpy())
        expected = ssd_fast.postprocess(*(torch.from_numpy(array) for array in given), **call)
        found = ssd_fast.postprocess(*given, **call)
        for ours, theirs in zip(found, expected, strict=True):
            assert isinstance(ours, np.ndarray)
            np.testing.assert_array_equal(ours, theirs.numpy())


def test_kernels_take_dlpack_without_exchange_api():
    boxes, out = BOXES.double(), torch.empty(4, 4, dtype=torch.float64)
    _backend.C.box_iou(OnlyDlpack(boxes), OnlyDlpack(boxes), OnlyDlpack(out))
    assert torch.equal(out, reference.box_iou(boxes, boxes))


def test_ops_take_non_contiguous_and_negated_tensors(backend):
    boxes = backend.to(BOXES)
    negated = torch._neg_view(-boxes)  # as a real view of a conjugated complex tensor gives it
    assert negated.is_neg()
    assert ssd_fast.nms(negated, backend.to(SCORES), 0.5).tolist() == [0, 2]
    assert ssd_fast.nms(boxes.t().contiguous().t(), backend.to(SCORES), 0.5).tolist() == [0, 2]


def test_ops_take_parameters_and_tensors_with_grad(backend):
    boxes = torch.nn.Parameter(backend.to(BOXES))
    kept = ssd_fast.nms(boxes, backend.to(SCORES).requires_grad_(), 0.5)
    assert kept.tolist() == [0, 2] and not kept.requires_grad


def test_argument_that_is_not_an_array_is_named():
    with pytest.raises(TypeError, match=r"^nms: boxes: expected a torch tensor, or .* array, got list"):
        ssd_fast.nms([[0, 0, 1, 1]], [0.5], 0.5)


def test_ops_may_run_in_many_threads_at_once():
    """The ops release the GIL and share no state."""
    boxes, scores = torch.rand(2000, 2) * 100, torch.rand(2000)
    boxes = torch.cat((boxes, boxes + 10), 1)
    expected = ssd_fast.nms(boxes, scores, 0.3)
    results: list[torch.Tensor] = []
    threads = [
        threading.Thread(target=lambda: results.extend(ssd_fast.nms(boxes, scores, 0.3) for _ in range(5)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 20 and all(torch.equal(result, expected) for result in results)


@pytest.mark.parametrize("library", ["cupy", "numba"])
def test_ops_take_arrays_of_other_libraries_on_gpu(cuda, library):
    module = pytest.importorskip("cupy" if library == "cupy" else "numba.cuda", reason=f"{library} is not installed")
    to_device = module.asarray if library == "cupy" else module.to_device
    to_host = (lambda array: array.get()) if library == "cupy" else (lambda array: array.copy_to_host())
    boxes, scores = to_device(BOXES.numpy()), to_device(SCORES.numpy())
    assert to_host(ssd_fast.nms(boxes, scores, 0.5)).tolist() == [0, 2]
    ious = ssd_fast.box_iou(boxes, boxes)
    assert type(ious) is type(boxes)
    np.testing.assert_array_equal(to_host(ious), reference.box_iou(BOXES, BOXES).numpy())


def test_ops_use_current_stream(cuda):
    boxes, scores = BOXES.to(cuda), SCORES.to(cuda)

    def work() -> tuple[torch.Tensor, torch.Tensor]:
        later = boxes + 0
        return ssd_fast.nms_padded(later[None], scores[None], 0.5, 4)

    work()  # kernels are loaded at their first launch, which may wait for running work
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(20_000_000)  # work on another stream would overtake this
        kept, counts = work()
    stream.synchronize()
    assert counts.tolist() == [2] and kept.tolist() == [[0, 2, -1, -1]]
