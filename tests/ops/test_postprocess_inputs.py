"""postprocess: raw head maps, forms of sizes, other arrays, and registration."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import ssd_fast
from helpers import inputs
from helpers.checks import (
    assert_numpy_agrees,
    assert_same_bits,
    assert_well_registered,
    run_postprocess,
    specified,
)
from ssd_fast import PostprocessSpec, reference

CODER = inputs.CODER
DEFAULT = reference.default_boxes(inputs.SMALL)
P, C = len(DEFAULT), 4
LOGITS, DELTAS = inputs.logits(1, 2, P, C), inputs.bell(2, 2, P, 4)


# ---- raw head maps --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row_order", ["HWA", "AHW"])
@pytest.mark.parametrize("channel_order", ["AC", "CA"])
def test_raw_maps_equal_rows(backend, channel_order, row_order):
    boxes = dataclasses.replace(inputs.SMALL, row_order=row_order)
    default = reference.default_boxes(boxes)
    rows = run_postprocess(backend, LOGITS, DELTAS, default, inputs.LOOSE, coder=CODER)
    assert rows.counts.min() > 10
    spec = dataclasses.replace(inputs.LOOSE, channel_order=channel_order, row_order=row_order)
    logits = inputs.head_maps(LOGITS, boxes, channel_order, row_order)
    deltas = inputs.head_maps(DELTAS, boxes, channel_order, row_order)
    assert_same_bits(run_postprocess(backend, logits, deltas, default, spec, coder=CODER), rows)
    assert_same_bits(specified("postprocess", logits, deltas, default, spec, coder=CODER)[2:], rows[2:])

    for memory in (channels_last, inputs.noncontiguous, sliced_channels):
        strided = list(map(memory, logits)), list(map(memory, deltas))
        assert_same_bits(run_postprocess(backend, *strided, default, spec, coder=CODER), rows)


def channels_last(x):
    return x.contiguous(memory_format=torch.channels_last)


def sliced_channels(x):
    """Return x as a part of the channels of a wider map, as from a fused head, and of a larger batch."""
    wide = torch.full((x.shape[0] + 1, x.shape[1] + 3, *x.shape[2:]), 9.0, dtype=x.dtype)
    wide[1:, 2:-1] = x
    return wide[1:, 2:-1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_inputs_are_widened(backend, dtype):
    logits, deltas = LOGITS.to(dtype), DELTAS.to(dtype)
    wide = run_postprocess(backend, logits.float(), deltas.float(), DEFAULT, inputs.LOOSE, coder=CODER)
    assert_same_bits(run_postprocess(backend, logits, deltas, DEFAULT, inputs.LOOSE, coder=CODER), wide)
    mixed = run_postprocess(backend, logits, deltas.float(), DEFAULT, inputs.LOOSE, coder=CODER)
    assert_same_bits(mixed, wide)
    maps = [inputs.head_maps(rows, inputs.SMALL, "AC", "HWA") for rows in (logits, deltas)]
    assert_same_bits(run_postprocess(backend, *maps, DEFAULT, inputs.LOOSE, coder=CODER), wide)
    maps = [[channels_last(level) for level in levels] for levels in maps]
    assert_same_bits(run_postprocess(backend, *maps, DEFAULT, inputs.LOOSE, coder=CODER), wide)


def test_strided_rows_give_same_detections(backend):
    rows = run_postprocess(backend, LOGITS, DELTAS, DEFAULT, inputs.LOOSE, coder=CODER)
    for memory in (inputs.noncontiguous, lambda x: x.transpose(1, 2).contiguous().transpose(1, 2)):
        strided = memory(LOGITS), memory(DELTAS), inputs.noncontiguous(DEFAULT)
        assert_same_bits(run_postprocess(backend, *strided, inputs.LOOSE, coder=CODER), rows)


def test_textbook_case_finds_every_box(backend):
    """A 5x5 map, 3 boxes per cell and 21 classes give 75 boxes from heads [N, 63, 5, 5] and [N, 12, 5, 5]."""
    boxes, logits, deltas = inputs.textbook_maps()
    assert logits.shape == (2, 63, 5, 5) and deltas.shape == (2, 12, 5, 5)
    default = ssd_fast.default_boxes(boxes)
    assert default.shape == (75, 4)
    spec = PostprocessSpec(keep_top_k=2000, top_k=None, iou_threshold=1.0, score_threshold=0.0)
    result = run_postprocess(backend, [logits], [deltas], default, spec, coder=CODER)
    assert result.counts.tolist() == [75 * 20] * 2
    row = int(((result.labels[1] == 7) & (result.box_idxs[1] == (2 * 5 + 4) * 3 + 1)).nonzero())
    cell = logits[1, 21:42, 2, 4].softmax(0)  # box 1 of the cell in row 2, column 4
    torch.testing.assert_close(result.scores[1, row], cell[7], rtol=1e-5, atol=0)
    expected = reference.decode_boxes(deltas[1, 4:8, 2, 4][None], default[43:44], CODER)
    torch.testing.assert_close(result.boxes[1, row][None], expected)


def test_eight_levels_equal_rows(backend):
    boxes = ssd_fast.DefaultBoxSpec((64, 64), ((2, 3),) * 8, (((20.0, 30.0), (9.0, 9.0)),) * 8)
    default, p = reference.default_boxes(boxes), 96
    logits, deltas = inputs.logits(3, 1, p, C), inputs.bell(4, 1, p, 4)
    rows = run_postprocess(backend, logits, deltas, default, inputs.LOOSE, coder=CODER)
    maps = [inputs.head_maps(x, boxes, "AC", "HWA") for x in (logits, deltas)]
    assert_same_bits(run_postprocess(backend, *maps, default, inputs.LOOSE, coder=CODER), rows)


# ---- sizes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "clip, rescale", [("before_nms", "before_nms"), ("before_nms", "after_nms"), ("after_nms", "after_nms")]
)
def test_forms_of_sizes_agree(backend, clip, rescale):
    spec = dataclasses.replace(inputs.LOOSE, clip=clip, rescale=rescale)

    def detect(image_sizes, original_sizes):
        sizes = {"image_sizes": image_sizes, "original_sizes": original_sizes}
        return run_postprocess(backend, LOGITS, DELTAS, DEFAULT, spec, coder=CODER, **sizes)

    expected = detect((90, 80), (480, 640))
    assert expected.boxes.max() > 96  # they are scaled
    pairs, originals = [(90, 80)] * 2, [[480, 640]] * 2
    assert_same_bits(detect(pairs, originals), expected)
    assert_same_bits(detect(torch.tensor(pairs), torch.tensor(originals)), expected)
    assert_same_bits(detect(torch.tensor(pairs).int(), (480, 640)), expected)
    assert_same_bits(detect(inputs.noncontiguous(torch.tensor(pairs)), (480, 640)), expected)

    each = detect([(90, 80), (50, 60)], [(480, 640), (33, 77)])
    assert_same_bits([field[0] for field in each], [field[0] for field in expected])
    other = detect((50, 60), (33, 77))
    assert_same_bits([field[1] for field in each], [field[1] for field in other])


def test_scale_is_a_float32_ratio(backend):
    """original / image is rounded once, then multiplied; this order gives the reference's bits."""
    spec, deltas = dataclasses.replace(inputs.LOOSE, clip="after_nms"), torch.zeros(2, P, 4)
    sizes = {"image_sizes": (93, 91), "original_sizes": (311, 577)}
    actual = run_postprocess(backend, LOGITS, deltas, DEFAULT, spec, coder=CODER, **sizes)
    expected = specified("postprocess", LOGITS, deltas, DEFAULT, spec, coder=CODER, **sizes)
    assert_same_bits((actual.boxes, actual.box_idxs), (expected.boxes, expected.box_idxs))


