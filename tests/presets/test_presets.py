"""Presets against the projects that they are named after, whose results for the same inputs are in tests/golden."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

import ssd_fast
from helpers import dialect_inputs, dialects
from helpers.comparators import Candidates, Limits, assert_same_detections
from helpers.dialects import Dialect, detected, ulp_difference
from helpers.inputs import head_maps
from helpers.match_comparator import matching_differences
from ssd_fast import PostprocessSpec, reference

ALL = {dialect.name: dialect for dialect in dialects.ALL}
# Detections by the project's own code, or by tf.image.combined_non_max_suppression.
DETECTED = [
    (name, prefix)
    for name, dialect in ALL.items()
    for prefix in ("detected", "combined")
    if f"{prefix}_scores_0" in dialect.golden
]
FAMILIES = {
    "caffe_ssd300_voc": ["caffe_ssd300_coco", "caffe_ssd512_voc", "caffe_ssd512_coco", "opencv_res10"],
    "amdegroot_ssd300_voc": ["amdegroot_ssd300_coco"],
    "mmdet_ssd300_voc": ["mmdet_ssd300_coco", "mmdet_ssd512_voc", "mmdet_ssd512_coco"],
    "tf_ssdlite_mobilenet_v2": ["tflite_ssd_mobilenet", "tflite_ssd_mobilenet_regular", "tfjs_coco_ssd"],
}
LOSSES = ("losses", "losses_one_empty")  # of two images, and without the first one's ground truth


@pytest.fixture(params=ALL)
def dialect(request) -> Dialect:
    return ALL[request.param]


def default_boxes(dialect: Dialect) -> torch.Tensor:
    return ssd_fast.default_boxes(dialect.preset.default_boxes)


def test_inputs_are_those_of_golden_file(dialect):
    assert dialect.digest() == int(dialect.golden["inputs"])


def test_default_boxes_equal_original(dialect):
    expected = torch.from_numpy(np.ascontiguousarray(dialect.golden["boxes_xyxy"].T))
    difference = ulp_difference(default_boxes(dialect), expected)
    assert difference.max() <= dialect.boxes_ulp


def test_encode_equals_original(dialect):
    boxes, _ = dialect.ground_truth()
    for n, matched in enumerate(torch.from_numpy(dialect.golden["matched_idxs"]).long()):
        rows = (matched >= 0).nonzero()[:, 0]
        actual = ssd_fast.encode_boxes(boxes[n][matched[rows]], default_boxes(dialect)[rows], dialect.preset.coder)
        expected = torch.from_numpy(dialect.golden[f"encoded_{n}"])
        assert len(rows) > 0
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def test_decode_equals_original(dialect):
    _, deltas = dialect.head_outputs()
    boxes = ssd_fast.decode_boxes(deltas[0], default_boxes(dialect), dialect.preset.coder)
    rows = torch.from_numpy(dialect_inputs.sampled_rows(len(boxes)))
    expected = torch.from_numpy(dialect.golden["decoded"])
    assert ulp_difference(boxes[rows], expected).max() <= dialect.decoded_ulp
    log_scale = 0.2 * deltas[0, rows, 2:]
    assert log_scale.max() > 5 and log_scale.min() < -5  # some rows reach a clamp if there is one


def test_match_equals_original(dialect):
    boxes, _ = dialect.ground_truth()
    matcher = dialect.preset.matcher
    excused = 0
    expected = torch.from_numpy(dialect.golden["matched_idxs"]).long()
    for n, actual in enumerate(ssd_fast.match(boxes, default_boxes(dialect), matcher)):
        differences, more = matching_differences(
            actual, expected[n], boxes[n], default_boxes(dialect), matcher, union_epsilon=dialect.iou_epsilon
        )
        assert not differences, "\n".join(differences[:10])
        excused += more
    assert excused <= 8  # of 160 to 420 positives


def test_bipartite_scene_equals_original(dialect):
    """Some ground truths overlap boxes hardly or not at all, and some compete for a box."""
    boxes, truths = (torch.from_numpy(x) for x in dialect_inputs.bipartite_scene())
    matched = ssd_fast.match([truths], boxes, dialect.preset.matcher)[0]
    assert matched.tolist() == dialect.golden["bipartite_matched_idxs"].tolist()


def test_exact_thresholds_equal_original(dialect):
    """Some IoUs equal the thresholds of matching and NMS exactly, and a score equals that of candidates exactly."""
    golden, preset = dialect.golden, dialect.preset
    logits, boxes, truths = (torch.from_numpy(x) for x in dialect_inputs.exact_scene())
    if dialect.iou_epsilon == 0:  # added to a union, it makes every IoU inexact
        matched = ssd_fast.match([truths], boxes, preset.matcher)[0]
        assert matched.tolist() == golden["exact_matched_idxs"].tolist()
    if "exact_scores" not in golden:
        return
    if preset.postprocess.background == -1:
        logits = logits.flip(-1)
    fixed = dialect.folder == "nvidia"  # its score threshold is not a parameter
    score_threshold = preset.postprocess.score_threshold if fixed else 0.5
    spec = dataclasses.replace(
        preset.postprocess, score_threshold=score_threshold, iou_threshold=0.5, row_order="HWA", keep_top_k=1000
    )
    found = ssd_fast.postprocess(
        [logits], [torch.zeros(1, len(boxes), 4)], boxes, spec, coder=preset.coder, image_sizes=(1, 1)
    )
    assert int(found.counts) == len(golden["exact_scores"])
    np.testing.assert_allclose(found.scores[0, : len(golden["exact_scores"])], golden["exact_scores"], atol=1e-6)


@pytest.mark.parametrize("name, key", [(n, key) for n in ALL for key in LOSSES if key in ALL[n].golden])
def test_loss_equals_original(name, key):
    """The original's matching is given, so that its ties do not matter."""
    dialect = ALL[name]
    preset, golden = dialect.preset, dialect.golden
    images = [0, 2]
    boxes, labels = ([values[n] for n in images] for values in dialect.ground_truth())
    matched = torch.from_numpy(golden["matched_idxs"]).long()[images]
    if key == "losses_one_empty":  # nor negatives, which depend on positives; only the divisor matters
        boxes[0], labels[0] = boxes[0][:0], labels[0][:0]
        matched[0] = -1
    losses = ssd_fast.multibox_loss(
        *dialect.head_outputs(),
        boxes,
        labels,
        matched,
        default_boxes(dialect),
        coder=preset.coder,
        loss=preset.loss,
    )
    actual = [float(losses["bbox_regression"]), float(losses["classification"])]
    expected = golden[key].tolist()
    assert min(expected) > 1
    if len(expected) == 1:  # the original returns the sum
        actual = [sum(actual)]
    assert actual == pytest.approx(expected, rel=1e-5)


