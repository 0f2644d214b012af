"""TrainingConfig: every setting on which the result of a training depends."""

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
    """How a network is trained. Trainings of one network on one dataset with equal configs give equal weights.

    Args:
        epochs: passes over the images.
        batch_size: images per iteration, over all processes; each process takes at least `network.min_training_batch`.
            An epoch ends with its last full batch; the images left over differ each time, since every epoch has its
            own order.
        learning_rate: the peak rate, which is reached after `warmup_iterations` and falls to 0 along a cosine.
        optimizer: "adamw", or "sgd" with `momentum` and Nesterov's step.
        momentum: the momentum of "sgd".
        weight_decay: for all parameters except biases and norms. For AdamW too, it is multiplied by the learning rate.
        warmup_iterations: the number of iterations until the peak rate.
        ema_decay: decay per iteration of the moving average of the weights, which is the result of the training.
        gradient_clip: maximum norm of the gradient over all parameters; None for no limit.
        precision: "fp32", autocast to "bf16", or autocast to "fp16" with a scaled loss (GPUs only).
        loss: classification loss: "softmax" with hard negative mining, or "focal" with sigmoids and no mining.
        box_weight: weight of the box loss; the classification loss has weight 1.
        flip: random flips: "none", "horizontal" or "both" (also vertical, for photos with no 'up').
        photometric: share of images whose brightness, contrast, saturation and hue are changed.
        zoom_out: greatest factor by which an image is placed on a larger gray canvas.
        zoom_out_share: share of images that are zoomed out.
        crop: smallest share of an image's sides that a random crop keeps.
        crop_share: share of images for which SSD's sampler is asked for a crop; half the time it leaves the image as
            it is.
        seed: seed of the weights, the order of the images and their augmentation.

    Raises:
        ValueError: the message names the field, the expected value and the given one.

    Examples:
        >>> from ssd_fast.training import TrainingConfig
        >>> config = TrainingConfig(epochs=10, optimizer="sgd", learning_rate=0.01)
        >>> config.momentum, config.precision
        (0.9, 'fp32')
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
        """The fields as values that JSON can hold."""
        return dataclasses.asdict(self)

    def _set_number(self, field: str, expected: str, accepts: Callable[[float], bool]) -> None:
        """Check and set a number. Torch uses it in double precision, so it need not be valid in float32."""
        value = as_float(getattr(self, field))
        self._set(field, value, value is not None and math.isfinite(value) and accepts(value), expected)

    def _set(self, field: str, value: object, ok: bool, expected: str) -> None:
        require(ok, "TrainingConfig", field, expected, getattr(self, field))
        freeze(self, **{field: value})
