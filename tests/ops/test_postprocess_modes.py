"""postprocess: one class per box, one NMS over all classes, top_k of a level or an image, and small boxes."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ssd_fast
from helpers import inputs
from helpers.checks import assert_same_bits, run_postprocess, specified
from ssd_fast import PostprocessSpec, reference

CODER = inputs.CODER
LEVEL_SIZES = [70, 30, 1]
P = sum(LEVEL_SIZES)


def levels(rows):
    """Split [N, P, columns] into views of the rows of each level."""
    return list(rows.split(LEVEL_SIZES, 1))


def found(backend, *args, **kwargs):
    """Return the detections after checking them: labels, default boxes and boxes equal the reference's bit for bit."""
    result, expected = run_postprocess(backend, *args, **kwargs), specified("postprocess", *args, **kwargs)
    for field in ("counts", "labels", "box_idxs", "boxes"):
        assert_same_bits(getattr(result, field), getattr(expected, field))
    torch.testing.assert_close(result.scores, expected.scores, rtol=0, atol=1e-6)
    return result


def pairs(result, image=0):
    """Return (default box, class) of each detection in an image."""
    count = int(result.counts[image])
    return list(zip(result.box_idxs[image, :count].tolist(), result.labels[image, :count].tolist(), strict=True))


# ---- by hand --------------------------------------------------------------------------------------------------------

BY_HAND = PostprocessSpec("sigmoid", None, 0.1, top_k=None, keep_top_k=8)


def test_class_modes_by_hand(backend):
    # Boxes 0 and 1 overlap; 2 is apart and has two equal classes.
    default = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [30, 0, 40, 10]])
    logits = torch.tensor([[[3.0, 2.0, -9.0], [-9.0, 1.0, 0.5], [0.0, -9.0, 0.0]]])

    def kept(**changes):
        spec = dataclasses.replace(BY_HAND, **changes)
        return pairs(found(backend, logits, torch.zeros(1, 3, 4), default, spec, coder=CODER))

    assert kept() == [(0, 0), (0, 1), (1, 2), (2, 0), (2, 2)]
    assert kept(class_mode="argmax") == [(0, 0), (1, 1), (2, 0)]
    assert kept(class_mode="agnostic") == [(0, 0), (2, 0)]
    assert kept(class_mode="agnostic", background=0) == [(0, 1), (2, 2)]
    assert kept(class_mode="argmax", score_threshold=0.5) == [(0, 0), (1, 1)]
    assert kept(class_mode="argmax", score_threshold=0.5, score_inclusive=True) == [(0, 0), (1, 1), (2, 0)]
    assert kept(class_mode="agnostic", top_k=1) == [(0, 0)]


def test_ties_between_classes_by_hand(backend):
    """Per class, the lower class comes first; in one NMS over all classes, the lower default box."""
    default, logits = inputs.grid_boxes(1, 2) + torch.tensor([[0.0], [1000.0]]), torch.zeros(1, 2, 2)
    logits[0, 0, 0] = -9  # box 0 has class 1, box 1 both
    for mode, expected in {
        "per_class": [(1, 0), (0, 1), (1, 1)],
        "argmax": [(1, 0), (0, 1)],
        "agnostic": [(0, 1), (1, 0)],
    }.items():
        spec = dataclasses.replace(BY_HAND, class_mode=mode)
        assert pairs(found(backend, logits, torch.zeros(1, 2, 4), default, spec, coder=CODER)) == expected