# ---- arrays and registration ----------------------------------------------------------------------------------------


def test_numpy_arrays_give_same_detections(backend):
    if backend.name != "cuda":
        maps = [inputs.head_maps(rows, inputs.SMALL, "AC", "HWA") for rows in (LOGITS, DELTAS)]
        spec = dataclasses.replace(inputs.LOOSE, clip="before_nms")
        assert_numpy_agrees(ssd_fast.postprocess, LOGITS, DELTAS, DEFAULT, inputs.LOOSE, coder=CODER)
        for sizes in ((96, 96), [(96, 90), (96, 96)], torch.tensor([[96, 90], [96, 96]])):
            assert_numpy_agrees(ssd_fast.postprocess, *maps, DEFAULT, spec, coder=CODER, image_sizes=sizes)


def test_op_is_well_registered(backend):
    spec, sizes = dataclasses.replace(inputs.LOOSE, clip="before_nms"), {"image_sizes": (96, 96)}
    logits, deltas, default = backend.to((LOGITS, DELTAS, DEFAULT))
    assert_well_registered(
        lambda *rows: ssd_fast.postprocess(*rows, spec, coder=CODER, **sizes), logits, deltas, default
    )
    maps = [inputs.head_maps(rows, inputs.SMALL, "AC", "HWA") for rows in (logits, deltas)]
    assert_well_registered(lambda *rows: ssd_fast.postprocess(*rows, spec, coder=CODER, **sizes), *maps, default)


