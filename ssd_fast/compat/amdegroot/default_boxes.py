"""amdegroot's PriorBox, the default boxes of a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..._checks import as_row, instance, positive_numbers
from ...specs import BoxCoderSpec
from .._priors import center_form, square_spec

__all__ = ["CODER", "PriorBox"]

CODER = BoxCoderSpec((0.1, 0.1, 0.2, 0.2))  # cfg["variance"] in both of its configurations


class PriorBox:
    """Default boxes of a configuration of data/config.py; `.spec` holds the same as a DefaultBoxSpec.

    Args:
        cfg: a dict with min_dim, feature_maps, steps, min_sizes, max_sizes, aspect_ratios, variance, clip and name.

    Raises:
        ValueError: a variance that is not positive, lists of different lengths, or more than 8 maps.
        KeyError: an entry is missing.
        TypeError: not a dict.
    """

    def __init__(self, cfg: Mapping[str, Any]) -> None:
        instance("PriorBox", "cfg", cfg, Mapping, "a dict such as those of data/config.py")
        self.image_size = cfg["min_dim"]
        self.variance = [0.1] if cfg["variance"] is None or as_row(cfg["variance"]) == () else cfg["variance"]
        self.feature_maps, self.steps = cfg["feature_maps"], cfg["steps"]
        self.min_sizes, self.max_sizes = cfg["min_sizes"], cfg["max_sizes"]
        self.aspect_ratios = cfg["aspect_ratios"]
        self.clip = cfg["clip"]
        self.version = cfg["name"]
        positive_numbers("PriorBox", "variance", self.variance)
        self.spec = square_spec(
            "PriorBox",
            self.image_size,
            self.feature_maps,
            min_sizes=self.min_sizes,
            max_sizes=self.max_sizes,
            aspect_ratios=self.aspect_ratios,
            steps=self.steps,
            clip=bool(self.clip),
        )
        self.num_priors = len(self.aspect_ratios)

    def forward(self) -> Tensor:
        """Compute float32 [P, 4] (cx, cy, w, h) in shares of the image, bit for bit the original's, on the CPU."""
        return center_form(self.spec)
