"""An op runs on its arrays' GPU and stream, whichever are current, and leaves the current ones unchanged."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import torch

import ssd_fast
from helpers import fake_numba
from helpers.op_calls import make_cases
from helpers.unaligned_calls import as_bytes
from ssd_fast import BoxCoderSpec, PostprocessSpec, _backend, arrays

CASES = tuple(name for name in make_cases() if "bfloat16" not in name)  # NumPy has no bfloat16
BOXES = torch.tensor([[0.0, 0, 10, 10], [1, 1, 11, 11], [20, 20, 30, 30], [0, 0, 9, 9]])
SCORES = torch.tensor([0.9, 0.8, 0.7, 0.6])
KEPT = [[0, 2, -1, -1]]


@pytest.fixture
def emulator(emulated, monkeypatch):
    """The emulator of the emulated extension, with two GPUs."""
    monkeypatch.setattr(_backend, "C", emulated)
    emulated.emulator.reset()
    emulated.emulator.set_devices(2)
    yield emulated.emulator
    emulated.emulator.reset()


@pytest.fixture
def numba(emulator, monkeypatch):
    return fake_numba.install(monkeypatch, emulator)


def flat(result: Any) -> list[Any]:
    return list(result) if isinstance(result, (tuple, list)) else [result]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("gpu", [0, 1])
def test_ops_run_on_gpu_that_holds_memory(emulator, numba, name, gpu):
    call, named = make_cases()[name]
    expected = flat(call(*(tensor.numpy() for tensor in named.values())))
    with numba.gpus[gpu]:
        given = [numba.to_device(tensor.numpy()) for tensor in named.values()]
    before = emulator.calls()
    found = flat(call(*given))
    launches = {number: emulator.calls().get(f"launch on device {number}", 0) for number in (0, 1)}
    launches = {number: count - before.get(f"launch on device {number}", 0) for number, count in launches.items()}
    assert launches[gpu] > 0 and launches[1 - gpu] == 0
    assert emulator.current_device() == numba.current == 0
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.gpu == gpu
        np.testing.assert_array_equal(ours.memory, theirs)


def test_memory_decides_gpu_not_wrapping_context(emulator, numba):
    """numba.cuda.as_cuda_array gives such an array of memory on GPU 1 while GPU 0 is current."""
    with numba.gpus[1]:
        boxes = numba.to_device(BOXES.numpy())
    wrapped = fake_numba.Array(boxes.memory, 0, gpu=1, named=0)
    found = ssd_fast.box_iou(wrapped, wrapped)
    assert found.gpu == 1 and emulator.calls().get("launch on device 0", 0) == 0


def test_empty_arrays_are_on_gpu_named_by_library(numba):
    """They have no memory from which CUDA could tell the GPU."""
    with numba.gpus[1]:
        boxes, others = numba.to_device(np.empty((0, 4), np.float32)), numba.to_device(BOXES.numpy())
        scores = numba.to_device(np.empty(0, np.float32))
    assert ssd_fast.box_iou(boxes, others).gpu == 1
    kept = ssd_fast.nms(boxes, scores, 0.5)
    assert kept.shape == (0,) and kept.gpu == 1


def test_axis_of_one_element_may_have_any_stride(numba):
    """Numba's own flag calls such arrays not contiguous; no copy is needed, and Numba has none."""
    boxes, scores = (numba.to_device(x.numpy()[None]) for x in (BOXES, SCORES))
    assert boxes.strides == (0, 16, 4) and not boxes.is_c_contiguous()
    kept, counts = ssd_fast.nms_padded(boxes, scores, 0.5, 4)
    assert kept.memory.tolist() == KEPT and counts.memory.tolist() == [2]
    column = numba.to_device(np.lib.stride_tricks.as_strided(SCORES.numpy(), (4, 1), (4, 999)))
    assert arrays.contiguous(column, "op", "column") is column
    none = fake_numba.Array(np.empty((3, 0, 4), np.float32)[::-1], 0, gpu=0, named=0)
    assert arrays.contiguous(none, "op", "none") is none


