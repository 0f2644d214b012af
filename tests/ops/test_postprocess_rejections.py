"""postprocess: the arguments and fields that it rejects, and the messages that name them."""

from __future__ import annotations

import pytest
import torch

import ssd_fast
from helpers import inputs
from helpers.checks import unmodified
from ssd_fast import BoxCoderSpec, PostprocessSpec, reference

CODER = inputs.CODER
DEFAULT = reference.default_boxes(inputs.SMALL)
P, C = len(DEFAULT), 4
LOGITS, DELTAS = inputs.logits(1, 2, P, C), inputs.bell(2, 2, P, 4)
ONE_OR_MANY = r"one \(height, width\), or one per image: a list of pairs or an integer array \[N, 2\]"
MAPS = [inputs.head_maps(rows, inputs.SMALL, "AC", "HWA") for rows in (LOGITS, DELTAS)]


@pytest.mark.parametrize(
    "change, error, message",
    [
        (
            {"cls_logits": LOGITS[0]},
            ValueError,
            r"cls_logits: expected \[N, P, C\], or a list of .*, got shape \[101, 4\]",
        ),
        (
            {"bbox_regression": DELTAS[0]},
            ValueError,
            r"bbox_regression: expected \[N, P, 4\], or a list of .*\[101, 4\]",
        ),
        (
            {"cls_logits": [MAPS[0][0], MAPS[0][1][0, 0], MAPS[0][2]], "bbox_regression": MAPS[1]},
            ValueError,
            r"cls_logits\[1\]: expected levels \[N, A \* C, h, w\] or \[N, P of the level, C\], got shape",
        ),
        (
            {"cls_logits": LOGITS[:, 1:]},
            ValueError,
            r"bbox_regression: expected shape \[2, 100, 4\], got \[2, 101, 4\]",
        ),
        ({"cls_logits": LOGITS[:1]}, ValueError, r"bbox_regression: expected shape \[1, 101, 4\], got \[2, 101, 4\]"),
        ({"bbox_regression": DELTAS[..., :3]}, ValueError, r"bbox_regression: expected shape \[2, 101, 4\], got"),
        ({"default_boxes": DEFAULT[1:]}, ValueError, r"default_boxes: expected shape \[101, 4\], got \[100, 4\]"),
        ({"default_boxes": DEFAULT.half()}, TypeError, "default_boxes: expected float32, got float16 .*convert"),
        (
            {"cls_logits": LOGITS.double()},
            TypeError,
            "cls_logits: expected float32 or float16 or bfloat16, got float64",
        ),
        ({"bbox_regression": DELTAS.long()}, TypeError, "bbox_regression: expected float32.*, got int64"),
        ({"cls_logits": 3}, TypeError, "cls_logits: expected a torch tensor, .*, got int"),
        ({"cls_logits": []}, ValueError, "cls_logits: expected 1 to 8 levels, got none"),
        (
            {"cls_logits": MAPS[0]},
            ValueError,
            r"bbox_regression: expected 3 levels, as cls_logits has, got 1 \(give both as lists of levels, or both",
        ),
        (
            {"bbox_regression": MAPS[1]},
            ValueError,
            r"bbox_regression: expected 1 level, as cls_logits has, got 3 \(give both as lists of levels, or both",
        ),
        (
            {"cls_logits": MAPS[0][:2], "bbox_regression": MAPS[1]},
            ValueError,
            "bbox_regression: expected 2 levels, as cls_logits has, got 3$",
        ),
        (
            {"cls_logits": MAPS[0][::-1], "bbox_regression": MAPS[1]},
            ValueError,
            r"(cls_logits|bbox_regression)\[0\]: expected shape",
        ),
        (
            {"cls_logits": [MAPS[0][0], MAPS[0][1].half(), MAPS[0][2]], "bbox_regression": MAPS[1]},
            TypeError,
            r"cls_logits\[1\]: expected float32, got float16",
        ),
        (
            {"cls_logits": MAPS[0] * 3, "bbox_regression": MAPS[1] * 3},
            ValueError,
            "cls_logits: expected 1 to 8 levels, got 9",
        ),
        ({"spec": PostprocessSpec(background=4)}, ValueError, "spec.background: expected a column below 4, got 4"),
        ({"spec": PostprocessSpec(clip="after_nms")}, ValueError, "image_sizes: expected sizes, .* got None"),
        ({"original_sizes": (9, 9)}, ValueError, "image_sizes: expected sizes, .* got None"),
        ({"image_sizes": (9, 9, 9)}, ValueError, r"image_sizes: expected \(height, width\), got 3 numbers"),
        ({"image_sizes": torch.ones(3, 2).long()}, ValueError, r"image_sizes: expected shape \[2, 2\], got \[3, 2\]"),
        ({"image_sizes": torch.ones(2, 2)}, TypeError, "image_sizes: expected integers, got float32"),
        ({"image_sizes": [(9, 9)] * 3}, ValueError, r"image_sizes: expected shape \[2, 2\], got \[3, 2\]"),
        (
            {"image_sizes": [(9, 9), (9,)]},
            ValueError,
            rf"image_sizes: expected {ONE_OR_MANY}, got \[\(9, 9\), \(9,\)\]",
        ),
        ({"image_sizes": (0, 9), "original_sizes": (9, 9)}, ValueError, "image_sizes: expected"),
        ({"image_sizes": [(9, 9), (9, 0.5)]}, ValueError, "image_sizes: expected whole numbers >= 1 .*, got 0.5"),
        ({"image_sizes": [(9, 9), (-3, 9)]}, ValueError, "image_sizes: expected whole numbers >= 1 .*, got -3"),
        ({"image_sizes": (9, inputs.NAN)}, ValueError, "image_sizes: expected"),
        ({"image_sizes": "96"}, TypeError, rf"image_sizes: expected {ONE_OR_MANY}, got '96'"),
        ({"image_sizes": 96}, TypeError, rf"image_sizes: expected {ONE_OR_MANY}, got 96"),
        (
            {"original_sizes": [torch.tensor([9, 9])] * 2},
            TypeError,
            rf"original_sizes: .* {ONE_OR_MANY}, got a list of",
        ),
        ({"spec": CODER}, TypeError, "spec: expected a PostprocessSpec, got BoxCoderSpec"),
        ({"coder": inputs.LOOSE}, TypeError, "coder: expected a BoxCoderSpec, got PostprocessSpec"),
    ],
)
def test_rejected_arguments(backend, change, error, message):
    arguments = {"cls_logits": LOGITS, "bbox_regression": DELTAS, "default_boxes": DEFAULT, "spec": inputs.LOOSE}
    arguments |= {"coder": CODER} | change
    for key, value in arguments.items():
        if isinstance(value, torch.Tensor) or (
            isinstance(value, list) and value and isinstance(value[0], torch.Tensor)
        ):
            arguments[key] = backend.to(value)
    with unmodified(arguments), pytest.raises(error, match=f"^postprocess: {message}"):
        ssd_fast.postprocess(**arguments)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"activation": "relu"}, "activation: expected 'softmax' or 'sigmoid', got 'relu'"),
        ({"background": -2}, "background: expected a column, -1 or None, got -2"),
        ({"score_threshold": inputs.NAN}, r"score_threshold: expected a number in \[0, 1\], got nan"),
        ({"score_threshold": -0.1}, r"score_threshold: expected a number in \[0, 1\], got -0.1"),
        ({"score_threshold": 50}, r"score_threshold: expected a number in \[0, 1\], got 50"),
        ({"iou_threshold": 45.0}, r"iou_threshold: expected a number in \[0, 1\], got 45.0"),
        ({"iou_threshold": inputs.INF}, r"iou_threshold: expected a number in \[0, 1\], got inf"),
        ({"iou_threshold": 0.0, "iou_inclusive": True}, "iou_inclusive: expected iou_threshold > 0"),
        ({"background": True}, "background: expected a column, -1 or None, got True"),
        (
            {"activation": "sigmoid"},
            r'background: expected a value with activation "sigmoid", which has no default: a column, -1 .* or None',
        ),
        ({"top_k": 0}, r"top_k: expected an int in \[1, 2\*\*31\) or None, got 0"),
        ({"top_k": 2**31}, r"top_k: expected an int in \[1, 2\*\*31\) or None, got 2147483648"),
        ({"top_k": True}, r"top_k: expected an int in .* or None, got True"),
        ({"keep_top_k": 0}, r"keep_top_k: expected an int in \[1, 2\*\*31\), got 0"),
        ({"keep_top_k": 10**10}, r"keep_top_k: expected an int in .*, got 10000000000"),
        ({"clip": "always"}, "clip: expected 'none' or 'before_nms' or 'after_nms', got 'always'"),
        (
            {"clip": "after_nms", "rescale": "before_nms"},
            "rescale: expected .*boxes before rescaling, got 'before_nms'",
        ),
        ({"rescale": "never"}, "rescale: expected 'before_nms' or 'after_nms', got 'never'"),
        ({"channel_order": "HWC"}, "channel_order: expected 'AC' or 'CA', got 'HWC'"),
        ({"row_order": "WHA"}, "row_order: expected 'HWA' or 'AHW', got 'WHA'"),
    ],
)
def test_rejected_fields(fields, message):
    with pytest.raises(ValueError, match=f"PostprocessSpec: {message}"):
        PostprocessSpec(**fields)


def test_maps_with_wrong_channels_are_named():
    """Messages give the channels of a level with another C, of swapped heads, and of a head without a box."""
    boxes = torch.rand(2 * 9, 4)
    maps, deltas = torch.rand(1, 2 * 5, 3, 3), torch.rand(1, 2 * 4, 3, 3)
    spec = PostprocessSpec()
    for logits, offsets, message in (
        (
            [maps, maps[:, :6]],
            [deltas, deltas],
            r"cls_logits\[1\]: expected shape \[1, 10, any, any\], got \[1, 6, 3, 3\]",
        ),
        (
            [deltas[:, :4]],
            [maps[:, :10].repeat(1, 4, 1, 1)],
            r"cls_logits: expected A \* C channels .* got 4 beside 40",
        ),
        ([maps], [deltas[:, :3]], r"cls_logits: expected A \* C channels .* got 10 beside 3"),
        ([maps[:, :2]], [deltas], r"cls_logits: expected at least 2 columns, got 1"),
    ):
        with pytest.raises(ValueError, match=rf"^postprocess: {message}"):
            ssd_fast.postprocess(logits, offsets, boxes, spec, coder=BoxCoderSpec(), image_sizes=(9, 9))
