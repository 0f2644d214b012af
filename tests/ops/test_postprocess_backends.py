"""postprocess: the CUDA kernels find the CPU's detections, bit for bit, for hostile inputs and layouts.

The reference is the oracle where rounding of exp cannot matter; the CPU is the oracle everywhere, since scores have one
order of operations on every backend.
"""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest
import torch

import ssd_fast
from helpers import inputs
from helpers.checks import assert_same_bits, run_postprocess, specified
from helpers.extensions import using_extension
from ssd_fast import _C, PostprocessSpec

CODER = inputs.CODER


def found(backend, logits, deltas, default, spec, exact=True):
    """Return the detections after checking them: the CPU's, bit for bit, and on the CPU the reference's if exact."""
    result = run_postprocess(backend, logits, deltas, default, spec, coder=CODER)
    if backend.name != "cpu":
        with using_extension(_C):
            expected = ssd_fast.postprocess(logits, deltas, default, spec, coder=CODER)
        assert_same_bits(list(result), list(expected))
    elif exact:
        expected = specified("postprocess", logits, deltas, default, spec, coder=CODER)
        for field in ("counts", "labels", "box_idxs", "boxes"):
            assert_same_bits(getattr(result, field), getattr(expected, field))
        torch.testing.assert_close(result.scores, expected.scores, rtol=0, atol=1e-6)
    return result


# ---- layouts --------------------------------------------------------------------------------------------------------

LEVELS = ((1, 1, 1), (3, 5, 3), (7, 7, 1), (2, 9, 3), (3, 2, 7), (1, 4, 5), (6, 1, 1), (9, 1, 3))  # h, w, anchors
LAYOUT = SimpleNamespace(feature_maps=[level[:2] for level in LEVELS], boxes_per_cell=[level[2] for level in LEVELS])
ROWS = sum(h * w * a for h, w, a in LEVELS)


def placed(x, offset, channels_last):
    """Copy a level's map [N, channels, h, w] to memory that begins `offset` elements into its storage."""
    order, back = ((0, 2, 3, 1), (0, 3, 1, 2)) if channels_last else ((0, 1, 2, 3),) * 2
    laid_out = x.permute(order)
    memory = torch.cat((x.new_full((offset,), 7), laid_out.reshape(-1)))
    return memory[offset:].view(laid_out.shape).permute(back)


