"""The executable specification against hand-worked tables, torchvision, and the outputs of other runtimes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import torchvision
from torchvision.models.detection.ssd import SSD
from torchvision.ops.boxes import _batched_nms_vanilla

from helpers import goldens, inputs
from helpers.checks import one_thread
from helpers.comparators import Candidates, Limits, assert_same_detections
from ssd_fast import reference
from ssd_fast.presets import list_presets, preset
from ssd_fast.specs import BoxCoderSpec, DefaultBoxSpec, PostprocessSpec


@pytest.fixture(autouse=True)
def single_threaded():
    with one_thread():
        yield


# ---- by hand --------------------------------------------------------------------------------------------------------


def test_default_boxes_by_hand():
    sizes = (((20.0, 10.0), (4.0, 4.0)),)
    spec = DefaultBoxSpec(image_size=(40, 60), feature_maps=((2, 1),), box_sizes=sizes)
    expected = torch.tensor([[20.0, 5, 40, 15], [28, 8, 32, 12], [20, 25, 40, 35], [28, 28, 32, 32]])
    assert torch.equal(reference.default_boxes(spec), expected)
    ahw = DefaultBoxSpec((40, 60), ((2, 1),), sizes, row_order="AHW")
    assert torch.equal(reference.default_boxes(ahw), expected[[0, 2, 1, 3]])
    at_corner = DefaultBoxSpec((40, 60), ((2, 1),), sizes, offset=0.25)
    assert torch.equal(reference.default_boxes(at_corner), expected - torch.tensor([15.0, 5, 15, 5]))
    normalized = DefaultBoxSpec((40, 60), ((2, 1),), sizes, normalized=True)
    assert torch.equal(reference.default_boxes(normalized), expected / torch.tensor([60.0, 40, 60, 40]))
    clipped = DefaultBoxSpec((40, 60), ((2, 1),), (((80.0, 10.0), (4.0, 44.0)),), clip=True)
    expected = torch.tensor([[0.0, 5, 60, 15], [28, 0, 32, 32], [0, 25, 60, 35], [28, 8, 32, 40]])
    assert torch.equal(reference.default_boxes(clipped), expected)


def test_box_iou_by_hand():
    a = torch.tensor([[0.0, 0, 10, 10], [5, 5, 5, 5], [10, 10, 0, 0]])
    b = torch.tensor([[0.0, 0, 10, 5], [5, 0, 15, 10], [10, 0, 20, 10], [0, 0, 10, 10]])
    expected = torch.tensor([[0.5, 1 / 3, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]])
    assert torch.equal(reference.box_iou(a, b), expected)
    assert reference.box_iou(a.double(), b.double()).dtype == torch.float64


def test_strange_boxes_overlap_nothing():
    strange = torch.tensor(inputs.STRANGE_BOXES)
    iou = reference.box_iou(strange, strange)
    assert iou.isfinite().all() and (iou >= 0).all() and (iou <= 1).all()
    ordinary, negative_zero, far = 0, 15, 16
    same = [ordinary, negative_zero]
    assert iou.nonzero().tolist() == [[i, j] for i in same for j in same] + [[far, far]]


def test_decode_by_hand():
    default = torch.tensor([[10.0, 20, 30, 60]])  # center (20, 40), 20 x 40
    log2 = float(torch.log(torch.tensor(2.0)))
    deltas = torch.tensor([[1.0, -1.0, 5 * log2, -5 * log2]])
    expected = torch.tensor([[22.0 - 20, 36.0 - 10, 22 + 20, 36 + 10]])
    torch.testing.assert_close(reference.decode_boxes(deltas, default, BoxCoderSpec()), expected)
    yx = BoxCoderSpec(order="yx")
    torch.testing.assert_close(reference.decode_boxes(deltas[:, [1, 0, 3, 2]], default, yx), expected)
    clamped = BoxCoderSpec(log_scale_clamp=(0.0, 0.5 * log2))
    box = reference.decode_boxes(deltas, default, clamped)[0]
    torch.testing.assert_close(box[2:] - box[:2], torch.tensor([20 * 2**0.5, 40.0]))
    torch.testing.assert_close(reference.encode_boxes(expected, default, BoxCoderSpec()), deltas)
    torch.testing.assert_close(reference.encode_boxes(expected, default, yx), deltas[:, [1, 0, 3, 2]])
    each = BoxCoderSpec((0.5, 0.25, 0.2, 0.4))
    expected = torch.tensor([[30.0 - 20, 30.0 - 5, 30 + 20, 30 + 5]])
    torch.testing.assert_close(reference.decode_boxes(deltas, default, each), expected)
    torch.testing.assert_close(reference.encode_boxes(expected, default, each), deltas)


def test_decode_rounds_every_operation():
    """NumPy's float32 numbers, in the order of the definition, show no fused multiply-add and no float64."""
    default, deltas = inputs.boxes(1, 200), inputs.bell(2, 200, 4)
    deltas[:, 2:] = 0  # exp(0) is exact
    variance, half = np.float32(0.1), np.float32(0.5)
    expected = []
    for (x1, _, x2, _), tx in zip(default.numpy(), deltas[:, 0].numpy(), strict=True):
        width = x2 - x1
        center = (x1 + half * width) + (tx * variance) * width
        expected.append((center - half * width, center + half * width))
    decoded = reference.decode_boxes(deltas, default, BoxCoderSpec())[:, [0, 2]]
    assert decoded.dtype == torch.float32 and decoded.tolist() == np.array(expected).tolist()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_inputs_are_widened(dtype):
    default = reference.default_boxes(inputs.SMALL)
    logits, deltas = (x.to(dtype) for x in (inputs.logits(1, 1, 101, 4), inputs.bell(2, 1, 101, 4)))
    narrow = reference.decode_boxes(deltas, default, BoxCoderSpec())
    assert narrow.dtype == torch.float32
    assert torch.equal(narrow, reference.decode_boxes(deltas.float(), default, BoxCoderSpec()))
    narrow = reference.postprocess(logits, deltas, default, inputs.LOOSE, coder=BoxCoderSpec())
    wide = reference.postprocess(logits.float(), deltas.float(), default, inputs.LOOSE, coder=BoxCoderSpec())
    assert narrow.counts > 10 and all(torch.equal(a, b) for a, b in zip(narrow, wide, strict=True))


