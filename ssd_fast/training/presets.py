"""The preset of a network in training, which decides how its heads are trained and read afterwards."""

from __future__ import annotations

import dataclasses

from ..presets import Preset
from ..specs import LossSpec
from .config import Loss

__all__ = ["training_preset"]

_SCORE_THRESHOLD = 0.01


def training_preset(preset: Preset, loss: Loss) -> Preset:
    """Make a preset for training a network that has `preset`: the same boxes and box code, with another loss.

    Args:
        preset: the network's preset.
        loss: "softmax" for a softmax with background in column 0, "focal" for sigmoids.

    Examples:
        >>> import ssd_fast
        >>> from ssd_fast.training import training_preset
        >>> training_preset(ssd_fast.preset("torchvision_ssd300_vgg16"), "focal").postprocess.activation
        'sigmoid'
    """
    softmax = loss == "softmax"
    # The focal loss does not mine, so the dialect's mining options are dropped.
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