def head(rows, first_offset, channel_order, row_order):
    """Return rows [N, ROWS, C] as eight maps, every other one channels-last, all at odd offsets of their storages."""
    maps = inputs.head_maps(rows, LAYOUT, channel_order, row_order)
    places = ((first_offset + 2 * i, (i + first_offset // 2) % 2 == 0) for i in range(len(maps)))
    return [placed(level, *place) for level, place in zip(maps, places, strict=True)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("columns", [2, 6, 21, 91])
def test_odd_levels_at_odd_addresses_equal_rows(backend, columns, dtype):
    images = 2 if columns < 91 else 1
    logits = inputs.logits(columns, images, ROWS, columns).to(dtype)
    deltas = inputs.bell(columns + 1, images, ROWS, 4).to(dtype)
    default = inputs.boxes(3, ROWS)
    for activation, channel_order, row_order in (("softmax", "AC", "HWA"), ("sigmoid", "CA", "AHW")):
        spec = PostprocessSpec(activation, 0, 0.02, channel_order=channel_order, row_order=row_order)
        with using_extension(_C):
            rows = ssd_fast.postprocess(logits.float(), deltas.float(), default, spec, coder=CODER)
        assert rows.counts.min() > 40
        for offset in (1, 3):  # maps that are channels-last in one are not in the other
            orders = channel_order, row_order
            maps = head(backend.to(logits), offset, *orders), head(backend.to(deltas), 4 - offset, *orders)
            assert all(level.data_ptr() % 16 for level in maps[0] + maps[1])
            assert_same_bits(list(run_postprocess(backend, *maps, default, spec, coder=CODER)), list(rows))


def test_head_has_layout_of_reference():
    """Compare `head` of this file with the reference's reading of raw maps."""
    logits, deltas, default = inputs.bell(1, 1, ROWS, 3), torch.zeros(1, ROWS, 4), inputs.boxes(2, ROWS)
    for channel_order, row_order in (("AC", "HWA"), ("CA", "AHW")):
        spec = PostprocessSpec("sigmoid", None, 0.3, channel_order=channel_order, row_order=row_order)
        maps = head(logits, 1, channel_order, row_order), head(deltas, 1, channel_order, row_order)
        ours = specified("postprocess", *maps, default, spec, coder=CODER)
        assert ours.counts > 40
        assert_same_bits(list(ours), list(specified("postprocess", logits, deltas, default, spec, coder=CODER)))


# ---- logits ---------------------------------------------------------------------------------------------------------

MODES = ("per_class", "argmax", "agnostic")


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("mode", MODES)
def test_untrained_head_equals_cpu(backend, mode, activation):
    """Scores differ only in their last bits, and there are more candidates than the lists and the pool hold."""
    rows, columns = 1500, 9
    logits, default = inputs.bell(1, 2, rows, columns) * 0.01, inputs.boxes(2, rows, extent=900.0)
    deltas = inputs.bell(3, 2, rows, 4) * 0.1
    for top_k, scope in ((400, "class"), (None, "class"), (1100, "image")):
        spec = PostprocessSpec(activation, 0, 0.01, class_mode=mode, top_k=top_k, top_k_scope=scope)
        assert found(backend, logits, deltas, default, spec, exact=False).counts.tolist() == [200, 200]


@pytest.mark.parametrize("mode", MODES)
def test_one_row_per_class_equals_reference(backend, mode):
    """There are as many segments as candidates: each segment has one."""
    classes = 90
    logits = torch.full((2, classes, classes + 1), -9.0)
    logits[0, torch.arange(classes), 1 + torch.arange(classes)] = 1.0
    logits[1, torch.arange(classes), 1 + torch.arange(classes).flip(0)] = 1.0
    default, deltas = inputs.grid_boxes(1, classes), torch.zeros(2, classes, 4)
    spec = PostprocessSpec("sigmoid", 0, 0.5, class_mode=mode, keep_top_k=100)
    result = found(backend, logits, deltas, default, spec)
    assert mode == "agnostic" or result.counts.tolist() == [classes, classes]


@pytest.mark.parametrize("value", [inputs.NAN, inputs.INF, -inputs.INF])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("mode", MODES)
def test_rows_columns_and_images_of_nan_or_infinity_equal_reference(backend, mode, activation, value):
    rows, columns = 70, 5
    logits = torch.tensor([-9.0, -2.0, 0.0, 1.0])[inputs.integers(1, 0, 4, 4, rows, columns)]
    logits[0] = value
    logits[1, 3::7] = value
    logits[2, :, 2] = value
    logits[3, ::2, 0] = value  # the background
    default, deltas = inputs.grid_boxes(2, rows), torch.zeros(4, rows, 4)
    for threshold, inclusive in ((0.05, False), (0.0, True)):
        spec = PostprocessSpec(
            activation, 0, threshold, score_inclusive=inclusive, class_mode=mode, keep_top_k=300, iou_threshold=0.8
        )
        counts = found(backend, logits, deltas, default, spec).counts
        assert counts[1] > 0
        if value != value:
            assert counts[0] == 0


@pytest.mark.parametrize("mode", MODES)
def test_every_number_may_be_a_candidate(backend, mode):
    """The threshold is an inclusive 0, scores may be 0, and top_k takes all candidates of a scope or one."""
    logits = torch.tensor([-300.0, 0.0, 2.0])[inputs.integers(1, 0, 3, 2, 40, 4)]
    default = torch.tensor([[20.0 * i, 0, 20.0 * i + 10, 10] for i in range(40)])
    maps = list(logits.split([33, 6, 1], 1)), list(torch.zeros(2, 40, 4).split([33, 6, 1], 1))
    for top_k, scope in ((None, "class"), (1, "class"), (1000, "level"), (1, "level"), (1000, "image"), (1, "image")):
        spec = PostprocessSpec(
            "sigmoid", None, 0.0, score_inclusive=True, class_mode=mode, top_k=top_k, top_k_scope=scope, keep_top_k=500
        )
        counts = found(backend, *maps, default, spec).counts.tolist()
        if top_k != 1:
            assert counts == [160 if mode == "per_class" else 40] * 2
        elif scope != "class":
            assert counts == [3 if scope == "level" else 1] * 2
        elif mode != "argmax":  # argmax may leave a class without a candidate
            assert counts == [4 if mode == "per_class" else 1] * 2


@pytest.mark.parametrize("columns", [2, 3])
@pytest.mark.parametrize("images", [0, 1, 3])
def test_single_row_equals_reference(backend, images, columns):
    logits, default = inputs.bell(1, images, 1, columns) * 2, inputs.boxes(2, 1)
    for mode in MODES:
        for spec in (PostprocessSpec(class_mode=mode), PostprocessSpec("sigmoid", None, class_mode=mode)):
            found(backend, logits, inputs.bell(3, images, 1, 4), default, spec, exact=False)
            result = found(backend, logits * 0, torch.zeros(images, 1, 4), default, spec)
            classes = columns - (1 if spec.activation == "softmax" else 0)
            assert result.counts.tolist() == [classes if mode == "per_class" else 1] * images


# ---- boxes ----------------------------------------------------------------------------------------------------------


def descending(rows):
    """Return logits of one class that fall from row to row."""
    return torch.linspace(4, -4, rows)[None, :, None].contiguous()


@pytest.mark.parametrize("scale", [1.0, 2.0**-25, 2.0**-70, 2.0**49, 2.0**60])
@pytest.mark.parametrize("iou_threshold", [0.0, 1e-7, 1 / 3, 0.5, 1.0])
def test_ious_equal_to_threshold_equal_reference(backend, iou_threshold, scale):
    """Boxes have all sizes, up to areas that overflow; an inclusive threshold suppresses an equal IoU."""
    rows = 300
    default, logits, deltas = inputs.grid_boxes(4, rows) * scale, descending(rows), torch.zeros(1, rows, 4)
    counts = []
    for inclusive in (False, True) if iou_threshold > 0 else (False,):
        spec = PostprocessSpec(
            "sigmoid", None, 0.01, iou_threshold=iou_threshold, iou_inclusive=inclusive, top_k=None, keep_top_k=rows
        )
        counts.append(int(found(backend, logits, deltas, default, spec).counts))
    if scale == 1.0:
        assert iou_threshold < 1 / 3 or counts[0] > counts[1]


@pytest.mark.parametrize("class_mode", ["per_class", "agnostic"])
@pytest.mark.parametrize("candidates", [32, 33, 512, 1024, 2048])
def test_points_that_fill_batches_are_all_found(backend, candidates, class_mode):
    """Nothing suppresses a point, not even itself, so a candidate taken twice would be found twice."""
    rows = 2 * candidates + 100
    logits = torch.full((1, rows, 1), -9.0)
    logits[0, 1 : 2 * candidates : 2, 0] = torch.linspace(0, 4, candidates)
    default, deltas = torch.arange(float(rows))[:, None].repeat(1, 4), torch.zeros(1, rows, 4)
    for threshold in (0.5, 0.7):  # their last bits are 0 and 1
        spec = PostprocessSpec(
            "sigmoid", None, 0.1, top_k=None, keep_top_k=rows, iou_threshold=threshold, class_mode=class_mode
        )
        assert found(backend, logits, deltas, default, spec).counts == candidates


@pytest.mark.parametrize("class_mode", ["per_class", "agnostic"])
def test_few_strange_boxes_among_many_equal_reference(backend, class_mode):
    """Some warps and tiles of a long segment, and the boxes kept before them, hold strange boxes; most hold none."""
    rows = 1300
    default, deltas = inputs.boxes(1, rows, extent=1200.0), torch.zeros(1, rows, 4)
    strange = torch.tensor(inputs.STRANGE_BOXES) * 30  # some have negative areas as large as those of others
    places = torch.tensor([0, 3, 31, 32, 40, 255, 256, 300, 511, 512, 520, 640, 767, 768, 1023, 1024, 1100])
    default[places] = strange
    spec = PostprocessSpec("sigmoid", None, 0.01, top_k=None, keep_top_k=rows, class_mode=class_mode)
    for threshold in (0.0, 0.3, 1.0):
        spec = dataclasses.replace(spec, iou_threshold=threshold)
        assert found(backend, descending(rows), deltas, default, spec).counts > 40
