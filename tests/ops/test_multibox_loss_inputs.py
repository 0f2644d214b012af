"""multibox_loss: layouts, lists and packed arrays, NumPy, registration, compilation, CUDA graphs, rejections."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

import ssd_fast
from helpers import inputs
from helpers.checks import assert_numpy_agrees, assert_same_bits, assert_well_registered, unmodified
from helpers.loss_cases import CODERS, CPU, PLAIN, SPECS, Case, leaf, random_case, run
from ssd_fast import LossSpec, MatcherSpec


def test_noncontiguous_arrays_give_same_loss(backend):
    case = tree_map_only(torch.Tensor, backend.to, random_case(1))
    wanted = run(backend, case)
    strided = Case(*tree_map_only(torch.Tensor, lambda x: inputs.noncontiguous(x), tuple(case)))
    with unmodified(strided):
        losses = ssd_fast.multibox_loss(*strided, coder=PLAIN, loss=LossSpec())
    assert_same_bits(tree_map_only(torch.Tensor, lambda x: x.cpu(), losses), wanted[0])
    wide = [x.transpose(1, 2).contiguous().requires_grad_() for x in case[:2]]  # like a head's maps
    heads = [x.transpose(1, 2) for x in wide]
    sum(ssd_fast.multibox_loss(*heads, *strided[2:], coder=PLAIN, loss=LossSpec()).values()).backward()
    assert_same_bits([x.grad.transpose(1, 2).cpu() for x in wide], list(wanted[1]))


def test_list_and_packed_ground_truth_agree(backend):
    case = random_case(2)
    wanted = run(backend, case)
    packed = case.packed()
    for boxes in (case.gt_boxes, tuple(case.gt_boxes), packed.gt_boxes):
        for labels in (case.gt_labels, tuple(case.gt_labels), packed.gt_labels):
            assert_same_bits(run(backend, case._replace(gt_boxes=boxes, gt_labels=labels)), wanted)


def test_numpy_arrays_give_same_loss(backend):
    if backend.name != "cuda":
        case = random_case(1).packed()
        assert_numpy_agrees(ssd_fast.multibox_loss, *case, coder=CODERS["yx"], loss=SPECS["images"])
        assert_numpy_agrees(ssd_fast.multibox_loss, *random_case(1), coder=PLAIN, loss=LossSpec())
        assert_numpy_agrees(ssd_fast.multibox_loss, *random_case(1, images=0), coder=PLAIN, loss=LossSpec())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_ops_are_well_registered(backend, dtype):
    case = leaf(tree_map_only(torch.Tensor, backend.to, random_case(1, rows=40).to(dtype).packed()))
    boxes, offsets = case.gt_boxes

    def op(logits, deltas, boxes, offsets, labels, matched, default_boxes):
        return ssd_fast.multibox_loss(
            logits, deltas, (boxes, offsets), labels, matched, default_boxes, coder=PLAIN, loss=SPECS["last"]
        )

    assert_well_registered(op, *case[:2], boxes, offsets, *case[3:])

    with _Arguments() as recorder:
        sum(op(*case[:2], boxes, offsets, *case[3:]).values()).backward()
    forward, backward = recorder.arguments
    torch.library.opcheck(torch.ops.ssd_fast.multibox_loss_backward.default, *backward)

    args, options = forward
    losses, *saved = torch.ops.ssd_fast.multibox_loss_forward(*case[:2], *args[2:], **options)
    assert losses.requires_grad and not any(x.requires_grad for x in saved)


def test_forward_keeps_only_a_few_numbers_per_row():
    """Beside the inputs only a few numbers per row are kept, and nothing of the logits' size."""
    case = leaf(random_case(1, images=2, rows=1000, columns=91).packed())
    given, kept = {x.data_ptr() for x in tree_leaves(tuple(case))}, []

    def keep(tensor):
        if tensor.data_ptr() not in given:
            kept.append(tensor.nbytes)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        losses = ssd_fast.multibox_loss(*case, coder=PLAIN, loss=LossSpec())
    row_bytes = sum(kept) / (2 * 1000)
    assert 1 <= row_bytes <= 16 < case.cls_logits.nbytes / (2 * 1000)
    sum(losses.values()).backward()
    assert case.cls_logits.grad.any()


class _Arguments(TorchDispatchMode):
    """Records the arguments of the forward and the backward op."""

    def __init__(self):
        super().__init__()
        self.arguments = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "ssd_fast":
            self.arguments.append((tuple(x.detach() for x in args), kwargs))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("as_lists", [True, False], ids=["lists", "packed"])
def test_compiled_training_step_gives_same_bits(backend, as_lists):
    check_compiled(backend, "aot_eager", as_lists)


def test_inductor_training_step_gives_same_bits():
    check_compiled(CPU, "inductor", as_lists=False)


def check_compiled(backend, compiler, as_lists):
    """Check match, loss and gradients in one graph, also for another number of objects per image."""
    torch._dynamo.reset()

    def step(logits, deltas, gt_boxes, gt_labels, default_boxes):
        matched = ssd_fast.match(gt_boxes, default_boxes, MatcherSpec())
        losses = ssd_fast.multibox_loss(
            logits * 2, deltas, gt_boxes, gt_labels, matched, default_boxes, coder=PLAIN, loss=LossSpec()
        )
        return losses["bbox_regression"] + 2 * losses["classification"]

    compiled = torch.compile(step, fullgraph=True, backend=compiler)
    for seed in (1, 2):
        case = random_case(seed)
        case = leaf(tree_map_only(torch.Tensor, backend.to, case if as_lists else case.packed()))
        arguments = (*case[:4], case.default_boxes)
        ours, theirs = compiled(*arguments), step(*arguments)
        assert_same_bits(ours.detach(), theirs.detach())
        gradients = torch.autograd.grad(ours, case[:2])
        assert_same_bits(gradients, torch.autograd.grad(theirs, case[:2]))
        assert all(grad.any() for grad in gradients)