def test_nms_by_hand():
    boxes = torch.tensor([[0.0, 0, 10, 5], [0, 0, 10, 10], [20, 0, 30, 10], [0, 0, 10, 10], [0, 0, 10, 5.1]])
    scores = torch.tensor([0.6, 0.9, 0.7, 0.9, 0.5])
    assert reference.nms(boxes, scores, 0.5).tolist() == [1, 2, 0]  # the IoU of 1 and 0 is 1/2, not above; 1 wins a tie
    assert reference.nms(boxes, scores, 0.49).tolist() == [1, 2]
    idxs = torch.tensor([0, 0, 0, 7, 7])
    assert reference.batched_nms(boxes, scores, idxs, 0.49).tolist() == [1, 3, 2]
    padded, counts = reference.nms_padded(boxes[None], torch.stack((scores, -scores))[None], 0.49, 3)
    assert padded.tolist() == [[[1, 2, -1], [4, 2, -1]]] and counts.tolist() == [[2, 2]]
    padded, counts = reference.nms_padded(boxes[None], scores[None], 0.49, 1)
    assert padded.tolist() == [[1]] and counts.tolist() == [1]


def test_nms_of_strange_scores_by_hand():
    boxes = torch.tensor([[0.0, 0, 10, 10]]).repeat(6, 1)
    boxes += 20 * torch.arange(6)[:, None]
    scores = torch.tensor([-0.0, float("nan"), 0.0, float("inf"), float("-inf"), 0.5])
    assert reference.nms(boxes, scores, 0.5).tolist() == [3, 5, 0, 2, 4]
    assert reference.nms(boxes.zero_(), scores, 0.5).tolist() == [3, 5, 0, 2, 4]  # points suppress nothing


