"""Checks that the tests of all ops share."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

import ssd_fast
from ssd_fast import Detections, reference


def canonical_bytes(x: Tensor) -> bytes:
    """Return the bits of a tensor, with all NaNs made equal, since no payload is promised. -0 differs from +0."""
    x = x.detach().cpu()
    if x.is_floating_point():
        x = torch.where(x.isnan(), torch.tensor(torch.nan, dtype=x.dtype), x)
    if x.dtype == torch.bfloat16:  # NumPy has no bfloat16
        x = x.view(torch.int16)
    return x.contiguous().numpy().tobytes()


def assert_same_bits(actual: Any, expected: Any) -> None:
    """Check that every tensor of actual has the shape, dtype and bits of its counterpart."""
    ours, theirs = tree_leaves(actual), tree_leaves(expected)
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype, f"{a.dtype} {a.shape}, expected {b.dtype} {b.shape}"
        if canonical_bytes(a) != canonical_bytes(b):
            # assert_close says where they differ; unlike the bits, it takes -0 for +0.
            torch.testing.assert_close(a.cpu(), b.cpu(), rtol=0, atol=0, equal_nan=True)
            raise AssertionError("equal values, but zeros of different signs")


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread: many small tensors gain nothing from more, and lose much on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def specified(op_name: str, *args: Any, **kwargs: Any) -> Any:
    """Return the reference's result for the arguments."""
    with one_thread():
        return getattr(reference, op_name)(*args, **kwargs)


@contextlib.contextmanager
def unmodified(*inputs: Any) -> Iterator[None]:
    """Check that the tensors and arrays inside inputs hold the same bits at the end."""
    tensors = [torch.as_tensor(leaf) for leaf in tree_leaves(inputs) if isinstance(leaf, (Tensor, np.ndarray))]
    before = [tensor.clone() for tensor in tensors]
    yield
    assert_same_bits(tensors, before)


_PEAK = """
import torch, ssd_fast

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

{setup}
before = peak()
{call}
print(peak() - before)
"""


def peak_memory(setup: str, call: str) -> int:
    """Return by how many KiB the call raises the peak memory of a new process after the setup."""
    script = _PEAK.format(setup=setup, call=call)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def to_numpy(x: Any) -> Any:
    return tree_map_only(Tensor, lambda tensor: tensor.cpu().numpy(), x)


def assert_numpy_agrees(op: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """Check that NumPy arrays give NumPy arrays with the bits that tensors give."""
    expected = op(*args, **kwargs)
    inputs = to_numpy((args, kwargs))
    with unmodified(inputs):
        actual = op(*inputs[0], **inputs[1])
    assert all(type(leaf) is np.ndarray for leaf in tree_leaves(actual))
    assert_same_bits(tree_map_only(np.ndarray, torch.from_numpy, actual), expected)


class _Recorder(TorchDispatchMode):
    """Records the calls of ssd_fast's torch ops."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "ssd_fast":
            self.calls.append((func, args, kwargs or {}))
        return func(*args, **(kwargs or {}))


def assert_well_registered(op: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """Run torch.library.opcheck (schema, fake, autograd, aot dispatch) on the torch op, and a full-graph compile."""
    with _Recorder() as recorder:
        expected = op(*args, **kwargs)
    assert len(recorder.calls) == 1
    func, op_args, op_kwargs = recorder.calls[0]
    torch.library.opcheck(func, op_args, op_kwargs)

    torch._dynamo.reset()
    compiled = torch.compile(lambda *inputs: op(*inputs, **kwargs), fullgraph=True, backend="aot_eager")
    assert_same_bits(compiled(*args), expected)


def run_postprocess(backend: Any, *args: Any, **kwargs: Any) -> Detections:
    """Run postprocess on the backend and return its result on the CPU; check its inputs, shapes, dtypes and padding."""
    args, kwargs = tree_map_only(Tensor, backend.to, (args, kwargs))
    with unmodified(args, kwargs):
        result = ssd_fast.postprocess(*args, **kwargs)
    assert all(tensor.device.type == backend.device.type for tensor in result)
    result = Detections(*(tensor.cpu() for tensor in result))
    images, k = len(result.counts), args[3].keep_top_k
    assert [tuple(tensor.shape) for tensor in result] == [(images, k, 4), *[(images, k)] * 3, (images,)]
    assert [tensor.dtype for tensor in result] == [torch.float32] * 2 + [torch.int64] * 3
    padding = torch.arange(k) >= result.counts[:, None]
    assert (result.boxes[padding] == 0).all() and (result.scores[padding] == 0).all()
    assert (result.labels[padding] == -1).all() and (result.box_idxs[padding] == -1).all()
    return result
