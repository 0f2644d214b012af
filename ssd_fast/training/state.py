"""The state of a training: the weights, their moving average, the optimizer and its learning rate."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..models import SSDNetwork
from .config import TrainingConfig

__all__ = ["TrainingState", "deterministic_cudnn", "learning_rate", "parameter_groups"]

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class TrainingState:
    """A network in training: repeat `backward(loss)` and `update(rate)`; checkpoints may be taken between updates.

    Attributes:
        network: the network in training.
        average: the moving average of its weights and of the statistics of its norms.
        iteration: the number of steps taken.
    """

    def __init__(self, network: SSDNetwork, config: TrainingConfig, device: torch.device) -> None:
        if config.precision == "fp16" and device.type != "cuda":
            raise ValueError(f"training: precision: fp16 needs a GPU, and the device is {device}; try bf16")
        # The fastest layout for convolutions of few channels, on CPUs and on GPUs.
        self.network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.config, self.device, self.iteration = config, device, 0
        self.average = AveragedModel(
            self.network, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay), use_buffers=True
        )
        groups = parameter_groups(network, config.weight_decay)
        self.optimizer: torch.optim.Optimizer
        if config.optimizer == "sgd":
            self.optimizer = torch.optim.SGD(
                groups, lr=config.learning_rate, momentum=config.momentum, nesterov=config.momentum > 0
            )
        else:
            self.optimizer = torch.optim.AdamW(groups, lr=config.learning_rate)
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")

    @contextlib.contextmanager
    def autocast(self) -> Iterator[None]:
        """Use the precision of the forward pass."""
        dtype = _AUTOCAST.get(self.config.precision)
        with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
            yield

    def backward(self, loss: Tensor) -> float:
        """Compute and clip the gradient.

        Returns:
            Its norm before clipping.

        Syncs:
            Once.
        """
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        limit = math.inf if self.config.gradient_clip is None else self.config.gradient_clip
        return float(nn.utils.clip_grad_norm_(self.network.parameters(), limit))

    def update(self, learning_rate: float) -> None:
        """Take a step along the gradient, unless a float16 gradient overflowed, and update the average."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.average.update_parameters(self.network)
        self.iteration += 1

    def state_dict(self) -> dict[str, Any]:
        """Everything on which the next step depends, for torch.load(weights_only=True)."""
        states = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self.device)
        return {
            "iteration": self.iteration,
            "network": self.network.state_dict(),
            "ema": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "random_states": states,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from where state_dict was called."""
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.iteration = state["iteration"]
        torch.set_rng_state(state["random_states"]["cpu"])
        if self.device.type == "cuda" and "cuda" in state["random_states"]:
            torch.cuda.set_rng_state(state["random_states"]["cuda"], self.device)


@contextlib.contextmanager
def deterministic_cudnn() -> Iterator[None]:
    """Let cuDNN compute the same bits every time."""
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Make two groups for an optimizer: weight decay for weights, none for biases, norms and other vectors."""
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return [
        {"params": [parameter for parameter in parameters if parameter.ndim > 1], "weight_decay": weight_decay},
        {"params": [parameter for parameter in parameters if parameter.ndim <= 1], "weight_decay": 0.0},
    ]


def learning_rate(highest: float, iteration: int, iterations: int, warmup: int) -> float:
    """The rate of an iteration, counted from 0: a linear warm-up, then a cosine that is 0 only after the last.

    Args:
        highest: the rate to which the warm-up leads.
        iteration: the iteration.
        iterations: the number of iterations of the training.
        warmup: the number of iterations of the warm-up.

    Source:
        Loshchilov and Hutter 2017, "SGDR", equation 5, with one period.
    """
    cosine = 0.5 + 0.5 * math.cos(math.pi * min(iteration, iterations) / iterations)
    return highest * cosine * min(1.0, (iteration + 1) / (warmup + 1))