def test_postprocess_by_hand():
    default = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 6], [30, 0, 40, 10]])
    cls_logits = torch.tensor([[[0.0, 2, -9], [0, 1, -9], [0, -9, 2]]])
    deltas = torch.zeros(1, 3, 4)
    spec = PostprocessSpec(score_threshold=0.1, keep_top_k=4)
    result = reference.postprocess(cls_logits, deltas, default, spec, coder=BoxCoderSpec())
    assert result.box_idxs.tolist() == [[0, 2, -1, -1]] and result.labels.tolist() == [[1, 2, -1, -1]]
    assert result.counts.tolist() == [2] and result.boxes[0, :2].tolist() == default[[0, 2]].tolist()
    assert (result.boxes[0, 2:] == 0).all() and (result.scores[0, 2:] == 0).all()
    torch.testing.assert_close(result.scores[0, :2], cls_logits.softmax(-1)[0, [0, 2], [1, 2]])

    sizes = {"image_sizes": (8, 20), "original_sizes": [[16, 20]]}
    after = PostprocessSpec(score_threshold=0.1, keep_top_k=4, clip="after_nms")
    boxes = reference.postprocess(cls_logits, deltas, default, after, coder=BoxCoderSpec(), **sizes).boxes
    assert boxes[0, :2].tolist() == [[0, 0, 10, 16], [20, 0, 20, 16]]
    before = PostprocessSpec(score_threshold=0.1, keep_top_k=4, clip="before_nms", iou_threshold=0.7)
    kept = reference.postprocess(cls_logits, deltas, default, before, coder=BoxCoderSpec(), **sizes)
    assert kept.box_idxs.tolist() == [[0, 2, -1, -1]]  # clipped, the IoU of 0 and 1 is 6/8 instead of 6/10
    for spec, argument in ((after, {}), (PostprocessSpec(), {"original_sizes": (8, 8)})):
        with pytest.raises(ValueError, match="postprocess: image_sizes: expected"):
            reference.postprocess(cls_logits, deltas, default, spec, coder=BoxCoderSpec(), **argument)


@pytest.mark.parametrize("clip", ["before_nms", "after_nms"])
def test_each_image_has_its_own_sizes(clip):
    default = torch.tensor([[0.0, 0, 10, 10]])
    heads = torch.tensor([[[0.0, 5.0]]]).repeat(2, 1, 1), torch.zeros(2, 1, 4)
    sizes = {"image_sizes": [(8, 4), (2, 5)], "original_sizes": torch.tensor([[16, 4], [2, 10]])}
    spec = PostprocessSpec(keep_top_k=1, clip=clip)
    boxes = reference.postprocess(*heads, default, spec, coder=BoxCoderSpec(), **sizes).boxes
    assert boxes.tolist() == [[[0, 0, 4, 16]], [[0, 0, 10, 2]]]


@pytest.mark.parametrize("row_order", ["HWA", "AHW"])
@pytest.mark.parametrize("channel_order", ["AC", "CA"])
def test_raw_maps_equal_rows(channel_order, row_order):
    boxes = dataclasses.replace(inputs.SMALL, row_order=row_order)
    rows = inputs.logits(1, 2, 101, 4), inputs.bell(2, 2, 101, 4)
    maps = [inputs.head_maps(x, boxes, channel_order, row_order) for x in rows]
    assert [level.shape for level in maps[0]] == [(2, 8, 6, 6), (2, 12, 3, 3), (2, 8, 1, 1)]
    spec = dataclasses.replace(inputs.LOOSE, channel_order=channel_order, row_order=row_order)
    default = reference.default_boxes(boxes)
    expected = reference.postprocess(*rows, default, spec, coder=BoxCoderSpec())
    actual = reference.postprocess(*maps, default, spec, coder=BoxCoderSpec())
    assert expected.counts.min() > 10 and all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))


def test_softmax_of_large_logits_by_hand():
    logits, default = torch.tensor([[[1000.0, 1000, -1000], [-500, -500, -500]]]), torch.tensor([[0.0, 0, 9, 9]] * 2)
    result = reference.postprocess(logits, torch.zeros(1, 2, 4), default, PostprocessSpec(), coder=BoxCoderSpec())
    assert result.labels[0, :3].tolist() == [1, 2, -1]
    assert result.scores[0, :2].tolist() == [0.5, float(torch.tensor(1.0) / 3)]


