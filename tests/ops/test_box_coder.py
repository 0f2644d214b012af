"""encode_boxes and decode_boxes give the reference's values and torch's gradients, with exp and log within 1 ulp."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ssd_fast
from helpers import goldens, inputs
from helpers.checks import assert_numpy_agrees, assert_same_bits, assert_well_registered, specified, unmodified
from helpers.tolerances import assert_near
from ssd_fast import BoxCoderSpec, reference

DEFAULT = reference.default_boxes(inputs.SMALL)
P = len(DEFAULT)
CODERS = {
    "plain": BoxCoderSpec(),
    "yx": BoxCoderSpec(order="yx"),
    "clamped": BoxCoderSpec((0.125, 0.1, 0.25, 0.2), log_scale_clamp=(-0.5, 0.75)),
    "unit": BoxCoderSpec((1.0, 1.0, 1.0, 1.0), order="yx", log_scale_clamp=(-float("inf"), 4.135166556742356)),
}
every_coder = pytest.mark.parametrize("coder", CODERS.values(), ids=CODERS.keys())


def check(backend, op_name, rows, default, coder):
    expected = specified(op_name, rows, default, coder)
    rows, default = backend.to((rows, default))
    with unmodified(rows, default):
        actual = getattr(ssd_fast, op_name)(rows, default, coder)
    assert actual.device == rows.device and actual.dtype == torch.float32
    assert_near(op_name, actual.cpu(), expected, rows.dtype)


def test_by_hand(backend):
    default = torch.tensor([[10.0, 20, 30, 60]])  # center (20, 40), 20 x 40
    deltas = torch.tensor([[1.0, -1.0, 0.0, -0.0]])
    decoded = ssd_fast.decode_boxes(*backend.to((deltas, default)), BoxCoderSpec())
    assert_same_bits(decoded, torch.tensor([[12.0, 16, 32, 56]]))
    encoded = ssd_fast.encode_boxes(
        *backend.to((default + 5, default)), BoxCoderSpec((0.5, 0.25, 0.2, 0.2), order="yx")
    )
    assert_same_bits(encoded, torch.tensor([[0.5, 0.5, 0.0, 0.0]]))


@every_coder
@pytest.mark.parametrize("leading", [(), (0,), (1,), (3,), (2, 3)], ids=str)
def test_leading_dimensions_equal_reference(backend, coder, leading):
    check(backend, "decode_boxes", inputs.bell(1, *leading, P, 4), DEFAULT, coder)
    check(backend, "encode_boxes", inputs.boxes(2, *leading, P, extent=96), DEFAULT, coder)


@pytest.mark.parametrize("p", inputs.BORDER_SIZES)
def test_border_sizes_equal_reference(backend, p):
    default = inputs.boxes(p, p)
    check(backend, "decode_boxes", inputs.bell(3, 2, p, 4), default, CODERS["plain"])
    check(backend, "encode_boxes", inputs.boxes(4, 2, p), default, CODERS["plain"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_deltas_are_widened(backend, dtype):
    deltas = (inputs.bell(5, 2, P, 4) * 3).to(dtype)
    check(backend, "decode_boxes", deltas, DEFAULT, CODERS["clamped"])
    wide, default = backend.to((deltas.float(), DEFAULT))
    actual = ssd_fast.decode_boxes(backend.to(deltas), default, CODERS["plain"])
    assert_same_bits(actual, ssd_fast.decode_boxes(wide, default, CODERS["plain"]))


def test_centers_equal_reference_bit_for_bit(backend):
    """Offsets without a change of size do not involve exp."""
    deltas = inputs.bell(6, 3, P, 4) * 5
    deltas[..., 2:] = 0
    actual = ssd_fast.decode_boxes(*backend.to((deltas, DEFAULT)), CODERS["plain"])
    assert_same_bits(actual, reference.decode_boxes(deltas, DEFAULT, CODERS["plain"]))


@given(seed=st.integers(0, 2**31), coder=st.sampled_from(list(CODERS.values())), scale=st.sampled_from([0.1, 1.0, 8.0]))
def test_random_boxes_equal_reference(backend, seed, coder, scale):
    default = inputs.boxes(seed, 70)
    check(backend, "decode_boxes", inputs.bell(seed + 5, 2, 70, 4) * scale, default, coder)
    check(backend, "encode_boxes", inputs.boxes(seed + 9, 2, 70, extent=300 * scale), default, coder)


@given(seed=st.integers(0, 2**31))
def test_encode_undoes_decode(backend, seed):
    default, deltas = backend.to((DEFAULT, inputs.bell(seed, 2, P, 4)))
    for coder in (CODERS["plain"], CODERS["yx"]):
        again = ssd_fast.encode_boxes(ssd_fast.decode_boxes(deltas, default, coder), default, coder)
        torch.testing.assert_close(again, deltas, rtol=1e-4, atol=2e-4)


def test_strange_values_equal_reference(backend):
    """NaN and infinities take part in the formula as they are, without special cases."""
    values = torch.tensor([inputs.NAN, inputs.INF, -inputs.INF, 0.0, -0.0, 1e4, -1e4, 1e-40, 3.0])
    deltas = torch.cartesian_prod(values, values[:1], values, values[3:6])
    for coder in (CODERS["plain"], CODERS["clamped"]):
        check(backend, "decode_boxes", deltas, inputs.boxes(8, len(deltas)), coder)
    strange = torch.tensor(inputs.STRANGE_BOXES)
    for ordinary in ([0.0, 0, 10, 10], [-3.0, 2, 5, 5]):
        rows = torch.tensor([ordinary]).expand(len(strange), 4)
        check(backend, "encode_boxes", strange, rows.contiguous(), CODERS["plain"])


def test_encode_and_decode_equal_torchvision(backend):
    default = torch.from_numpy(goldens.load("matching_torchvision", "tv_ssd300_vgg16__priors")["default_boxes_xyxy_px"])
    arrays = goldens.load("matching_torchvision", "tv_ssd300_vgg16__OSBS_029")
    coder = ssd_fast.preset("torchvision_ssd300_vgg16").coder
    matched = torch.from_numpy(arrays["gt_boxes_xyxy_px"])[arrays["matched_gt_idx"].clip(0)]
    targets = torch.from_numpy(arrays["encoded_targets"])
    positive = torch.from_numpy(arrays["matched_gt_idx"] >= 0)
    assert positive.sum() > 50
    encoded = ssd_fast.encode_boxes(*backend.to((matched, default)), coder).cpu()
    torch.testing.assert_close(encoded[positive], targets[positive], rtol=1e-4, atol=1e-4)
    decoded = ssd_fast.decode_boxes(*backend.to((targets, default)), coder).cpu()
    torch.testing.assert_close(decoded, torch.from_numpy(arrays["decode_roundtrip"]), rtol=1e-5, atol=1e-4)


# ---- exp and log: through boxes on which the rest of the formula is exact --------------------------------------------


def ulps(actual, exact):
    """Return the distance from the true value, in units in the last place of the float32 result."""
    nearest = np.float32(exact)
    return np.abs(actual - exact) / np.spacing(np.abs(nearest)).astype(np.float64)


def test_exp_is_within_one_ulp(backend):
    x = torch.cat((inputs.uniform(1, 4000, low=-86.6, high=88.7), inputs.uniform(2, 4000, low=-1, high=1)))
    x = torch.cat((x, torch.tensor([0.0, -0.0, -200.0, 200.0, -88.0])))
    deltas = torch.zeros(len(x), 4)
    deltas[:, 2] = x
    default = torch.tensor([[-0.5, -0.5, 0.5, 0.5]]).repeat(len(x), 1)  # so that x2 = 0 + 0.5 * (exp(x) * 1)
    boxes = ssd_fast.decode_boxes(*backend.to((deltas, default)), BoxCoderSpec((1.0,) * 4)).cpu()
    result = 2 * boxes[:, 2].double().numpy()
    assert result[-5:].tolist() == [1.0, 1.0, 0.0, np.inf, 0.0]  # exp(-88) is below 2^-126
    assert ulps(result[:-5], np.exp(x[:-5].double().numpy())).max() <= 1


def test_log_is_within_one_ulp(backend):
    x = torch.cat((inputs.uniform(3, 4000, low=0.5, high=2.0), torch.exp(inputs.uniform(4, 4000, low=-80, high=80))))
    x = torch.cat((x, torch.tensor([1.0, 2.0**-126, 0.0, inputs.INF])))
    boxes = torch.zeros(len(x), 4)
    boxes[:, 2], boxes[:, 3] = x, 1  # the box is x wide, its default box 1
    default = torch.tensor([[0.0, 0, 1, 1]]).repeat(len(x), 1)
    result = ssd_fast.encode_boxes(*backend.to((boxes, default)), BoxCoderSpec((1.0,) * 4)).cpu()[:, 2].double().numpy()
    assert result[-4] == 0 and result[-2:].tolist() == [-np.inf, np.inf]
    assert ulps(result[:-4], np.log(x[:-4].double().numpy()))[x[:-4].numpy() != 1].max() <= 1


# ---- gradients -------------------------------------------------------------------------------------------------------


def gradients(op, rows, default, coder, weights):
    rows = rows.clone().requires_grad_()
    (op(rows, default, coder) * weights).sum().backward()
    return rows.grad


@every_coder
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_gradient_of_decode_equals_reference(backend, coder, dtype):
    deltas, weights = inputs.bell(1, 2, P, 4).to(dtype), inputs.bell(2, 2, P, 4)
    expected = gradients(reference.decode_boxes, deltas, DEFAULT, coder, weights)
    actual = gradients(ssd_fast.decode_boxes, *backend.to((deltas, DEFAULT)), coder, backend.to(weights))
    assert actual.dtype == dtype and (actual != 0).any()
    assert_near("decode_boxes gradient", actual.cpu(), expected, dtype)


@every_coder
def test_gradient_of_encode_equals_reference(backend, coder):
    boxes, weights = inputs.boxes(1, 2, P, extent=96), inputs.bell(2, 2, P, 4)
    expected = gradients(reference.encode_boxes, boxes, DEFAULT, coder, weights)
    actual = gradients(ssd_fast.encode_boxes, *backend.to((boxes, DEFAULT)), coder, backend.to(weights))
    assert_near("encode_boxes gradient", actual.cpu(), expected)


def test_gradient_is_the_slope(backend):
    """Compare with central differences, which do not depend on a formula."""
    deltas, default = backend.to((inputs.bell(3, 5, 4), DEFAULT[40:45]))
    slope = gradients(ssd_fast.decode_boxes, deltas, default, CODERS["yx"], 1.0)
    for row, column in ((0, 0), (1, 1), (2, 2), (3, 3)):
        step = torch.zeros_like(deltas)
        step[row, column] = 0.25
        after = ssd_fast.decode_boxes(deltas + step, default, CODERS["yx"]).double().sum()
        before = ssd_fast.decode_boxes(deltas - step, default, CODERS["yx"]).double().sum()
        torch.testing.assert_close(slope[row, column].double(), (after - before) / 0.5, rtol=1e-3, atol=1e-3)


# ---- arrays, registration, rejections -------------------------------------------------------------------------------


def test_noncontiguous_arrays_give_same_boxes(backend):
    deltas, boxes, default = backend.to((inputs.bell(1, 2, P, 4), inputs.boxes(2, 2, P), DEFAULT))
    for op, rows in ((ssd_fast.decode_boxes, deltas), (ssd_fast.encode_boxes, boxes)):
        expected = op(rows, default, CODERS["plain"])
        strided = inputs.noncontiguous(rows)
        with unmodified(strided):
            assert_same_bits(op(strided, inputs.noncontiguous(default), CODERS["plain"]), expected)


def test_numpy_arrays_give_same_boxes(backend):
    if backend.name != "cuda":
        assert_numpy_agrees(ssd_fast.decode_boxes, inputs.bell(1, 2, P, 4), DEFAULT, CODERS["yx"])
        assert_numpy_agrees(ssd_fast.decode_boxes, inputs.bell(1, 2, P, 4).half(), DEFAULT, CODERS["yx"])
        assert_numpy_agrees(ssd_fast.encode_boxes, inputs.boxes(1, 2, P), DEFAULT, CODERS["yx"])


def test_ops_are_well_registered(backend):
    coder = CODERS["clamped"]
    deltas, boxes, default = backend.to((inputs.bell(1, 2, P, 4), inputs.boxes(2, 2, P), DEFAULT))
    assert_well_registered(lambda a, b: ssd_fast.decode_boxes(a, b, coder), deltas.requires_grad_(), default)
    assert_well_registered(lambda a, b: ssd_fast.encode_boxes(a, b, coder), boxes.requires_grad_(), default)


def test_decode_compiled_by_inductor_gives_same_bits():
    torch._dynamo.reset()
    compiled = torch.compile(lambda deltas: ssd_fast.decode_boxes(deltas, DEFAULT, CODERS["plain"]), fullgraph=True)
    deltas = inputs.bell(1, 2, P, 4)
    assert_same_bits(compiled(deltas), ssd_fast.decode_boxes(deltas, DEFAULT, CODERS["plain"]))


ROWS = torch.zeros(2, P, 4)


@pytest.mark.parametrize(
    "rows, default, coder, error, message",
    [
        (ROWS[..., :3], DEFAULT, CODERS["plain"], ValueError, r"{rows}: expected shape .*4\], got \[2, 101, 3\]"),
        (ROWS, DEFAULT[1:], CODERS["plain"], ValueError, r"{rows}: expected shape .*100, 4\], got \[2, 101, 4\]"),
        (ROWS, DEFAULT.double(), CODERS["plain"], TypeError, "default_boxes: expected float32, got float64 .*convert"),
        (ROWS.double(), DEFAULT, CODERS["plain"], TypeError, "{rows}: expected float32.*, got float64 .*convert"),
        (ROWS.long(), DEFAULT, CODERS["plain"], TypeError, "{rows}: expected float32.*, got int64 .*convert"),
        (3.0, DEFAULT, CODERS["plain"], TypeError, "{rows}: expected a torch tensor, .* got float"),
        (ROWS, DEFAULT, (0.1, 0.2), TypeError, "coder: expected a BoxCoderSpec, got tuple"),
    ],
)
def test_rejected_arguments(backend, rows, default, coder, error, message):
    rows = backend.to(rows) if isinstance(rows, torch.Tensor) else rows
    for op, argument in ((ssd_fast.decode_boxes, "deltas"), (ssd_fast.encode_boxes, "boxes")):
        with pytest.raises(error, match=f"{op.__name__}: " + message.replace("{rows}", argument)):
            op(rows, backend.to(default), coder)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"variances": (0.1, 0.1, 0.2)}, "variances: expected 4 finite positive numbers"),
        ({"variances": (0.1, 0.1, 0.2, 0.0)}, "variances: expected 4 finite positive numbers"),
        ({"variances": 0.1}, "variances: expected 4 finite positive numbers in a tuple, got 0.1"),
        ({"order": "wh"}, "order: expected 'xy' or 'yx', got 'wh'"),
        ({"log_scale_clamp": (1.0, 1.0)}, r"log_scale_clamp: expected \(low, high\), low < high"),
        ({"log_scale_clamp": 4.0}, r"log_scale_clamp: expected \(low, high\), low < high, got 4.0"),
        ({"log_scale_clamp": (1.0, 2.0, 3.0)}, r"log_scale_clamp: expected \(low, high\), low < high"),
        ({"log_scale_clamp": ("a", "b")}, r"log_scale_clamp: expected \(low, high\), low < high"),
    ],
)
def test_rejected_fields(fields, message):
    with pytest.raises(ValueError, match=f"BoxCoderSpec: {message}"):
        BoxCoderSpec(**fields)
