"""The network that a training begins with: made for the dataset, or taken from weights for other classes."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from ..datasets import DetectionDataset
from ..models import SSDNetwork, load_network, load_weights, make_network, network_class

__all__ = ["start_network"]

_DEFAULT = "ssd_tiny"
_BACKGROUND_BIAS = 3.0


def start_network(
    dataset: DetectionDataset,
    *,
    name: str | None = None,
    size: tuple[int, int] | None = None,
    weights: str | Path | None = None,
    seed: int = 0,
) -> SSDNetwork:
    """A network with a column for the background and each class of the dataset.

    Args:
        name: one of list_networks(); None: that of the weights, or ssd_tiny, whose default boxes are then fitted
            to the dataset (`fit_sides`).
        size: (height, width) of ssd_tiny's input; None: `default_size(dataset)`.
        weights: a file whose parameters are taken, but for the class heads, which begin at random.
        seed: of what begins at random.

    Raises:
        ValueError: an unknown name, a size that the network cannot have, weights of another network or size.
        FileNotFoundError: no such file.
    """
    source = None if weights is None else load_network(weights)[0]
    if source is not None and name not in (None, source.name):
        raise ValueError(f"start_network: name: {weights} is of {source.name}, got {name!r}")
    name = source.name if source is not None else name or _DEFAULT
    arguments = network_class(name).fitted_arguments(dataset, size) if source is None else source.arguments
    with torch.random.fork_rng(devices=()):
        torch.default_generator.manual_seed(seed)
        network = make_network(name, len(dataset.classes) + 1, **arguments)
        if source is not None:
            _begin_class_heads(network)
    if size is not None and tuple(size) != network.preprocessing.size:
        held = " x ".join(map(str, network.preprocessing.size))
        raise ValueError(f"start_network: size: {name if source is None else weights} has {held}, got {size}")
    if source is not None and weights is not None:
        network.preset, network.preprocessing = source.preset, source.preprocessing
        load_weights(network, weights, exclude=network.class_head_prefix)
    return network


def _begin_class_heads(network: SSDNetwork) -> None:
    """Small weights and much background in what begins at random: at first nearly all boxes are background.

    Without it the class loss of new heads on trained features begins ten times as large, and spoils those.
    """
    for name, module in network.named_modules():
        predicts = (
            isinstance(module, nn.Conv2d) and module.groups == 1 and module.out_channels % network.num_classes == 0
        )
        if predicts and name.startswith(network.class_head_prefix) and module.bias is not None:
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)
            module.bias.data[:: network.num_classes] = _BACKGROUND_BIAS