@pytest.mark.parametrize("view", [np.asfortranarray, lambda x: x[::-1], lambda x: x[:, None, :][::2]])
def test_non_contiguous_numba_arrays_are_refused(numba, view):
    """Numba has no function that copies an array on the device."""
    array = fake_numba.Array(view(BOXES.numpy()), 0, gpu=0, named=0)
    with pytest.raises(ValueError, match=r"^op: boxes: expected a contiguous, aligned Numba array"):
        arrays.contiguous(array, "op", "boxes")


def test_list_of_sizes_goes_to_same_gpu_and_stream(numba):
    with numba.gpus[1]:
        heads = [numba.to_device(np.zeros((2, 4, columns), np.float32), stream=7) for columns in (3, 4)]
        default_boxes = numba.to_device(BOXES.numpy())
    call = {"coder": BoxCoderSpec(), "image_sizes": [(9, 8), (7, 6)]}
    found = ssd_fast.postprocess(*heads, default_boxes, PostprocessSpec(), **call)
    assert {(part.gpu, part.stream) for part in found} == {(1, 7)}


def test_numba_sizes_of_other_dtype_are_refused(numba):
    """Numba has no function that converts an array on the device."""
    heads = [numba.to_device(np.zeros((2, 4, columns), np.float32)) for columns in (3, 4)]
    call = {"coder": BoxCoderSpec(), "image_sizes": numba.to_device(np.ones((2, 2), np.int32))}
    with pytest.raises(TypeError, match=r"^postprocess: image_sizes: expected int64 \(Numba .*\), got int32"):
        ssd_fast.postprocess(*heads, numba.to_device(BOXES.numpy()), PostprocessSpec(), **call)


def test_arrays_of_two_gpus_are_refused(numba):
    with numba.gpus[1]:
        others = numba.to_device(BOXES.numpy())
    boxes = numba.to_device(BOXES.numpy())
    with pytest.raises(ValueError, match=r"^box_iou: boxes2: expected device cuda:0, got cuda:1"):
        ssd_fast.box_iou(boxes, others)


def test_memory_that_gpu_cannot_read_is_refused(emulator):
    """The array claims to be on a GPU, but is not: a kernel that read it would make CUDA unusable in this process."""
    memory = fake_numba.Array(BOXES.numpy(), 0, gpu=0, named=0)
    out = fake_numba.Array(np.empty((4, 4), np.float32), 0, gpu=0, named=0)
    _backend.C.box_iou(memory, memory, out)
    emulator.set_reads_host_memory(False)
    with pytest.raises(ValueError, match=r"^box_iou: boxes1: expected an array on the CPU or a CUDA GPU, got another"):
        _backend.C.box_iou(memory, memory, out)


@pytest.fixture
def second_gpu(cuda) -> torch.device:
    if torch.cuda.device_count() < 2:
        pytest.skip("there is only one GPU")
    return torch.device("cuda:1")


def test_ops_run_on_second_gpu(cuda, second_gpu):
    """Forward and backward run there while the first GPU is current."""
    for name, (call, named) in make_cases().items():
        expected = as_bytes(call(*named.values()))
        assert as_bytes(call(*(tensor.to(second_gpu) for tensor in named.values()))) == expected, name
        assert torch.cuda.current_device() == 0, name


@pytest.mark.parametrize("library", ["cupy", "numba"])
def test_ops_take_arrays_of_other_libraries_on_second_gpu(cuda, second_gpu, library):
    module = pytest.importorskip("cupy" if library == "cupy" else "numba.cuda", reason=f"{library} is not installed")
    with module.cuda.Device(1) if library == "cupy" else module.gpus[1]:
        to_device = module.asarray if library == "cupy" else module.to_device
        boxes, scores, none = (to_device(x) for x in (BOXES.numpy(), SCORES.numpy(), np.empty((0, 4), np.float32)))
    to_host = (lambda array: array.get()) if library == "cupy" else (lambda array: array.copy_to_host())
    kept = ssd_fast.nms(boxes, scores, 0.5)
    assert _backend.C.gpu_of(kept) == _backend.C.gpu_of(ssd_fast.box_iou(none, boxes)) == 1
    assert to_host(kept).tolist() == KEPT[0][:2]
    ious = ssd_fast.box_iou(torch.as_tensor(BOXES), torch.as_tensor(BOXES)).numpy()
    np.testing.assert_array_equal(to_host(ssd_fast.box_iou(boxes, boxes)), ious)
    assert torch.cuda.current_device() == 0