def test_top_k_scopes_by_hand(backend):
    default = torch.tensor([[20.0 * i, 0, 20.0 * i + 10, 10] for i in range(4)])  # 0, 1 and 2 form a level
    logits = torch.tensor([[[5.0, 4.0], [3.0, -9.0], [-9.0, 2.0], [1.0, 0.5]]])
    deltas = torch.zeros(1, 4, 4)
    maps = list(logits.split([3, 1], 1)), list(deltas.split([3, 1], 1))

    def kept(scope, top_k):
        spec = dataclasses.replace(BY_HAND, top_k=top_k, top_k_scope=scope)
        return pairs(found(backend, *maps, default, spec, coder=CODER))

    assert kept("class", 2) == [(0, 0), (0, 1), (1, 0), (2, 1)]
    assert kept("level", 1) == [(0, 0), (3, 0)]
    assert kept("level", 3) == [(0, 0), (0, 1), (1, 0), (3, 0), (3, 1)]
    assert kept("image", 3) == [(0, 0), (0, 1), (1, 0)]
    assert kept("image", 5) == [(0, 0), (0, 1), (1, 0), (2, 1), (3, 0)]


def test_min_box_size_by_hand(backend):
    """The sides of the boxes that enter NMS, after any earlier clipping and rescaling, must exceed the size."""
    default = torch.tensor([[0.0, 0, 4, 9], [20, 0, 28, 9], [40, 0, 49, 9]])
    logits = torch.tensor([[[3.0], [2.0], [1.0]]])

    def kept(size, **changes):
        spec = dataclasses.replace(BY_HAND, min_box_size=size, **changes)
        sizes = {"image_sizes": (100, 44), "original_sizes": (100, 88)} if changes else {}
        return [
            row for row, _ in pairs(found(backend, logits, torch.zeros(1, 3, 4), default, spec, coder=CODER, **sizes))
        ]

    assert kept(None) == [0, 1, 2] and kept(0) == [0, 1, 2]
    assert kept(4) == [1, 2] and kept(3.999) == [0, 1, 2] and kept(9) == []
    assert kept(4, clip="before_nms") == [1]  # 2 is 4 wide
    assert kept(4, clip="before_nms", rescale="before_nms") == [0, 1, 2]
    assert kept(4, clip="after_nms") == [1, 2]
    assert kept(4, top_k=1) == []  # the best one is chosen first


# ---- against the reference ------------------------------------------------------------------------------------------


@given(
    seed=st.integers(0, 2**31),
    shape=st.tuples(st.integers(1, 2), st.integers(1, 8)),
    raw=st.booleans(),
    spec=st.builds(
        PostprocessSpec,
        activation=st.sampled_from(["softmax", "sigmoid"]),
        background=st.sampled_from([0, -1, None]),
        score_threshold=st.sampled_from([0.0, 0.1, 0.3]),
        score_inclusive=st.booleans(),
        class_mode=st.sampled_from(["per_class", "argmax", "agnostic"]),
        top_k=st.sampled_from([None, 1, 10, 33, 400]),
        top_k_scope=st.sampled_from(["class", "level", "image"]),
        min_box_size=st.sampled_from([None, 0, 20.0]),
        iou_threshold=st.sampled_from([0.1, 0.6]),
        keep_top_k=st.sampled_from([1, 7, 300]),
    ),
)
def test_random_specs_equal_reference(backend, seed, shape, raw, spec):
    """Softmax and sigmoid scores are equal or far apart, so that rounding decides nothing."""
    images, columns = shape[0], shape[1] + 1
    rows = (inputs.bell(seed, 6, columns) * 2)[inputs.integers(seed + 1, 0, 6, images, P)]
    default = reference.default_boxes(inputs.SMALL) if raw else inputs.grid_boxes(seed, P)
    deltas = torch.zeros(images, P, 4)
    if raw:
        heads = [inputs.head_maps(x, inputs.SMALL, "AC", "HWA") for x in (rows, deltas)]
    else:
        heads = [levels(rows), levels(deltas)]
    found(backend, *heads, default, spec, coder=CODER)