def test_score_and_iou_borders_by_hand():
    default = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5]])
    cls_logits, deltas = torch.zeros(1, 2, 2), torch.zeros(1, 2, 4)  # softmax and sigmoid: 1/2; IoU 1/2

    def kept(**spec) -> list[list[int]]:
        spec = PostprocessSpec(keep_top_k=3, **spec)
        return reference.postprocess(cls_logits, deltas, default, spec, coder=BoxCoderSpec()).box_idxs.tolist()

    assert kept(score_threshold=0.5) == [[-1, -1, -1]]
    assert kept(score_threshold=0.5, score_inclusive=True, iou_threshold=0.5) == [[0, 1, -1]]
    assert kept(iou_threshold=0.5, iou_inclusive=True) == [[0, -1, -1]]
    assert kept(iou_threshold=0.5, top_k=1) == [[0, -1, -1]]
    assert kept(activation="sigmoid", background=None, iou_threshold=0.5) == [[0, 1, 0]]  # class 0 first: a tie
    assert kept(activation="sigmoid", background=-1, iou_threshold=0.5) == [[0, 1, -1]]


def test_textbook_case_has_75_boxes():
    spec, cls_maps, box_maps = inputs.textbook_maps()
    default = reference.default_boxes(spec)
    assert spec.num_boxes == 75 and default.shape == (75, 4)
    assert box_maps.shape == (2, 12, 5, 5) and cls_maps.shape == (2, 63, 5, 5)
    # Row ((y * 5 + x) * 3 + a) of the boxes has channels a * 4 + (0..3) of cell (y, x).
    rows = box_maps.reshape(2, 3, 4, 5, 5).permute(0, 3, 4, 1, 2).reshape(2, 75, 4)
    assert rows[1, (2 * 5 + 4) * 3 + 1].tolist() == box_maps[1, 4:8, 2, 4].tolist()
    logits = cls_maps.reshape(2, 3, 21, 5, 5).permute(0, 3, 4, 1, 2).reshape(2, 75, 21)
    for a, b in zip(
        reference.postprocess([cls_maps], [box_maps], default, inputs.LOOSE, coder=BoxCoderSpec()),
        reference.postprocess(logits, rows, default, inputs.LOOSE, coder=BoxCoderSpec()),
        strict=True,
    ):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", list_presets())
def test_presets_have_known_numbers_of_boxes(name):
    expected = {"torchvision_ssd300_vgg16": 8732, "caffe_ssd300_voc": 8732, "opencv_res10": 8892}
    spec = preset(name).default_boxes
    assert spec.num_boxes == len(reference.default_boxes(spec))
    if name in expected:
        assert spec.num_boxes == expected[name]


# ---- other runtimes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", goldens.PRIORBOX)
def test_default_boxes_equal_opencv(name):
    spec, expected = goldens.priorbox(name)
    assert torch.equal(reference.default_boxes(spec).view(torch.int32), expected.view(torch.int32))


@pytest.mark.parametrize("photo, setting", goldens.OPENCV)
def test_postprocess_equals_opencv(photo, setting):
    case = goldens.opencv(photo, setting)
    result = reference.postprocess(*case[:4], coder=case.coder)
    limits = Limits(case.spec.score_threshold, case.spec.iou_threshold, case.spec.keep_top_k, box=1e-5)
    assert_same_detections(result, case.expected, limits)
    assert len(case.expected.to_list()[0]["scores"]) == int(result.counts[0]) > 30


@pytest.mark.parametrize("photo", goldens.TENSORFLOW)
def test_postprocess_equals_tensorflow(photo):
    case = goldens.tensorflow(photo)
    result = reference.postprocess(*case[:4], coder=case.coder, image_sizes=case.image_sizes)
    limits = Limits(case.spec.score_threshold, case.spec.iou_threshold, case.spec.keep_top_k, box=1e-5)
    assert_same_detections(result, case.expected, limits)
    assert torch.equal(result.box_idxs, case.expected.box_idxs)