# ---- postprocess ----------------------------------------------------------------------------------------------------


def sizes(dialect: Dialect) -> dict[str, tuple[float, float] | None]:
    """Return the sizes of the original's images, in its unit of detections."""
    side = dialect.side
    if dialect.folder == "mmdetection":
        return {"image_sizes": (side, side), "original_sizes": (side / 0.8, side / 0.5)}
    if dialect.folder == "tensorflow":
        return {"image_sizes": (1, 1), "original_sizes": None}
    if dialect.name.startswith(("lufficc", "qfgaohao")):
        return {"image_sizes": (1, 1), "original_sizes": (side, side)}
    return {"image_sizes": None, "original_sizes": None}


def candidates(dialect: Dialect, logits: torch.Tensor) -> Candidates:
    """Return the candidates of NMS."""
    _, deltas = dialect.head_outputs()
    boxes = reference.decode_boxes(deltas, default_boxes(dialect), dialect.preset.coder)
    if dialect.preset.postprocess.clip == "before_nms":
        boxes = boxes.clamp(0, dialect.side)
    image, original = sizes(dialect).values()
    if original is not None:
        boxes = boxes * (torch.tensor(original) / torch.tensor(image))[[1, 0, 1, 0]]
    sigmoid = dialect.preset.postprocess.activation == "sigmoid"
    return Candidates(boxes, logits.sigmoid() if sigmoid else logits.softmax(-1))


@pytest.mark.parametrize("name, prefix", DETECTED)
def test_postprocess_equals_original(name, prefix):
    dialect = ALL[name]
    check_detections(dialect, dialect.preset.postprocess, prefix)


@pytest.mark.parametrize("name", [name for name, dialect in ALL.items() if "all_scores_0" in dialect.golden])
def test_postprocess_without_keep_top_k_equals_original(name):
    """All boxes that NMS keeps show how many candidates it is given, which keep_top_k hides."""
    dialect = ALL[name]
    check_detections(dialect, dataclasses.replace(dialect.preset.postprocess, keep_top_k=dialect_inputs.ALL), "all")


