"""torchvision's BoxCoder as a BoxCoderSpec."""

from __future__ import annotations

import functools
import math
from typing import Any

from ..._checks import as_float, positive_numbers, require, row
from ...specs import BoxCoderSpec

__all__ = ["coder_spec"]


def coder_spec(coder: Any, op: str) -> BoxCoderSpec:
    """The weights and the limit that a model's box coder has at this moment.

    Raises:
        TypeError: it is none of torchvision's, or overrides how boxes are encoded or decoded.
    """
    from torchvision.models.detection._utils import BoxCoder

    own = isinstance(coder, BoxCoder) and all(
        getattr(type(coder), method) is getattr(BoxCoder, method) for method in ("decode_single", "encode_single")
    )
    if not own:
        raise TypeError(f"{op}: model.box_coder: expected torchvision's BoxCoder, got {type(coder).__name__}")
    weights = positive_numbers(
        op, "model.box_coder.weights", row(op, "model.box_coder.weights", coder.weights, "4", 4, 4)
    )
    clip = as_float(coder.bbox_xform_clip)
    require(clip is not None, op, "model.box_coder.bbox_xform_clip", "a number", coder.bbox_xform_clip)
    return _make_spec(weights, clip)


@functools.lru_cache(maxsize=64)
def _make_spec(weights: tuple[float, ...], log_scale_high: float | None) -> BoxCoderSpec:
    x, y, w, h = weights
    assert log_scale_high is not None
    return BoxCoderSpec((1 / x, 1 / y, 1 / w, 1 / h), log_scale_clamp=(-math.inf, log_scale_high))