class Foreign:
    """A tensor as another library would present it, with a stream."""

    def __init__(self, tensor: torch.Tensor, stream: int | None) -> None:
        self.tensor = tensor
        self.__cuda_array_interface__ = dict(tensor.__cuda_array_interface__) | {"stream": stream}


@pytest.mark.parametrize("blocking", [False, True])
def test_kernels_use_stream_named_by_array(cuda, blocking):
    """The input is written on that stream after a delay, so work on another stream would read it too early.

    Until then the host must not wait for the GPU, as loading a kernel and copying from pageable memory may.
    """
    boxes, later, out = BOXES.to(cuda), torch.zeros(4, 4, device=cuda), torch.zeros(4, 4, device=cuda)
    ssd_fast.box_iou(boxes, boxes)
    torch.cuda.synchronize()
    stream = torch.cuda.default_stream() if blocking else torch.cuda.Stream()
    name = 1 if blocking else stream.cuda_stream  # CUDA's number for the default stream
    with torch.cuda.stream(stream):
        torch.cuda._sleep(20_000_000)
        later.copy_(boxes)
    _backend.C.box_iou(*(Foreign(tensor, name) for tensor in (later, later, out)))
    stream.synchronize()
    assert torch.equal(out.cpu(), ssd_fast.box_iou(BOXES, BOXES))


@pytest.mark.parametrize("library", ["cupy", "numba"])
def test_ops_use_stream_of_other_libraries(cuda, library):
    """As in the test above, with CuPy's current, non-blocking stream and the stream of Numba's array."""
    module = pytest.importorskip("cupy" if library == "cupy" else "numba.cuda", reason=f"{library} is not installed")
    if library == "cupy":
        stream = module.cuda.Stream(non_blocking=True)
        boxes, scores, handle = module.zeros((1, 4, 4), "float32"), module.asarray(SCORES.numpy()[None]), stream.ptr
    else:
        stream = module.stream()
        boxes, scores = (module.to_device(x, stream=stream) for x in (np.zeros((1, 4, 4), "f4"), SCORES.numpy()[None]))
        handle = int(boxes.__cuda_array_interface__["stream"])
    late = BOXES.to(cuda)[None]
    ssd_fast.nms_padded(boxes, scores, 0.5, 4)
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.ExternalStream(handle)):
        torch.cuda._sleep(20_000_000)
        torch.as_tensor(boxes, device=cuda).copy_(late)
    if library == "cupy":
        with stream:
            kept, counts = ssd_fast.nms_padded(boxes, scores, 0.5, 4)
        stream.synchronize()
        kept, counts = kept.get(), counts.get()
    else:
        results = ssd_fast.nms_padded(boxes, scores, 0.5, 4)
        kept, counts = (array.copy_to_host() for array in results)
        stream.synchronize()
    assert kept.tolist() == KEPT and counts.tolist() == [2]


def test_two_threads_use_their_own_streams(cuda):
    """Each thread's inputs are written on its own stream after a delay, so work elsewhere would be too early."""
    wrong: dict[int, int] = {}

    def work(seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        boxes = torch.rand(1, 500, 4, generator=generator).sort(-1).values
        scores = torch.rand(1, 500, generator=generator)
        expected = [part.to(cuda) for part in ssd_fast.nms_padded(boxes, scores, 0.3, 50)]
        boxes, scores = boxes.to(cuda), scores.to(cuda)
        torch.cuda.synchronize()
        with torch.cuda.stream(torch.cuda.Stream()):
            differing = torch.zeros((), dtype=torch.int64, device=cuda)
            for _ in range(200):
                later = torch.zeros_like(boxes)
                torch.cuda._sleep(100_000)
                later.copy_(boxes)
                found = ssd_fast.nms_padded(later, scores, 0.3, 50)
                differing += sum((ours != theirs).sum() for ours, theirs in zip(found, expected, strict=True))
            wrong[seed] = int(differing)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == {1: 0, 2: 0}
