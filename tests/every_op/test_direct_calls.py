"""Calls without an observer skip torch's dispatcher; all others run the registered op, which the observer sees."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import ssd_fast
from helpers import inputs
from helpers.op_calls import CODER, make_boxes, make_cases
from ssd_fast import LossSpec, PostprocessSpec
from ssd_fast.ops import _direct, _library
from ssd_fast.ops.default_boxes import _kept

BOXES = make_boxes(5)
CASES = make_cases()


@pytest.fixture(name="counts")
def _counts(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """The numbers of calls that went to the registered op and directly."""
    counts = {"registered": 0, "direct": 0}
    for path, method in (("registered", "call_registered"), ("direct", "call_directly")):
        monkeypatch.setattr(_library.Op, method, _counted(counts, path, getattr(_library.Op, method)))
    return counts


def _counted(counts: dict[str, int], path: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def counted(*args: Any) -> Any:
        counts[path] += 1
        return function(*args)

    return counted


def call() -> torch.Tensor:
    return ssd_fast.box_iou(BOXES, BOXES)


class Passing(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


class PassingFunctions(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


class Subclass(torch.Tensor):
    pass


def in_fake_mode() -> None:
    with FakeTensorMode(allow_non_fake_inputs=True):
        call()


def in_mode(mode: Any) -> None:
    with mode:
        call()


def in_dual_level() -> None:
    with torch.autograd.forward_ad.dual_level():
        call()


def export() -> None:
    class Module(torch.nn.Module):
        def forward(self, boxes: torch.Tensor) -> torch.Tensor:
            return ssd_fast.box_iou(boxes, boxes)

    torch.export.export(Module(), (BOXES,), strict=False)


def batched() -> None:
    torch.func.vmap(lambda boxes: (call(), boxes)[1])(BOXES)


OBSERVERS: dict[str, Callable[[], Any]] = {
    "torch.export": export,
    "jit.trace": lambda: torch.jit.trace(lambda boxes: ssd_fast.box_iou(boxes, boxes), (BOXES,), check_trace=False),
    "FakeTensorMode": in_fake_mode,
    "TorchDispatchMode": lambda: in_mode(Passing()),
    "TorchFunctionMode": lambda: in_mode(PassingFunctions()),
    "make_fx": lambda: make_fx(lambda boxes: ssd_fast.box_iou(boxes, boxes))(BOXES),
    "make_fx before dispatch": lambda: make_fx(lambda boxes: ssd_fast.box_iou(boxes, boxes), pre_dispatch=True)(BOXES),
    "a transform of torch.func": batched,
    "forward-mode differentiation": in_dual_level,
    "a profiler": lambda: in_mode(torch.profiler.profile()),
    "a subclass": lambda: ssd_fast.box_iou(BOXES.as_subclass(Subclass), BOXES),
    "a subclass, second": lambda: ssd_fast.box_iou(BOXES, BOXES.as_subclass(Subclass)),
    "meta tensors": lambda: ssd_fast.box_iou(BOXES.to("meta"), BOXES.to("meta")),
    "a gradient": lambda: ssd_fast.decode_boxes(BOXES.clone().requires_grad_(), BOXES, CODER),
}


@pytest.mark.parametrize("observer", OBSERVERS)
def test_observers_see_registered_op(observer, counts):
    OBSERVERS[observer]()
    assert counts["registered"] >= 1 and counts["direct"] == 0


def test_torch_compile_sees_registered_op():
    graphs = []
    torch._dynamo.reset()
    torch.compile(call, fullgraph=True, backend=lambda graph, _: (graphs.append(graph.code), graph)[1])()
    assert "torch.ops.ssd_fast.box_iou" in graphs[0]


def test_profile_names_op():
    with torch.profiler.profile() as profile:
        call()
    assert "ssd_fast::box_iou" in {event.key for event in profile.key_averages()}


@pytest.mark.parametrize("case", CASES)
def test_call_without_observer_goes_directly(case, counts, backend):
    function, named = CASES[case]
    with torch.no_grad():
        if not case.startswith("multibox_loss"):  # its call there computes gradients
            function(*(backend.to(tensor) for tensor in named.values()))
            assert counts == {"registered": 0, "direct": 1}


def test_loss_without_gradients_goes_directly(counts):
    named = CASES["multibox_loss float32"][1]
    logits, deltas, boxes, offsets, labels, matched, default_boxes = named.values()
    arguments = logits.clone().requires_grad_(), deltas, (boxes, offsets), labels, matched, default_boxes
    with torch.no_grad():
        direct = ssd_fast.multibox_loss(*arguments, coder=CODER, loss=LossSpec())
    assert counts == {"registered": 0, "direct": 1}
    losses = ssd_fast.multibox_loss(*arguments, coder=CODER, loss=LossSpec())
    assert counts == {"registered": 1, "direct": 1}
    assert all(torch.equal(direct[name], losses[name]) and losses[name].requires_grad for name in losses)


def test_op_without_gradient_goes_directly_with_parameters(counts):
    assert not ssd_fast.box_iou(torch.nn.Parameter(BOXES), BOXES.clone().requires_grad_()).requires_grad
    assert counts == {"registered": 0, "direct": 1}


def test_op_takes_efficient_zero_tensor():
    assert torch.equal(ssd_fast.box_iou(torch._efficientzerotensor((5, 4)), BOXES), torch.zeros(5, 5))


@pytest.mark.parametrize("module", ["torch._C", "torch._C._functorch"])
def test_torch_without_probes_takes_registered_op(module, monkeypatch):
    name = {"torch._C": "_is_tracing", "torch._C._functorch": "peek_interpreter_stack"}[module]
    with monkeypatch.context() as patch:
        patch.delattr(sys.modules[module], name)
        assert importlib.reload(_direct).is_observed()
    assert not importlib.reload(_direct).is_observed()


def test_default_boxes_may_be_changed_by_caller(backend):
    _kept.cache_clear()
    with torch.inference_mode():
        ssd_fast.default_boxes(inputs.SMALL, device=backend.device)
    boxes = ssd_fast.default_boxes(inputs.SMALL, device=backend.device)
    expected = boxes.clone()
    boxes.fill_(-1)
    with torch.inference_mode():
        assert torch.equal(ssd_fast.default_boxes(inputs.SMALL, device=backend.device), expected)
    again = ssd_fast.default_boxes(inputs.SMALL, device=backend.device)
    assert torch.equal(again, expected) and not again.is_inference()
    again.requires_grad_()


def test_call_allocates_only_outputs(monkeypatch):
    """Count allocations and the calls that Python makes; time is not measured."""
    heads = list(CASES["postprocess float32"][1].values())[:3]
    spec, calls = PostprocessSpec(), []
    ssd_fast.postprocess(*heads, spec, coder=CODER)
    allocations = []
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *args, **options: (allocations.append(args), empty(*args, **options))[1])
    sys.setprofile(lambda frame, event, _: calls.append(event))
    try:
        ssd_fast.postprocess(*heads, spec, coder=CODER)
    finally:
        sys.setprofile(None)
    assert len(allocations) == 5
    assert calls.count("call") < 60 and calls.count("c_call") < 130
