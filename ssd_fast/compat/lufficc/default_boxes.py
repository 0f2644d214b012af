"""lufficc's PriorBox, the default boxes of a configuration."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .._priors import center_form, square_spec

__all__ = ["PriorBox"]


class PriorBox:
    """Default boxes of a configuration: `PriorBox(cfg)()`; `.spec` holds the same as a DefaultBoxSpec.

    Args:
        cfg: has INPUT.IMAGE_SIZE, and FEATURE_MAPS, MIN_SIZES, MAX_SIZES, STRIDES, ASPECT_RATIOS and CLIP in
            MODEL.PRIORS.

    Raises:
        ValueError: lists of different lengths, or more than 8 maps.
    """

    def __init__(self, cfg: Any) -> None:
        priors = cfg.MODEL.PRIORS
        self.image_size = cfg.INPUT.IMAGE_SIZE
        self.feature_maps, self.strides = priors.FEATURE_MAPS, priors.STRIDES
        self.min_sizes, self.max_sizes = priors.MIN_SIZES, priors.MAX_SIZES
        self.aspect_ratios, self.clip = priors.ASPECT_RATIOS, priors.CLIP
        self.spec = square_spec(
            "PriorBox",
            self.image_size,
            self.feature_maps,
            min_sizes=self.min_sizes,
            max_sizes=self.max_sizes,
            aspect_ratios=self.aspect_ratios,
            steps=self.strides,
            clip=bool(self.clip),
        )

    def __call__(self) -> Tensor:
        """Compute float32 [P, 4] (cx, cy, w, h) in shares of the image, bit for bit the original's, on the CPU."""
        return center_form(self.spec)
