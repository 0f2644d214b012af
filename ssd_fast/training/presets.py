"""The preset of a network in training: how its heads are trained, and so how they are read ever after."""

from __future__ import annotations

import dataclasses

from ..presets import Preset
from ..specs import LossSpec
from .config import Loss

__all__ = ["training_preset"]

_SCORE_THRESHOLD = 0.01


def training_preset(preset: Preset, loss: Loss) -> Preset:
    """A preset to train a network with whose heads were read by `preset`: the same boxes and box code.

    Args:
        loss: "softmax": the columns are a softmax's and column 0 is the background; "focal": sigmoids.
    """
    softmax = loss == "softmax"
    # The focal loss mines nothing, so what a dialect says of mining is left behind.
    kept = ("beta", "normalizer", *(("negatives_per_positive", "min_negatives") if softmax else ()))
    options = {} if preset.loss is None else {field: getattr(preset.loss, field) for field in kept}
    threshold = max(preset.postprocess.score_threshold, _SCORE_THRESHOLD)
    return dataclasses.replace(
        preset,
        loss=LossSpec(classification=loss, background=0, **options),
        postprocess=dataclasses.replace(
            preset.postprocess, activation="softmax" if softmax else "sigmoid", background=0, score_threshold=threshold
        ),
    )