def test_exported_program_returns_detections():
    """A program of torch.export returns Detections with the same bits."""

    class Postprocess(torch.nn.Module):
        def forward(self, logits, deltas):
            return ssd_fast.postprocess(logits, deltas, DEFAULT, inputs.LOOSE, coder=CODER)

    found = torch.export.export(Postprocess(), (LOGITS, DELTAS)).module()(LOGITS, DELTAS)
    assert isinstance(found, ssd_fast.Detections)
    assert_same_bits(found, ssd_fast.postprocess(LOGITS, DELTAS, DEFAULT, inputs.LOOSE, coder=CODER))


def test_cuda_graph_replays_with_new_heads(cuda):
    """A replay reads the current inputs, and needs nothing that the capture allocated outside the graph."""
    default, sizes = DEFAULT.to(cuda), torch.tensor([[90, 80], [50, 60]], device=cuda)
    spec = dataclasses.replace(inputs.LOOSE, clip="before_nms")

    def detect(logits, deltas):
        return ssd_fast.postprocess(logits, deltas, default, spec, coder=CODER, image_sizes=sizes)

    first = torch.zeros_like(LOGITS, device=cuda), torch.zeros_like(DELTAS, device=cuda)
    detect(*first)  # kernels are loaded outside the capture
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = detect(*first)
    for logits, deltas in ((LOGITS, DELTAS), (LOGITS.flip(1), DELTAS.flip(0))):
        first[0].copy_(logits)
        first[1].copy_(deltas)
        graph.replay()
        assert_same_bits(captured, detect(logits.to(cuda), deltas.to(cuda)))


def test_detections_have_no_gradient(backend):
    logits, deltas, default = backend.to((LOGITS.clone(), DELTAS.clone(), DEFAULT))
    result = ssd_fast.postprocess(logits.requires_grad_(), deltas.requires_grad_(), default, inputs.LOOSE, coder=CODER)
    assert not result.boxes.requires_grad and not result.scores.requires_grad


def test_to_list_splits_images(backend):
    result = run_postprocess(backend, LOGITS, DELTAS, DEFAULT, inputs.LOOSE, coder=CODER)
    images = result.to_list()
    assert [len(image["scores"]) for image in images] == result.counts.tolist()
    assert set(images[0]) == {"boxes", "scores", "labels", "box_idxs"} and (images[1]["labels"] > 0).all()
