"""Valid calls of every op, with contiguous torch tensors in separate memory."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from . import pools, specs
from .calls import Call
from .pools import BOXES, NUMBERS, SCORES, TAME, family, integers, size, take

_THRESHOLDS = (0.5, 0.5, 1 / 3, 0.25, 0.45, 0.55, 0, 1, 1e-40, 2.0)
_NARROW = (torch.float32, torch.float32, torch.float16, torch.bfloat16)


def box_iou(rng: random.Random) -> Call:
    dtype = rng.choice((torch.float32, torch.float64))
    pool = family(rng, BOXES)
    sets = [take(rng, BOXES[pool], size(rng)).to(dtype) for _ in range(2)]
    return Call("box_iou", {"boxes1": sets[0], "boxes2": sets[1]})


def nms(rng: random.Random) -> Call:
    n, dtype = size(rng), rng.choice((torch.float32, torch.float32, torch.float64))
    return Call(
        "nms",
        {
            "boxes": take(rng, BOXES[family(rng, BOXES)], n).to(dtype),
            "scores": take(rng, SCORES[family(rng, SCORES)], n).to(dtype),
            "iou_threshold": rng.choice(_THRESHOLDS),
        },
    )


def batched_nms(rng: random.Random) -> Call:
    arguments = nms(rng).arguments
    threshold = arguments.pop("iou_threshold")
    low, high = rng.choice(((0, 3), (0, 1), (-2, 2), (-(2**63), 2**63)))
    arguments["idxs"] = integers(rng, low, high, len(arguments["boxes"])) if high < 9 else _far(rng, arguments["boxes"])
    arguments["iou_threshold"] = threshold
    return Call("batched_nms", arguments)


def _far(rng: random.Random, boxes: Tensor) -> Tensor:
    ends = torch.tensor([-(2**63), 2**63 - 1, 2**32, 0])
    return ends[integers(rng, 0, 4, len(boxes))]


def nms_padded(rng: random.Random) -> Call:
    images, n = rng.choice((0, 1, 1, 2, 3)), size(rng, 257)
    classes = rng.choice(((), (), (0,), (1,), (2,), (3,)))
    return Call(
        "nms_padded",
        {
            "boxes": take(rng, BOXES[family(rng, BOXES)], images, n),
            "scores": take(rng, SCORES[family(rng, SCORES)], images, *classes, n),
            "iou_threshold": rng.choice(_THRESHOLDS),
            "max_output": rng.choice((1, 2, max(n, 1), n + 3, 300)),
        },
    )


def _backward(rng: random.Random) -> str:
    return rng.choice(("", "ones", "ramp"))


def encode_boxes(rng: random.Random) -> Call:
    p, pool = size(rng), family(rng, BOXES)
    leading = [rng.choice((0, 1, 2, 2, 3)) for _ in range(rng.choice((0, 0, 1, 1, 2, 4)))]
    arguments = {
        "boxes": take(rng, BOXES[pool], *leading, p),
        "default_boxes": take(rng, BOXES[pool], p),
        "coder": specs.coder(rng),
    }
    return Call("encode_boxes", arguments, _backward(rng), tame=pool in TAME)


def decode_boxes(rng: random.Random) -> Call:
    p, pool, numbers = size(rng), family(rng, BOXES), family(rng, NUMBERS)
    leading = [rng.choice((0, 1, 2, 2, 3)) for _ in range(rng.choice((0, 0, 1, 1, 2, 4)))]
    arguments = {
        "deltas": take(rng, NUMBERS[numbers], *leading, p, 4).to(rng.choice(_NARROW)),
        "default_boxes": take(rng, BOXES[pool], p),
        "coder": specs.coder(rng),
    }
    return Call("decode_boxes", arguments, _backward(rng), tame=pool in TAME and numbers in TAME)


def default_boxes(rng: random.Random) -> Call:
    return Call("default_boxes", {"spec": specs.default_boxes(rng)})


def _packed(parts: list[Tensor], empty: Tensor) -> tuple[Tensor, Tensor]:
    sizes = itertools.accumulate([0, *map(len, parts)])
    return torch.cat([empty, *parts]), torch.tensor(list(sizes))


def match(rng: random.Random) -> Call:
    pool, other = family(rng, BOXES), family(rng, BOXES)
    boxes = [take(rng, BOXES[pool], size(rng, 33)) for _ in range(rng.choice((0, 1, 1, 2, 3)))]
    ignored: Any = [integers(rng, 0, 2, len(x)).to(rng.choice((torch.bool, torch.uint8))) for x in boxes]
    arguments = {
        "gt_boxes": boxes,
        "default_boxes": take(rng, BOXES[rng.choice((pool, pool, other))], size(rng)),
        "matcher": specs.matcher(rng),
    }
    if rng.random() < 0.5:
        arguments["gt_boxes"] = _packed(boxes, torch.empty(0, 4))
        ignored = torch.cat([torch.empty(0, dtype=torch.bool), *ignored]).to(rng.choice((torch.bool, torch.uint8)))
    elif ignored:
        ignored = [x.to(ignored[0].dtype) for x in ignored]
    if rng.random() < 0.5:
        arguments["gt_ignored"] = ignored
    return Call("match", arguments)


def multibox_loss(rng: random.Random) -> Call:
    images, p, columns = rng.choice((0, 1, 1, 2, 3)), size(rng), rng.choice((2, 2, 3, 4, 5, 17, 33))
    pool, numbers = family(rng, BOXES), family(rng, NUMBERS)
    boxes: Any = [take(rng, BOXES[pool], rng.choice((0, 1, 2, 3))) for _ in range(images)]
    labels: Any = [integers(rng, -1 if rng.random() < 0.1 else 0, columns, len(x)) for x in boxes]
    most = max([0, *map(len, boxes)]) + (rng.random() < 0.1)
    matched = integers(rng, -2, max(most, -1), images, p)
    if rng.random() < 0.5:
        empty = torch.empty(0, dtype=torch.int64)
        boxes, labels = _packed(boxes, torch.empty(0, 4)), torch.cat([empty, *labels])
    arguments = {
        "cls_logits": take(rng, NUMBERS[numbers], images, p, columns).to(rng.choice(_NARROW)),
        "bbox_regression": take(rng, NUMBERS["plain"], images, p, 4).to(rng.choice(_NARROW)),
        "gt_boxes": boxes,
        "gt_labels": labels,
        "matched_idxs": matched,
        "default_boxes": take(rng, BOXES[pool], p),
        "coder": specs.coder(rng),
        "loss": specs.loss(rng, columns),
    }
    return Call("multibox_loss", arguments, _backward(rng), tame=pool in TAME and numbers in TAME)


def postprocess(rng: random.Random) -> Call:
    images, columns = rng.choice((0, 1, 1, 2)), rng.choice((1, 2, 2, 3, 4, 17, 33))
    as_levels, raw = rng.random() < 0.5, rng.random() < 0.6
    maps = [
        (rng.choice((1, 1, 2, 3)), rng.choice((0, 1, 2, 3) if raw else (0, 1, 2, 5, 64)), rng.choice((1, 1, 2, 4)))
        for _ in range(rng.choice((1, 1, 2, 3, 8)) if as_levels else 1)
    ]
    numbers, exact = rng.choice(("levels", "levels", "same", "plain", "strange")), rng.random() < 0.6
    logits_dtype, deltas_dtype = rng.choice(_NARROW), rng.choice(_NARROW)
    offsets = pools.NUMBERS["same" if exact else rng.choice(("plain", "strange"))]
    logits, deltas = [], []
    for a, h, w in maps:
        shapes = [(images, a * c, h, w) if raw else (images, a * h * w, c) for c in (columns, 4)]
        logits.append(take(rng, NUMBERS[numbers], *shapes[0]).to(logits_dtype))
        deltas.append(take(rng, offsets, *shapes[1]).to(deltas_dtype))
    p = sum(a * h * w for a, h, w in maps)
    spec = specs.postprocess(rng, columns, as_levels)
    arguments: dict[str, Any] = {
        "cls_logits": logits if as_levels else logits[0],
        "bbox_regression": deltas if as_levels else deltas[0],
        "default_boxes": take(rng, BOXES[family(rng, BOXES)], p),
        "spec": spec,
        "coder": specs.coder(rng),
    }
    if spec.fields["clip"] != "none" or rng.random() < 0.4:
        arguments["image_sizes"] = _sizes(rng, images)
        if rng.random() < 0.6:
            arguments["original_sizes"] = _sizes(rng, images)
    # The sum of a softmax over rows of random numbers may round one score above another.
    exact = exact and (numbers == "same" or (numbers == "levels" and spec.fields["activation"] == "sigmoid"))
    return Call("postprocess", arguments, exact=exact)


def _sizes(rng: random.Random, images: int) -> Any:
    pairs = [(rng.choice((1, 7, 96, 300)), rng.choice((1, 10, 200))) for _ in range(images)]
    form = rng.choice(("one", "list", "array"))
    if form == "one":
        return rng.choice(((300, 200), [7.5, 10.0], (1, 1)))
    if form == "list" and pairs:
        return pairs
    dtype = rng.choice((torch.int64, torch.int64, torch.int32, torch.int16))
    return torch.tensor(pairs, dtype=dtype).reshape(images, 2)


# How often each op is called: the slower ones less often.
OPS: dict[Callable[[random.Random], Call], int] = {
    box_iou: 6,
    nms: 6,
    batched_nms: 4,
    nms_padded: 4,
    encode_boxes: 5,
    decode_boxes: 5,
    default_boxes: 3,
    match: 5,
    multibox_loss: 5,
    postprocess: 6,
}
