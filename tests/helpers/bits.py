"""Fixed inputs for every op; tests/golden/bits.json holds the hashes of their results."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

import ssd_fast
from helpers import inputs
from helpers.checks import canonical_bytes
from helpers.paths import GOLDEN
from ssd_fast import BoxCoderSpec, LossSpec, MatcherSpec, PostprocessSpec, preset
from ssd_fast.ops.default_boxes import _kept

FILE = GOLDEN / "bits.json"

Case = Callable[[Callable[[Any], Any]], Any]
CASES: dict[str, Case] = {}


def case(function: Case) -> Case:
    """Register a case: a function of `to`, which moves tensors to the backend, that returns an op's outputs."""
    CASES[function.__name__] = function
    return function


def digest(outputs: Any) -> str:
    """Return a hash of dtypes, shapes and bits, with all NaNs taken for equal."""
    sha = hashlib.sha256()
    for tensor in tree_leaves(outputs):
        sha.update(f"{tensor.dtype} {tuple(tensor.shape)} ".encode())
        sha.update(canonical_bytes(tensor))
    return sha.hexdigest()[:32]


def read() -> dict[str, str]:
    return json.loads(FILE.read_text())


SPECS = {name: preset(name) for name in ("torchvision_ssd300_vgg16", "opencv_res10", "tf_ssdlite_mobilenet_v2")}
MATCHERS = (
    MatcherSpec(),
    MatcherSpec("bipartite", minimum_forced_iou=1e-6),
    MatcherSpec(positive_inclusive=False, negative_threshold=0.25, claimed_twice="first", minimum_forced_iou=1 / 3),
    MatcherSpec("bipartite"),
    MatcherSpec("threshold", positive_threshold=0.6, negative_threshold=0.4),
)
STRANGE = torch.tensor([inputs.NAN, inputs.INF, -inputs.INF, 0.0, -0.0, 1e-40, 1e4, -1e4, 3.0])


@case
def default_boxes(to: Any) -> Any:
    return [_default_boxes(name, to) for name in SPECS]


def _default_boxes(name: str, to: Any) -> torch.Tensor:
    _kept.cache_clear()  # so that the kernel runs
    return ssd_fast.default_boxes(SPECS[name].default_boxes, device=to(torch.empty(0)).device)


@case
def box_iou(to: Any) -> Any:
    a, b = to((inputs.boxes(1, 700), inputs.grid_boxes(2, 130)))
    return ssd_fast.box_iou(a, b), ssd_fast.box_iou(a.double(), b.double())


@case
def box_iou_strange(to: Any) -> Any:
    boxes = to(inputs.strange_boxes(3, 200))
    return ssd_fast.box_iou(boxes, boxes)


@case
def decode_boxes(to: Any) -> Any:
    default = _default_boxes("torchvision_ssd300_vgg16", to)
    deltas = to(inputs.bell(4, 2, len(default), 4) * 3)
    coders = (inputs.CODER, inputs.CLAMPED, BoxCoderSpec((0.05, 0.1, 0.2, 0.25), order="yx"))
    return [ssd_fast.decode_boxes(deltas.to(dtype), default, c) for c in coders for dtype in (deltas.dtype, torch.half)]


@case
def decode_boxes_strange(to: Any) -> Any:
    deltas = torch.cartesian_prod(STRANGE, STRANGE[:3], STRANGE, STRANGE[3:6])
    return ssd_fast.decode_boxes(*to((deltas, inputs.boxes(5, len(deltas)))), inputs.CODER)


@case
def encode_boxes(to: Any) -> Any:
    default = _default_boxes("torchvision_ssd300_vgg16", to)
    return ssd_fast.encode_boxes(to(inputs.boxes(6, 2, len(default))), default, inputs.CODER)


@case
def encode_boxes_strange(to: Any) -> Any:
    boxes = inputs.strange_boxes(7, 300)
    return ssd_fast.encode_boxes(*to((boxes, boxes.flip(0))), inputs.CODER)


@case
def match(to: Any) -> Any:
    """Match at full size, by the rules of torchvision and of Caffe."""
    default = _default_boxes("torchvision_ssd300_vgg16", to)
    gts = to([inputs.boxes(21, 8), inputs.boxes(22, 0), inputs.boxes(23, 61)])
    return [ssd_fast.match(gts, default, spec) for spec in MATCHERS[:2]]


@case
def match_rules(to: Any) -> Any:
    """Match packed ground truth full of ties, under every rule."""
    boxes, offsets, default = to((inputs.grid_boxes(24, 40), torch.tensor([0, 0, 29, 40]), inputs.grid_boxes(25, 300)))
    return [ssd_fast.match((boxes, offsets), default, spec) for spec in MATCHERS]


@case
def match_strange(to: Any) -> Any:
    gts, default = to((inputs.strange_boxes(26, 60), inputs.strange_boxes(27, 300)))
    return [ssd_fast.match([gts, default], default, spec) for spec in MATCHERS]


@case
def match_ignored(to: Any) -> Any:
    """Match under every rule, with every kind of box, some ground truths ignored."""
    default = to(torch.cat((inputs.grid_boxes(25, 300), inputs.strange_boxes(27, 300), inputs.boxes(28, 300))))
    gts = to([inputs.grid_boxes(24, 200), inputs.strange_boxes(26, 60), inputs.boxes(23, 0), inputs.boxes(29, 61)])
    ignored = to([inputs.integers(30, 0, 3, len(boxes)) == 0 for boxes in gts])
    return [
        ssd_fast.match(gts, default, MatcherSpec(**{**vars(spec), "ignored_coverage": share}), gt_ignored=ignored)
        for spec in MATCHERS
        for share in (1 / 3, 0.5)
    ]