@pytest.mark.parametrize("name", [name for name, dialect in ALL.items() if "apart_counts" in dialect.golden])
def test_numbers_of_separate_boxes_equal_original(name):
    """Compare how many candidates of each class enter NMS, which keeps all, and how many are detections at the end."""
    dialect = ALL[name]
    logits, boxes = (torch.from_numpy(x) for x in dialect_inputs.apart(dialect.columns))
    spec = dialect.preset.postprocess
    if name.startswith("lufficc"):  # its keep_top_k would hide the numbers
        spec = dataclasses.replace(spec, keep_top_k=logits.numel())
    found = ssd_fast.postprocess(logits, torch.zeros(1, len(boxes), 4), boxes, spec, coder=dialect.preset.coder)
    k = int(found.counts)
    by_class = [found.scores[0, :k][found.labels[0, :k] == label] for label in range(1, dialect.columns)]
    assert [len(scores) for scores in by_class] == dialect.golden["apart_counts"].tolist()
    lowest = [float(scores.min()) for scores in by_class]
    np.testing.assert_allclose(lowest, dialect.golden["apart_lowest"], atol=1e-6)


@pytest.mark.parametrize("first, others", FAMILIES.items())
def test_family_shares_fields_of_compared_preset(first, others):
    """The other presets of a family share the fields that were compared only for the first one."""
    one = ssd_fast.preset(first)
    shared = [field.name for field in dataclasses.fields(PostprocessSpec)]
    if first.startswith("amdegroot"):
        shared.remove("keep_top_k")  # test_numbers_of_separate_boxes_equal_original compares it in both
    if first.startswith("tf"):  # fields of the network; the others were compared in each preset
        shared = ["activation", "background", "channel_order", "row_order"]
    for other in map(ssd_fast.preset, others):
        assert (other.coder, other.matcher, other.loss) == (one.coder, one.matcher, one.loss)
        for key in shared:
            assert getattr(other.postprocess, key) == getattr(one.postprocess, key)


def test_nms_pre_limits_candidates_like_original():
    """mmdetection takes the best 1000 pairs of box and class per map; with all pairs, detections differ."""
    dialect = ALL["mmdet_ssd300_voc"]
    spec = dataclasses.replace(dialect.preset.postprocess, keep_top_k=dialect_inputs.ALL)
    logits, _ = dialect.head_outputs()
    logits[..., :-1] += dialect_inputs.CROWDED
    check_detections(dialect, spec, "crowded", logits)
    without = {"top_k": {"top_k": None}, "scope": {"top_k_scope": "image"}, "min_box_size": {"min_box_size": None}}
    for changes in without.values():
        with pytest.raises(AssertionError, match="differences"):
            check_detections(dialect, dataclasses.replace(spec, **changes), "crowded", logits)


def check_detections(
    dialect: Dialect, spec: PostprocessSpec, prefix: str, cls_logits: torch.Tensor | None = None
) -> None:
    logits, deltas = dialect.head_outputs()
    logits = logits if cls_logits is None else cls_logits
    # Maps as from the networks' convolutions: NVIDIA views them as [N, values, A * h * w], all others permute them.
    orders = ("CA", "AHW") if dialect.folder == "nvidia" else ("AC", "HWA")
    heads = [head_maps(x, dialect.preset.default_boxes, *orders) for x in (logits, deltas)]
    boxes = default_boxes(dialect)
    actual = ssd_fast.postprocess(*heads, boxes, spec, coder=dialect.preset.coder, **sizes(dialect))
    expected = detected(dialect.golden, prefix)
    assert min(len(image["scores"]) for image in expected) >= 100
    assert actual.counts.max() < dialect_inputs.ALL
    excused = assert_same_detections(actual, expected, limits(dialect, spec), candidates(dialect, logits)).excused
    assert actual.counts.max() == max(
        len(image["scores"]) for image in expected
    )  # a shorter list excuses what it lacks
    assert sum("comes before" not in text for text in excused) <= 2  # combined NMS orders equal scores in any way


def limits(dialect: Dialect, spec: PostprocessSpec) -> Limits:
    pixels = sizes(dialect)["original_sizes"] is not None
    return Limits(
        spec.score_threshold,
        spec.iou_threshold,
        spec.keep_top_k,
        spec.top_k,
        box=5e-3 if pixels else 2e-5,
    )