def test_cuda_graph_replays_training_step(cuda):
    case = leaf(tree_map_only(torch.Tensor, lambda x: x.to(cuda), random_case(1, rows=600).packed()))

    def step():
        losses = ssd_fast.multibox_loss(*case, coder=PLAIN, loss=LossSpec())
        return (*losses.values(), *torch.autograd.grad(sum(losses.values()), case[:2]))

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step()  # kernels are loaded outside the capture
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    for seed in (4, 7):  # the same number of objects, in other places
        other = random_case(seed, rows=600).packed()
        with torch.no_grad():
            for mine, new in zip(
                (*case[:2], *case.gt_boxes, *case[3:]), (*other[:2], *other.gt_boxes, *other[3:]), strict=True
            ):
                mine.copy_(new)
        graph.replay()
        assert_same_bits(captured, step())


CASE = random_case(1, images=2, rows=6, columns=4)
G = [len(boxes) for boxes in CASE.gt_boxes]


@pytest.mark.parametrize(
    "changes, error, message",
    [
        ({"cls_logits": CASE.cls_logits[0]}, ValueError, r"cls_logits: expected shape \[any, any, any\], got \[6, 4\]"),
        ({"cls_logits": CASE.cls_logits[..., :1]}, ValueError, "cls_logits: expected at least 2 columns, got 1"),
        ({"cls_logits": CASE.cls_logits.double()}, TypeError, "cls_logits: expected float32.*, got float64 .*convert"),
        ({"cls_logits": [CASE.cls_logits]}, TypeError, "cls_logits: expected a torch tensor, .* got list"),
        (
            {"bbox_regression": CASE.bbox_regression[:, 1:]},
            ValueError,
            r"bbox_regression: expected shape \[2, 6, 4\], got \[2, 5, 4\]",
        ),
        (
            {"bbox_regression": CASE.bbox_regression.double()},
            TypeError,
            "bbox_regression: expected float32.*, got float64 .*convert",
        ),
        ({"gt_boxes": CASE.gt_boxes[0]}, TypeError, r"gt_boxes: expected a list of \[G, 4\] or .*, got Tensor"),
        (
            {"gt_boxes": [CASE.gt_boxes[0], CASE.gt_boxes[1][:, :3]]},
            ValueError,
            rf"gt_boxes\[1\]: expected shape \[any, 4\], got \[{G[1]}, 3\]",
        ),
        ({"gt_boxes": CASE.gt_boxes[:1]}, ValueError, "gt_labels: expected 1 images, got 2"),
        (
            {"gt_boxes": CASE.gt_boxes[:1], "gt_labels": CASE.gt_labels[:1]},
            ValueError,
            r"gt_boxes.offsets: expected shape \[3\], got \[2\]",
        ),
        ({"gt_boxes": [x.double() for x in CASE.gt_boxes]}, TypeError, "gt_boxes: expected float32, got float64"),
        (
            {"gt_boxes": (CASE.packed().gt_boxes[0], torch.zeros(3, dtype=torch.int32))},
            TypeError,
            "gt_boxes.offsets: expected int64, got int32",
        ),
        (
            {"gt_labels": [CASE.gt_labels[0], CASE.gt_labels[1][1:]]},
            ValueError,
            rf"gt_labels\[1\]: expected shape \[{G[1]}\]",
        ),
        (
            {"gt_labels": [CASE.gt_labels[0], CASE.gt_labels[1][None]]},
            ValueError,
            r"gt_labels\[1\]: expected shape \[any\]",
        ),
        ({"gt_labels": [[], [1]]}, TypeError, r"gt_labels\[0\]: expected a torch tensor, .* got list"),
        ({"gt_labels": 3}, TypeError, "gt_labels: expected a torch tensor, .* got int"),
        ({"gt_labels": [x.int() for x in CASE.gt_labels]}, TypeError, "gt_labels: expected int64, got int32 .*convert"),
        ({"gt_labels": torch.ones(sum(G) + 1).long()}, ValueError, rf"gt_labels: expected shape \[{sum(G)}\]"),
        (
            {"matched_idxs": CASE.matched_idxs[:, 1:]},
            ValueError,
            r"matched_idxs: expected shape \[2, 6\], got \[2, 5\]",
        ),
        ({"matched_idxs": CASE.matched_idxs.int()}, TypeError, "matched_idxs: expected int64, got int32 .*convert"),
        (
            {"default_boxes": CASE.default_boxes[1:]},
            ValueError,
            r"default_boxes: expected shape \[6, 4\], got \[5, 4\]",
        ),
        ({"default_boxes": CASE.default_boxes.half()}, TypeError, "default_boxes: expected float32, got float16"),
        ({"coder": (0.1, 0.2)}, TypeError, "coder: expected a BoxCoderSpec, got tuple"),
        ({"loss": 3.0}, TypeError, "loss: expected a LossSpec, got float"),
        ({"loss": LossSpec(background=4)}, ValueError, "loss.background: expected a column below 4, got 4"),
    ],
)
def test_rejected_arguments(backend, changes, error, message):
    arguments = {**CASE._asdict(), "coder": PLAIN, "loss": LossSpec(), **changes}
    arguments = tree_map_only(torch.Tensor, backend.to, arguments)
    with pytest.raises(error, match=f"^multibox_loss: {message}"):
        ssd_fast.multibox_loss(**arguments)
