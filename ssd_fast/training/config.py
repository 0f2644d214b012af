"""TrainingConfig: every number that the result of a training depends on."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from .._checks import as_float, as_int, choice, freeze, is_not_negative, is_positive, require

__all__ = ["Flip", "Loss", "OptimizerName", "Precision", "TrainingConfig"]

OptimizerName = Literal["adamw", "sgd"]
Precision = Literal["fp32", "bf16", "fp16"]
Flip = Literal["none", "horizontal", "both"]
Loss = Literal["softmax", "focal"]

_MOST = 2**63 - 1


@dataclass(frozen=True)
class TrainingConfig:
    """How a network is trained. Two trainings of one network on one dataset with equal configs give equal weights.

    Args:
        epochs: times that the images are gone through.
        batch_size: images an iteration, over all processes; each process takes `network.min_training_batch` at least.
            An epoch ends with its last full batch; the images left over are others each time, since every epoch has
            its own order.
        learning_rate: the highest; it is reached after `warmup_iterations` and falls to 0 along a cosine.
        optimizer: "adamw", or "sgd" with `momentum` and Nesterov's step.
        weight_decay: not of biases and norms. AdamW's is multiplied by the learning rate, as SGD's is.
        ema_decay: of the moving average of the weights, an iteration; the average is what is kept in the end.
        gradient_clip: longest gradient, over all parameters; None: any.
        precision: "fp32"; or autocast to "bf16", or to "fp16" with a scaled loss (GPUs only).
        loss: of the classes: "softmax" with hard negative mining, or "focal", sigmoids and no mining.
        box_weight: of the box loss; the class loss has weight 1.
        flip: "none", "horizontal", or "both" ways, for photos that have no up.
        photometric: share of images whose brightness, contrast, saturation and hue are changed.
        zoom_out, zoom_out_share: greatest factor by which an image is put on a larger gray canvas, and how often.
        crop, crop_share: least share of an image's sides that a random crop keeps, and how often SSD's sampler is
            asked for one; every second time it leaves the image as it is.
        seed: of the weights, the order of images and their augmentation.

    Raises:
        ValueError: the message names the field, what was expected and what was given.
    """

    epochs: int = 45
    batch_size: int = 8
    learning_rate: float = 1.5e-3
    optimizer: OptimizerName = "adamw"
    momentum: float = 0.9
    weight_decay: float = 0.05
    warmup_iterations: int = 120
    ema_decay: float = 0.995
    gradient_clip: float | None = None
    precision: Precision = "fp32"
    loss: Loss = "softmax"
    box_weight: float = 2.0
    flip: Flip = "horizontal"
    photometric: float = 0.5
    zoom_out: float = 1.5
    zoom_out_share: float = 0.3
    crop: float = 0.5
    crop_share: float = 0.6
    seed: int = 0

    def __post_init__(self) -> None:
        for field, least in (("epochs", 1), ("batch_size", 1), ("warmup_iterations", 0), ("seed", 0)):
            whole = as_int(getattr(self, field), least, _MOST)
            below = " and below 2**63" if field == "seed" else ""
            self._set(field, whole, whole is not None, f"an int >= {least}{below}")
        self._set_number("learning_rate", "> 0", is_positive)
        self._set_number("zoom_out", "a factor >= 1", lambda x: x >= 1)
        self._set_number("crop", "a share in (0, 1]", lambda x: 0 < x <= 1)
        for field in ("weight_decay", "box_weight"):
            self._set_number(field, "a finite number >= 0", is_not_negative)
        for field in ("photometric", "zoom_out_share", "crop_share"):
            self._set_number(field, "a share in [0, 1]", lambda x: 0 <= x <= 1)
        for field in ("momentum", "ema_decay"):
            self._set_number(field, "a number in [0, 1)", lambda x: 0 <= x < 1)
        if self.gradient_clip is not None:
            self._set_number("gradient_clip", "> 0 or None", is_positive)
        kinds = {"optimizer": OptimizerName, "precision": Precision, "loss": Loss, "flip": Flip}
        for field, kind in kinds.items():
            freeze(self, **{field: choice("TrainingConfig", field, getattr(self, field), get_args(kind))})

    def to_dict(self) -> dict[str, Any]:
        """The fields, as JSON can hold them."""
        return dataclasses.asdict(self)

    def _set_number(self, field: str, expected: str, accepts: Callable[[float], bool]) -> None:
        """Torch computes with these in double precision, so they need not be numbers in float32."""
        value = as_float(getattr(self, field))
        self._set(field, value, value is not None and math.isfinite(value) and accepts(value), expected)

    def _set(self, field: str, value: object, ok: bool, expected: str) -> None:
        require(ok, "TrainingConfig", field, expected, getattr(self, field))
        freeze(self, **{field: value})
