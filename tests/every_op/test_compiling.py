"""torch.compile traces every op for CUDA tensors as one graph, whose code does not query CUDA. No GPU is needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import ssd_fast
from helpers import inputs, op_calls


class TracedError(Exception):
    """Raised with the code of the graph, instead of running it."""


def backend(graph: torch.fx.GraphModule, example_inputs: Any) -> Any:
    raise TracedError(graph.code)


def trace(function: Callable[..., Any], *tensors: torch.Tensor) -> str:
    """Return the code of the graph that torch.compile makes of a call with such tensors on a GPU."""
    torch._dynamo.reset()
    compiled = torch.compile(function, fullgraph=True, backend=backend)
    with FakeTensorMode(), pytest.raises(torch._dynamo.exc.BackendCompilerFailed) as caught:
        compiled(*(torch.empty(tensor.shape, dtype=tensor.dtype, device="cuda") for tensor in tensors))
    assert isinstance(caught.value.inner_exception, TracedError)
    return str(caught.value.inner_exception)


def multibox_loss(logits: Any, deltas: Any, boxes: Any, offsets: Any, labels: Any, matched: Any, default_boxes: Any):
    truths, options = ((boxes, offsets), labels, matched), {"coder": op_calls.CODER, "loss": ssd_fast.LossSpec()}
    return ssd_fast.multibox_loss(logits, deltas, *truths, default_boxes, **options)


@pytest.mark.parametrize("name", op_calls.make_cases())
def test_ops_are_traced_as_one_graph(name):
    call, named = op_calls.make_cases()[name]
    if name.startswith("multibox_loss"):  # its call there computes gradients too
        call = multibox_loss
    assert trace(call, *named.values()).count("torch.ops.ssd_fast.") == 1


def test_postprocess_with_list_of_sizes_is_traced():
    """Eager calls ask CUDA whether a graph is being captured, during which a list cannot be copied to the GPU."""
    _, named = op_calls.make_cases()["postprocess float32"]

    def call(*heads: torch.Tensor) -> Any:
        spec, sizes = ssd_fast.PostprocessSpec(), [(60, 70), (50, 40)]
        return ssd_fast.postprocess(*heads, spec, coder=op_calls.CODER, image_sizes=sizes)

    assert "torch.ops.ssd_fast.postprocess" in trace(call, *list(named.values())[:3])


def test_default_boxes_are_traced():
    """Eager calls ask CUDA how many GPUs there are."""
    assert "torch.ops.ssd_fast.default_boxes" in trace(lambda: ssd_fast.default_boxes(inputs.SMALL, device="cuda:0"))
