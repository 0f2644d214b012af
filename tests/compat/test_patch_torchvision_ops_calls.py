"""The patch of torchvision.ops: which calls it serves, and which it leaves to torchvision's own code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.ops import batched_nms, nms
from torchvision.ops import boxes as box_ops
from torchvision.tv_tensors import BoundingBoxes

from helpers.torchvision_ops import BOXES, KEPT, SCORES, calls_here
from ssd_fast.compat import patch_torchvision_ops


class Nms(nn.Module):
    def forward(self, boxes: Tensor, scores: Tensor) -> Tensor:
        return nms(boxes, scores, 0.5)


class BatchedNms(nn.Module):
    def forward(self, boxes: Tensor, scores: Tensor) -> Tensor:
        return batched_nms(boxes, scores, torch.zeros(boxes.shape[0], dtype=torch.int64), 0.5)


def exported(module: nn.Module) -> Callable[..., Tensor]:
    return torch.export.export(module, (BOXES, SCORES)).module()


def traced(module: nn.Module) -> Callable[..., Tensor]:
    return torch.jit.trace(module, (BOXES, SCORES), check_trace=False)


def compiled(module: nn.Module) -> Callable[..., Tensor]:
    torch._dynamo.reset()
    return torch.compile(module, backend="eager")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("module", [Nms(), BatchedNms()], ids=lambda module: type(module).__name__)
@pytest.mark.parametrize("make", [torch.jit.script, traced, compiled, exported], ids=lambda make: make.__name__)
def test_scripted_traced_compiled_and_exported_callers_are_served(make, module):
    """Whether made before the patch or under it; what was made under it also runs after it."""
    before = make(module)
    assert before(BOXES, SCORES).tolist() == KEPT
    with patch_torchvision_ops():
        made = make(module)
        for caller in (before, made):
            with calls_here() as calls:
                assert caller(BOXES, SCORES).tolist() == KEPT
            assert calls == ["nms"]
    with calls_here() as calls:
        assert made(BOXES, SCORES).tolist() == before(BOXES, SCORES).tolist() == KEPT
    assert calls == []


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_compiler_makes_no_graphs_of_our_code():
    def graphs() -> int:
        made: list[Any] = []

        def backend(graph: Any, inputs: Any) -> Any:
            made.append(graph)
            return graph.forward

        torch._dynamo.reset()
        module = torch.compile(lambda boxes, scores: nms(boxes, scores, 0.5) + 1, backend=backend)
        assert module(BOXES, SCORES).tolist() == [2, 3]
        return len(made)

    expected = graphs()
    with patch_torchvision_ops(), calls_here() as calls:
        assert graphs() == expected >= 1
    assert calls == ["nms"]


def with_gradient(boxes: Tensor, scores: Tensor) -> Tensor:
    return nms(boxes.clone().requires_grad_(), nn.Parameter(scores), 0.5)


def in_inference_mode(boxes: Tensor, scores: Tensor) -> Tensor:
    with torch.inference_mode():
        return nms(boxes.clone(), scores.clone(), 0.5)


def under_autocast(boxes: Tensor, scores: Tensor) -> Tensor:
    """Autocast widens what the CPU's kernel does not take."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return nms(boxes.bfloat16(), scores.bfloat16(), 0.5)


def profiled(boxes: Tensor, scores: Tensor) -> Tensor:
    with torch.autograd.profiler.profile():
        return nms(boxes, scores, 0.5)


def strided(boxes: Tensor, scores: Tensor) -> Tensor:
    rows = torch.cat((torch.zeros(3, 1), boxes, scores[:, None]), 1)
    return nms(rows[:, 1:5], rows[:, 5], 0.5)