@pytest.mark.parametrize("workload, key", goldens.NMS[:-1])  # the last, with 11741 kept boxes, is left to the kernels
def test_nms_equals_tensorflow(workload, key):
    boxes, scores, classes, threshold, expected = goldens.nms(workload, key)
    if classes is None:
        kept = reference.nms(boxes, scores, threshold)
    else:
        kept = reference.batched_nms(boxes, scores, classes, threshold)
    assert torch.equal(goldens.by_class(kept, classes), expected)


# ---- torchvision ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_box_iou_equals_torchvision(seed):
    a, b = inputs.boxes(seed, 64), inputs.boxes(seed + 100, 33)
    assert torch.equal(reference.box_iou(a, b), torchvision.ops.box_iou(a, b))
    assert torch.equal(reference.box_iou(a.double(), b.double()), torchvision.ops.box_iou(a.double(), b.double()))


# At .5, .45 and .75 float32 does not round the threshold up, so torchvision's float64 comparison decides the same way.
@pytest.mark.parametrize("threshold", [0.5, 0.45, 0.75])
@pytest.mark.parametrize("make", [inputs.boxes, inputs.grid_boxes], ids=["random", "grid"])
def test_nms_equals_torchvision(make, threshold):
    for seed in range(5):
        boxes, scores, idxs = make(seed, 300), inputs.scores(seed, 300), inputs.integers(seed, 0, 5, 300)
        assert torch.equal(reference.nms(boxes, scores, threshold), torchvision.ops.nms(boxes, scores, threshold))
        expected = _batched_nms_vanilla(boxes, scores, idxs, threshold)
        assert torch.equal(reference.batched_nms(boxes, scores, idxs, threshold), expected)
        double = boxes.double()
        assert torch.equal(
            reference.nms(double, scores.double(), threshold),
            torchvision.ops.nms(double, scores.double(), threshold),
        )


def test_code_equals_torchvision():
    coder = torchvision.models.detection._utils.BoxCoder((10.0, 10.0, 5.0, 5.0))
    default = reference.default_boxes(inputs.SMALL)
    boxes, deltas = inputs.boxes(4, len(default), extent=96), inputs.bell(5, len(default), 4) * 4
    ours = preset("torchvision_ssd300_vgg16").coder
    torch.testing.assert_close(reference.encode_boxes(boxes, default, ours), coder.encode_single(boxes, default))
    torch.testing.assert_close(reference.decode_boxes(deltas, default, ours), coder.decode_single(deltas, default))


@pytest.mark.parametrize("seed, columns", [(0, 2), (1, 21), (2, 91)])
def test_postprocess_equals_torchvision(monkeypatch, seed, columns):
    """Run torchvision's postprocess_detections on random heads, with its NMS per class instead of its offset trick."""
    monkeypatch.setattr(torchvision.ops.boxes, "batched_nms", _batched_nms_vanilla)
    spec, coder = preset("torchvision_ssd300_vgg16").postprocess, preset("torchvision_ssd300_vgg16").coder
    default = reference.default_boxes(inputs.SMALL)
    cls_logits = inputs.logits(seed, 2, len(default), columns)
    deltas = inputs.bell(seed + 50, 2, len(default), 4)
    model = SSD(
        torch.nn.Identity(),
        torchvision.models.detection.anchor_utils.DefaultBoxGenerator([[2]], scales=[0.1, 0.2]),
        (96, 96),
        columns,
        head=torch.nn.Identity(),
    )
    heads = {"bbox_regression": deltas, "cls_logits": cls_logits}
    expected = model.postprocess_detections(heads, [default, default], [(96, 96), (96, 96)])
    result = reference.postprocess(cls_logits, deltas, default, spec, coder=coder, image_sizes=(96, 96))

    decoded = torchvision.ops.clip_boxes_to_image(reference.decode_boxes(deltas, default, coder), (96, 96))
    limits = Limits(spec.score_threshold, spec.iou_threshold, spec.keep_top_k, spec.top_k)
    found = assert_same_detections(result, expected, limits, Candidates(decoded, cls_logits.softmax(-1)))
    assert len(found.excused) <= 2 and int(result.counts.min()) > 20
