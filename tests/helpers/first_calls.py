"""The first call of each op in a process, made within a stream capture; test_launches.py runs this program.

    python first_calls.py emulated|cuda CASE...

A CASE is one of CASES, named as in op_calls.py. The replayed capture must give the result of a later eager call. Print
the name of each case that does so.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch

import ssd_fast
from helpers.op_calls import Case, make_cases
from helpers.unaligned_calls import as_bytes, use_backend
from ssd_fast import _backend, arrays

DEFAULT_BOXES = ssd_fast.preset("torchvision_ssd300_vgg16").default_boxes
CASES = (*make_cases(), "default_boxes")

Capture = contextlib.AbstractContextManager[Callable[[], None]]  # yields a function that runs the captured work


@contextlib.contextmanager
def captured_by_cuda() -> Iterator[Callable[[], None]]:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        yield graph.replay


@contextlib.contextmanager
def captured_by_the_emulator() -> Iterator[Callable[[], None]]:
    """Forbid the calls that a capture forbids; kernels still run at once."""
    _backend.C.emulator.set_capturing(True)
    yield lambda: None
    _backend.C.emulator.set_capturing(False)


def use_torch(device: str) -> None:
    """Run the torch kernels that the cases need, so that only ssd_fast's run for the first time in a capture."""
    for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.int64):
        torch.ones(2, 2, dtype=dtype, device=device).t().contiguous()
    losses = torch.ones(2, device=device, requires_grad=True)
    torch.autograd.grad(sum([losses[0], losses[1]]), losses)  # as in op_calls.py: alignment selects the adding kernel


def cases(device: str) -> dict[str, Case]:
    """Return the cases of make_cases, and `default_boxes`, which has no array arguments."""
    torch.manual_seed(0)
    return make_cases() | {"default_boxes": (lambda: ssd_fast.default_boxes(DEFAULT_BOXES, device=device), {})}


def run(name: str, call: Callable[..., Any], tensors: list[torch.Tensor], capture: Capture) -> None:
    counts: list[torch.Tensor] = []
    trim = arrays.trim
    arrays.trim = lambda array, count: (counts.append(count), array)[1]  # the only part of nms that waits for the GPU
    with capture as replay:
        result = call(*tensors)
    arrays.trim = trim
    replay()
    if counts:
        result = trim(result, counts[0])
    if as_bytes(result) != as_bytes(call(*tensors)):
        sys.exit(f"{name}: the captured call gives another result than an eager call")
    print(name)


def main() -> None:
    backend, *names = sys.argv[1:]
    use_backend(backend)
    device = "cuda" if backend == "cuda" else "cpu"
    known = cases(device)
    use_torch(device)
    for name in names:
        call, named = known[name]
        tensors = [tensor.to(device) for tensor in named.values()]
        run(name, call, tensors, captured_by_cuda() if backend == "cuda" else captured_by_the_emulator())


if __name__ == "__main__":
    main()