def batched_with_gradient(boxes: Tensor, scores: Tensor) -> Tensor:
    idxs = torch.zeros(3, dtype=torch.int64)
    return batched_nms(boxes.clone().requires_grad_(), scores.clone().requires_grad_() * 1, idxs, 0.5)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "caller",
    [
        lambda boxes, scores: nms(boxes, scores, 0.5),
        lambda boxes, scores: torchvision.ops.nms(boxes, scores, 0.5),
        lambda boxes, scores: box_ops.nms(boxes, scores, torch.tensor(0.5)),
        lambda boxes, scores: torch.ops.torchvision.nms(boxes.double(), scores.double(), 0.5),
        with_gradient,
        batched_with_gradient,
        in_inference_mode,
        under_autocast,
        profiled,
        strided,
    ],
)
def test_every_way_to_call_is_served(caller):
    assert caller(BOXES, SCORES).tolist() == KEPT
    with patch_torchvision_ops(), calls_here() as calls:
        kept = caller(BOXES, SCORES)
    assert kept.tolist() == KEPT and not kept.requires_grad
    assert calls == ["batched_nms" if caller is batched_with_gradient else "nms"]


def outcome(call: Callable[..., Tensor], *arguments: Any) -> tuple[Any, ...]:
    try:
        return (call(*arguments).tolist(),)
    except (AttributeError, RuntimeError, TypeError) as error:  # NotImplementedError is a RuntimeError
        return type(error), str(error)


def quantized(x: Tensor) -> Tensor:
    return torch.quantize_per_tensor(x, 0.1, 0, torch.quint8)


@pytest.mark.parametrize(
    "arguments",
    {
        "float16": (BOXES.half(), SCORES.half(), 0.5),
        "bfloat16": (BOXES.bfloat16(), SCORES.bfloat16(), 0.5),
        "integers": (BOXES.int(), SCORES.int(), 0.5),
        "two dtypes": (BOXES, SCORES.double(), 0.5),
        "quantized": (quantized(BOXES), quantized(SCORES), 0.5),
        "meta": (BOXES.to("meta"), SCORES.to("meta"), 0.5),
        "subclass": (BoundingBoxes(BOXES, format="XYXY", canvas_size=(40, 40)), SCORES, 0.5),
        "NaN score": (BOXES, torch.tensor([0.8, torch.nan, torch.inf]), 0.5),
        "NaN threshold": (BOXES, SCORES, torch.nan),
        "negative threshold": (BOXES, SCORES, -0.1),
        "threshold above 1": (BOXES, SCORES, 1.5),
        "no boxes": (BOXES[:0], SCORES[:0], 0.5),
        "too few scores": (BOXES, SCORES[:2], 0.5),
        "rank of boxes": (BOXES[None], SCORES, 0.5),
        "rank of scores": (BOXES, SCORES[None], 0.5),
        "columns": (BOXES[:, :3], SCORES, 0.5),
        "text": (BOXES, SCORES, "0.5"),
    }.items(),
    ids=lambda item: item[0],
)
def test_other_calls_run_torchvisions_own_code(arguments):
    boxes, scores, threshold = arguments[1]
    idxs = torch.zeros(scores.shape[:1], dtype=torch.int64, device=scores.device)
    expected = outcome(nms, boxes, scores, threshold), outcome(batched_nms, boxes, scores, idxs, threshold)
    with patch_torchvision_ops(), calls_here() as calls:
        assert outcome(nms, boxes, scores, threshold) == expected[0]
        assert calls == []
        assert outcome(batched_nms, boxes, scores, idxs, threshold) == expected[1]
    assert "batched_nms" not in calls  # moving boxes makes plain tensors of a subclass, for nms


def test_classes_of_another_length_or_kind_run_torchvisions_own_code():
    for idxs in (torch.zeros(2), torch.zeros(2, dtype=torch.int64), torch.zeros(3, 1, dtype=torch.int64), [0, 0, 0]):
        expected = outcome(batched_nms, BOXES, SCORES, idxs, 0.5)
        with patch_torchvision_ops(), calls_here() as calls:
            assert outcome(batched_nms, BOXES, SCORES, idxs, 0.5) == expected
        assert "batched_nms" not in calls
