"""The calls whose traffic is counted: every op at 1 and 8 images, with 21 and 91 columns if it has columns."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "bench"), str(ROOT / "scripts")]  # the benchmarks' inputs

import device_builders as builders  # noqa: E402
import torch  # noqa: E402
from device_builders import Prepared  # noqa: E402

CPU = torch.device("cpu")
NCHW, NHWC = torch.contiguous_format, torch.channels_last


@dataclass(frozen=True)
class Case:
    """slow: counted only by `make budgets`, not by a test."""

    name: str
    prepare: Callable[[], Prepared]
    slow: bool = False


def _postprocess() -> Iterator[Case]:
    build = functools.partial(builders.postprocess, CPU)
    for columns in (21, 91):
        for images in (1, 8):
            size = f"N={images} C={columns}"
            sparse = functools.partial(build, "sparse", images, columns)
            yield Case(f"postprocess sparse {size}", sparse)
            yield Case(f"postprocess sparse {size} NCHW maps", functools.partial(sparse, layout=NCHW))
        dense = functools.partial(build, "dense", 1, columns)
        yield Case(f"postprocess dense N=1 C={columns}", dense)
    sparse = functools.partial(build, "sparse", 1, 91)
    yield Case("postprocess sparse N=1 C=91 channels-last maps", functools.partial(sparse, layout=NHWC))
    yield Case("postprocess sparse N=1 C=91 bfloat16", functools.partial(sparse, dtype=torch.bfloat16))
    yield Case("postprocess untrained N=1 C=21", functools.partial(build, "untrained", 1, 21))


def _training() -> Iterator[Case]:
    for images in (1, 8):
        match = functools.partial(builders.match, CPU, images, 8)
        yield Case(f"match N={images} G=8", match)
        for columns in (21, 91):
            step = functools.partial(builders.loss, CPU, images, columns, "forward and backward")
            yield Case(f"multibox_loss forward and backward N={images} C={columns}", step)
    yield Case("match N=1 G=574", functools.partial(builders.match, CPU, 1, 574))


def _nms() -> Iterator[Case]:
    for n in (1_000, 10_000):
        yield Case(f"nms n={n}", functools.partial(builders.nms, CPU, n))
    yield Case("batched_nms n=8732 C=20", functools.partial(builders.batched_nms, CPU, 8732, 20))
    for images in (1, 8):
        for classes in (20, 90):
            problems = functools.partial(builders.nms_padded, CPU, images, classes, 400)
            name = f"nms_padded N={images} C={classes} n=400"
            yield Case(name, problems, slow=images * classes > 200)


def _boxes() -> Iterator[Case]:
    yield Case("box_iou 100 x 8732", functools.partial(builders.box_iou, CPU, 100, 8732))
    yield Case("box_iou 10 x 8732", functools.partial(builders.box_iou, CPU, 10, 8732))
    yield Case("default_boxes", functools.partial(builders.default_boxes, CPU))
    for op in ("decode_boxes", "encode_boxes"):
        for images in (1, 8):
            coder = functools.partial(builders.coder, CPU, op, images)
            yield Case(f"{op} N={images}", coder)


CASES = (*_postprocess(), *_nms(), *_training(), *_boxes())