@pytest.mark.parametrize("scope", ["class", "level", "image"])
@pytest.mark.parametrize("mode", ["per_class", "argmax", "agnostic"])
def test_many_candidates_equal_reference(backend, mode, scope):
    """There are more candidates than a list holds, and more enter NMS than are sorted at once."""
    sizes, columns = [1500, 600], 3
    default, deltas = inputs.boxes(1, sum(sizes), extent=2000.0), torch.zeros(1, sum(sizes), 4)
    logits = torch.tensor([-9.0, -2.0, 0.0, 1.0, 2.0])[inputs.integers(4, 0, 5, 1, sum(sizes), columns)]
    for top_k in (1100, 50):
        spec = PostprocessSpec(
            "sigmoid", 0, 0.1, class_mode=mode, top_k=top_k, top_k_scope=scope, keep_top_k=300, iou_threshold=0.5
        )
        heads = list(logits.split(sizes, 1)), list(deltas.split(sizes, 1))
        assert found(backend, *heads, default, spec, coder=CODER).counts[0] > 40


@pytest.mark.parametrize("mode", ["argmax", "agnostic"])
def test_strange_logits_equal_reference(backend, mode):
    """A class whose score is NaN is never the best class of a box."""
    values = torch.tensor([inputs.NAN, inputs.INF, -inputs.INF, 0.0, 3e38, 1.0])
    logits = torch.cartesian_prod(values, values, values)[None]
    default, deltas = inputs.grid_boxes(5, logits.shape[1]), torch.zeros(1, logits.shape[1], 4)
    for background in (None, 1):
        spec = PostprocessSpec(
            "sigmoid", background, 0.4, class_mode=mode, top_k=None, iou_threshold=0.9, keep_top_k=300
        )
        assert found(backend, logits, deltas, default, spec, coder=CODER).counts[0] > 100


def test_levels_as_rows_equal_maps(backend):
    """Lists of rows, raw maps and one array give the same detections, except for a top_k per level."""
    default = reference.default_boxes(inputs.SMALL)
    logits, deltas = inputs.logits(1, 2, P, 4), inputs.bell(2, 2, P, 4)
    maps = [inputs.head_maps(x, inputs.SMALL, "AC", "HWA") for x in (logits, deltas)]
    sizes = [(level.shape[1] // 4) * level.shape[2] * level.shape[3] for level in maps[1]]
    rows = list(logits.split(sizes, 1)), list(deltas.split(sizes, 1))
    of_levels = dataclasses.replace(inputs.LOOSE, top_k=4, top_k_scope="level")
    limited = run_postprocess(backend, *maps, default, of_levels, coder=CODER)
    assert_same_bits(limited, run_postprocess(backend, *rows, default, of_levels, coder=CODER))
    unlimited = run_postprocess(backend, *rows, default, inputs.LOOSE, coder=CODER)
    assert_same_bits(unlimited, run_postprocess(backend, logits, deltas, default, inputs.LOOSE, coder=CODER))
    assert limited.counts.sum() < unlimited.counts.sum()


# ---- rejections -----------------------------------------------------------------------------------------------------


def test_top_k_of_levels_needs_levels():
    spec = PostprocessSpec(top_k_scope="level")
    heads = torch.zeros(1, 4, 3), torch.zeros(1, 4, 4)
    for run in (ssd_fast.postprocess, reference.postprocess):
        with pytest.raises(ValueError, match=r"^postprocess: cls_logits: expected .*levels"):
            run(*heads, inputs.grid_boxes(1, 4), spec, coder=CODER)
        unlimited = dataclasses.replace(spec, top_k=None)
        assert run(*heads, inputs.grid_boxes(1, 4), unlimited, coder=CODER).counts.tolist() == [8]


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"class_mode": "best"}, "class_mode: expected 'per_class' or 'argmax' or 'agnostic', got 'best'"),
        ({"top_k_scope": "batch"}, "top_k_scope: expected 'class' or 'level' or 'image', got 'batch'"),
        ({"min_box_size": -1.0}, "min_box_size: expected a finite number >= 0 or None, got -1.0"),
        ({"min_box_size": inputs.NAN}, "min_box_size: expected a finite number >= 0 or None, got nan"),
    ],
)
def test_rejected_fields(fields, message):
    with pytest.raises(ValueError, match=f"PostprocessSpec: {message}"):
        PostprocessSpec(**fields)
