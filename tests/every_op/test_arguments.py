"""Unsuitable arguments of the ops: every kind of fault in every argument gives an error of the same form."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import pytest
import torch

import ssd_fast
from helpers.op_calls import CODER, make_boxes, make_cases
from ssd_fast import LossSpec, MatcherSpec, PostprocessSpec

CASES = make_cases()
ARGUMENTS = [(case, name) for case, (_, named) in CASES.items() for name in named]


def call_with(case: str, changes: dict[str, Any]) -> Any:
    call, named = CASES[case]
    return call(*(named | changes).values())


def assert_refused(case: str, argument: str, changes: dict[str, Any], *kinds: type[Exception]) -> str:
    """Check for an error that the docstrings promise: it names op, argument, and what was expected and given."""
    with pytest.raises(kinds or (TypeError, ValueError)) as caught:
        call_with(case, changes)
    text = str(caught.value)
    named = CASES[case][1]
    blamed = "gt_boxes.*" if argument == "gt_boxes.offsets" else re.escape(argument)  # without offsets, a list of boxes
    if argument in (next(iter(named)), "default_boxes"):  # the others are compared with it: any may be blamed
        blamed = "|".join(map(re.escape, named))
    form = rf"{case.split()[0]}: ({blamed})(\[0\])?: expected [^\n]+, got [^\n]+"
    assert type(caught.value) in (TypeError, ValueError) and re.fullmatch(form, text), text
    return text


def nested(tensor: torch.Tensor) -> torch.Tensor:
    with warnings.catch_warnings(action="ignore"):  # torch calls it a prototype
        return torch.nested.nested_tensor([tensor, tensor])


NOT_ARRAYS: dict[str, Any] = {
    "None": lambda tensor: None,
    "a number": lambda tensor: 0.5,
    "text": lambda tensor: "boxes",
    "an object": lambda tensor: object(),
    "a NumPy scalar": lambda tensor: np.float32(1),
    "masked": lambda tensor: np.ma.masked_array(tensor.float().numpy()),
    "sparse": lambda tensor: tensor.to_sparse(),
    "quantized": lambda tensor: torch.quantize_per_tensor(tensor.float(), 0.1, 0, torch.quint8),
    "nested": nested,
    "of NumPy": lambda tensor: tensor.float().numpy(),
}


OPTIONAL = ("gt_ignored", "image_sizes")  # None is allowed here


@pytest.mark.parametrize(
    ("case", "argument", "kind"),
    [(*pair, kind) for pair in ARGUMENTS for kind in NOT_ARRAYS if kind != "None" or pair[1] not in OPTIONAL],
)
def test_ops_refuse_arguments_that_are_not_arrays_of_same_library(case, argument, kind):
    _, named = CASES[case]
    wrong = NOT_ARRAYS[kind](named[argument])
    assert_refused(case, argument, {argument: wrong}, TypeError)


@pytest.mark.parametrize(("case", "argument"), ARGUMENTS)
def test_ops_refuse_tensor_on_another_device(case, argument, backend):
    """A meta tensor, such as a buffer that was never materialized, once made torch return uninitialized memory."""
    _, named = CASES[case]
    changes = {name: backend.to(tensor) for name, tensor in named.items()} | {argument: named[argument].to("meta")}
    text = assert_refused(case, next(iter(named)), changes, ValueError)
    assert "device" in text and "meta" in text


@pytest.mark.parametrize("dtype", [torch.complex64, torch.int8, torch.float8_e4m3fn, torch.uint16])
@pytest.mark.parametrize(("case", "argument"), ARGUMENTS)
def test_ops_refuse_other_dtypes(case, argument, dtype, backend):
    _, named = CASES[case]
    wrong = torch.zeros(named[argument].shape, dtype=dtype)
    text = assert_refused(case, argument, {argument: wrong}, TypeError)
    assert str(dtype).removeprefix("torch.") in text


@pytest.mark.parametrize("dtype", [">f4", "M8[s]", "O", "U3", "f2,f4", "longdouble"])
@pytest.mark.parametrize(("case", "argument"), [pair for pair in ARGUMENTS if "bfloat16" not in pair[0]])
def test_ops_refuse_other_numpy_dtypes(case, argument, dtype):
    named = {name: tensor.numpy() for name, tensor in CASES[case][1].items()}
    wrong = np.zeros(named[argument].shape, np.dtype(dtype))
    assert_refused(case, argument, named | {argument: wrong}, TypeError)


def wrong_ranks(case: str, argument: str) -> list[int]:
    any_leading = case.startswith(("encode", "decode")) and argument != "default_boxes"
    right = range(2, 7) if any_leading else [CASES[case][1][argument].ndim]
    return [rank for rank in (0, 1, 2, 3, 4, 7, 9) if rank not in right]


@pytest.mark.parametrize(
    ("case", "argument", "rank"), [(*pair, rank) for pair in ARGUMENTS for rank in wrong_ranks(*pair)]
)
def test_ops_refuse_other_ranks(case, argument, rank):
    tensor = CASES[case][1][argument]
    changes = {argument: torch.zeros((1,) * rank, dtype=tensor.dtype)}
    with pytest.raises((TypeError, ValueError), match=rf"^{case.split()[0]}: [^:]+: expected [^\n]+, got [^\n]+$"):
        call_with(case, changes)


def fake_pairs() -> list[tuple[str, str, str]]:
    return [(case, name, change) for case, name in ARGUMENTS for change in ("last", "first", "rank", "dtype")]


@pytest.mark.parametrize(("case", "argument", "change"), fake_pairs())
def test_fakes_refuse_same_arguments_as_ops(case, argument, change):
    """Meta tensors go to the registered fake, with which compiled and exported programs are traced."""
    call, named = CASES[case]
    tensor = named[argument]
    wrong = {
        "last": lambda: torch.zeros((*tensor.shape[:-1], tensor.shape[-1] + 1), dtype=tensor.dtype),
        "first": lambda: torch.zeros((tensor.shape[0] + 1, *tensor.shape[1:]), dtype=tensor.dtype),
        "rank": lambda: tensor[None, None],
        "dtype": lambda: tensor.to(torch.int16),
    }[change]()

    def outcome(device: str) -> str:
        changed = named | {argument: wrong}
        try:
            call(*(tensor.to(device) for tensor in changed.values()))
        except (TypeError, ValueError) as error:
            return f"{type(error).__name__}: {error}"
        except (NotImplementedError, RuntimeError) as error:  # sizes that depend on data, after all checks
            assert "meta" in str(error) or "dynamic" in str(error) or "unbacked" in str(error).lower(), error
        return "accepted"

    expected = outcome("cpu")
    if change in ("rank", "dtype"):
        assert expected != "accepted" or case.startswith(("encode", "decode")) or "sizes" in argument
    assert outcome("meta") == expected


@pytest.mark.parametrize("value", ["0.5", None, True, [0.5], 1j, object()])
@pytest.mark.parametrize("op", ["nms", "batched_nms", "nms_padded"])
def test_thresholds_must_be_numbers(op, value):
    boxes, scores = make_boxes(1, 5), torch.rand(1, 5)
    arguments = {
        "nms": (boxes[0], scores[0], value),
        "batched_nms": (boxes[0], scores[0], torch.zeros(5, dtype=torch.int64), value),
        "nms_padded": (boxes, scores, value, 3),
    }[op]
    with pytest.raises(TypeError, match=rf"^{op}: iou_threshold: expected a number, got "):
        getattr(ssd_fast, op)(*arguments)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.1, 10**400])
def test_thresholds_must_be_finite(value, backend):
    with pytest.raises(ValueError, match=r"^nms: iou_threshold: expected a finite number"):
        ssd_fast.nms(backend.to(make_boxes(5)), backend.to(torch.rand(5)), value)


def test_thresholds_may_be_numbers_of_any_library(backend):
    boxes, scores = backend.to(make_boxes(9)), backend.to(torch.rand(9))
    expected = ssd_fast.nms(boxes, scores, 0.25)
    for threshold in (np.float32(0.25), np.float64(0.25), torch.tensor(0.25), np.array(0.25)):
        assert torch.equal(ssd_fast.nms(boxes, scores, threshold), expected)
    expected = ssd_fast.nms_padded(boxes[None], scores[None], 0, 4)[0]
    for most in (np.int64(4), np.uint8(4), torch.tensor(4)):
        assert torch.equal(ssd_fast.nms_padded(boxes[None], scores[None], 0, most)[0], expected)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        *((value, ValueError) for value in (2**63 - 1, 2**63, 2**31 - 1, 0, -1)),
        *((value, TypeError) for value in (2.0, "3", True, None)),
    ],
)
def test_max_output_is_checked_before_allocation(value, kind, backend):
    boxes, scores = backend.to(make_boxes(1, 5)), backend.to(torch.rand(1, 5))
    with pytest.raises(kind, match=r"^nms_padded: max_output: expected [^\n]+, got "):
        ssd_fast.nms_padded(boxes, scores, 0.5, value)


@pytest.mark.parametrize("columns", [2**31, 2**32, 2**32 + 5, 2**40])
def test_columns_beyond_32_bits_are_refused(columns, backend):
    """There are no rows, so no memory is needed; as an int, 2**32 columns were once 0, and a divisor."""
    logits, deltas, boxes = (backend.to(torch.empty(shape)) for shape in ((1, 0, columns), (1, 0, 4), (0, 4)))
    match = r"^(postprocess|multibox_loss): cls_logits: expected at most 2147479551 elements, got [0-9]+$"
    with pytest.raises(ValueError, match=match):
        ssd_fast.postprocess(logits, deltas, boxes, PostprocessSpec(), coder=CODER)
    matched = backend.to(torch.empty(1, 0, dtype=torch.int64))
    truths = [boxes], [backend.to(torch.empty(0, dtype=torch.int64))], matched, boxes
    with pytest.raises(ValueError, match=match):
        ssd_fast.multibox_loss(logits, deltas, *truths, coder=CODER, loss=LossSpec())


@pytest.mark.parametrize("height", [2**31, 2**32, 2**40])
def test_maps_beyond_32_bits_are_refused(height, backend):
    maps = (backend.to(torch.empty(1, channels, height, 0)) for channels in (6, 8))
    with pytest.raises(ValueError, match=r"^postprocess: cls_logits: expected at most 2147479551 elements, got"):
        ssd_fast.postprocess(*([x] for x in maps), backend.to(torch.empty(0, 4)), PostprocessSpec(), coder=CODER)


def test_keep_top_k_beyond_32_bits_is_refused(backend):
    tensors = [backend.to(torch.zeros(shape)) for shape in ((2, 1, 3), (2, 1, 4), (1, 4))]
    with pytest.raises(ValueError, match=r"^postprocess: spec.keep_top_k: expected at most 2147479551 elements, got"):
        ssd_fast.postprocess(*tensors, PostprocessSpec(keep_top_k=2**30), coder=CODER)


@pytest.mark.parametrize("value", [0, -1, 2**31 - 1, 2**62])
def test_fakes_check_max_output(value):
    boxes, scores = torch.empty(1, 5, 4, device="meta"), torch.empty(1, 5, device="meta")
    with pytest.raises(ValueError, match=rf"^nms_padded: max_output: expected at (least|most) [^\n]+, got {value}"):
        ssd_fast.nms_padded(boxes, scores, 0.5, value)


def test_threshold_must_have_a_value():
    with pytest.raises(TypeError, match=r"^nms: iou_threshold: expected a number, got Tensor$"):
        ssd_fast.nms(make_boxes(3), torch.rand(3), torch.tensor(0.5, device="meta"))


@pytest.mark.parametrize(
    "sizes",
    [[], [(300, 300)], [(300, 300), (True, 300)], [(10**400, 5), (3, 3)], [(0, 5), (3, 3)], (300,), "ab", [5, "x"]],
)
@pytest.mark.parametrize("argument", ["image_sizes", "original_sizes"])
def test_postprocess_refuses_wrong_sizes(argument, sizes, backend):
    tensors = [backend.to(tensor) for tensor in list(CASES["postprocess float32"][1].values())[:3]]
    given = {"image_sizes": (300, 300)} | {argument: sizes}
    with pytest.raises((TypeError, ValueError), match=rf"^postprocess: {argument}: expected [^\n]+, got "):
        ssd_fast.postprocess(*tensors, PostprocessSpec(), coder=CODER, **given)


def test_match_refuses_images_of_different_dtypes():
    boxes = make_boxes(2)
    with pytest.raises(TypeError, match=r"^match: gt_boxes\[1\]: expected float32, as gt_boxes\[0\] is, got float64$"):
        ssd_fast.match([boxes, boxes.double()], boxes, MatcherSpec())


def test_default_boxes_refuse_unknown_devices():
    spec = ssd_fast.preset("torchvision_ssd300_vgg16").default_boxes
    assert ssd_fast.default_boxes(spec, device="meta").shape == (8732, 4)
    for device in ("gpu", 1.5, [], "mps"):
        with pytest.raises(ValueError, match=r"^default_boxes: device: expected [^\n]+, got "):
            ssd_fast.default_boxes(spec, device=device)