def _losses_and_gradients(to: Any, dtype: torch.dtype, strange: bool, loss: LossSpec) -> Any:
    """Compute losses and gradients of 3 images with 2100 rows and 21 columns; strange: with infinite logits and NaN."""
    logits, deltas = inputs.bell(31, 3, 2100, 21) * 3, inputs.bell(32, 3, 2100, 4)
    if strange:
        logits = torch.where(
            inputs.integers(33, 0, 9, *logits.shape) == 0, STRANGE[inputs.integers(34, 0, 9, 21)], logits
        )
    gts, labels = inputs.boxes(35, 40), inputs.integers(36, 1, 21, 40)
    offsets, default = torch.tensor([0, 0, 29, 40]), inputs.boxes(37, 2100)
    kinds = inputs.integers(38, 0, 12, 3, 2100)
    matched = torch.where(kinds < 2, kinds - 2, torch.where(kinds == 2, inputs.integers(39, 0, 11, 3, 2100), -1))
    logits, deltas = (to(x.to(dtype)).requires_grad_() for x in (logits, deltas))
    gts, labels, offsets, matched, default = to((gts, labels, offsets, matched, default))
    losses = ssd_fast.multibox_loss(
        logits, deltas, (gts, offsets), labels, matched, default, coder=inputs.CODER, loss=loss
    )
    return *losses.values(), *torch.autograd.grad(
        3 * losses["classification"] + losses["bbox_regression"], (logits, deltas)
    )


@case
def multibox_loss(to: Any) -> Any:
    mined = LossSpec(negatives_per_positive=1.5, min_negatives=7, normalizer="sum_max_one", beta=0.5)
    return [
        _losses_and_gradients(to, torch.float32, False, LossSpec()),
        _losses_and_gradients(to, torch.bfloat16, False, mined),
        _losses_and_gradients(to, torch.float32, True, LossSpec(background=-1, normalizer="positives_per_image")),
    ]


@case
def multibox_loss_focal(to: Any) -> Any:
    retinanet = LossSpec(classification="focal", background=None, beta=0.1)
    images = LossSpec(classification="focal", focal_alpha=None, focal_gamma=1.3, normalizer="positives_per_image")
    return [
        _losses_and_gradients(to, torch.float32, False, retinanet),
        _losses_and_gradients(to, torch.float16, False, images),
        _losses_and_gradients(to, torch.float32, True, retinanet),
    ]


@case
def nms(to: Any) -> Any:
    boxes, scores = to((inputs.boxes(8, 1500), inputs.scores(9, 1500)))
    tied, strange = to((inputs.tied_scores(10, 1500), inputs.strange_boxes(11, 1500)))
    return [
        ssd_fast.nms(boxes, scores, 0.45),
        ssd_fast.nms(boxes.double(), scores.double(), 0.3),
        ssd_fast.nms(boxes, tied, 0.5),
        ssd_fast.nms(strange, scores, 0.5),
    ]


@case
def batched_nms(to: Any) -> Any:
    boxes, scores, idxs = to((inputs.boxes(12, 1500), inputs.tied_scores(13, 1500), inputs.integers(14, 0, 9, 1500)))
    return ssd_fast.batched_nms(boxes, scores, idxs, 0.45)


@case
def nms_padded(to: Any) -> Any:
    boxes, scores = to((inputs.boxes(15, 3, 300), inputs.strange_scores(16, 3, 7, 300)))
    return ssd_fast.nms_padded(boxes, scores, 0.45, 40), ssd_fast.nms_padded(boxes, scores[:, 0], 0.45, 500)


@case
def postprocess_softmax(to: Any) -> Any:
    """Postprocess at full size: SSD300 with 91 columns."""
    ssd300 = SPECS["torchvision_ssd300_vgg16"]
    default = _default_boxes(ssd300.name, to)
    logits, deltas = to((inputs.logits(17, 1, 8732, 91, background=7.0), inputs.bell(18, 1, 8732, 4)))
    return ssd_fast.postprocess(
        logits,
        deltas,
        default,
        ssd300.postprocess,
        coder=ssd300.coder,
        image_sizes=(300, 300),
        original_sizes=(480, 641),
    )


@case
def postprocess_sigmoid(to: Any) -> Any:
    ssdlite = SPECS["tf_ssdlite_mobilenet_v2"]
    default = _default_boxes(ssdlite.name, to)
    logits, deltas = to((inputs.bell(19, 2, 1917, 3) * 3, inputs.bell(20, 2, 1917, 4)))
    few = PostprocessSpec("sigmoid", None, 0.3, top_k=200, iou_threshold=0.6, keep_top_k=100, clip="before_nms")
    return [
        ssd_fast.postprocess(logits, deltas, default, spec, coder=ssdlite.coder, image_sizes=(1, 1))
        for spec in (few, ssdlite.postprocess)
    ]


@case
def postprocess_raw_maps(to: Any) -> Any:
    """Postprocess bfloat16 maps, channels-last in memory, with channels C before A."""
    boxes, logits, deltas = inputs.textbook_maps()
    default = ssd_fast.default_boxes(boxes, device=to(logits).device)
    maps = [[to(x).bfloat16().contiguous(memory_format=torch.channels_last)] for x in (logits, deltas)]
    spec = PostprocessSpec(channel_order="CA", keep_top_k=300)
    return ssd_fast.postprocess(*maps, default, spec, coder=inputs.CODER)
