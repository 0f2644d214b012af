"""The networks by name: each registers the function that makes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from .._checks import choice
from .network import SSDNetwork

__all__ = ["list_networks", "make_network", "network_class", "register_network"]

Network = TypeVar("Network", bound=SSDNetwork)

_NETWORKS: dict[str, tuple[type[SSDNetwork], Callable[..., SSDNetwork]]] = {}


def register_network(kind: type[Network]) -> Callable[[Callable[..., Network]], Callable[..., Network]]:
    """Register the function that makes a network, so that its name works wherever this process names a network.

    `make_network`, `training.start_network` and the files of `save_weights`, which store the name, find it there.

    Args:
        kind: the network's class; its `name` must be the function's.

    Returns:
        a decorator that returns the function unchanged.

    Raises:
        ValueError: another name than the class has, or a name that is taken.
    """

    def register(make: Callable[..., Network]) -> Callable[..., Network]:
        name = make.__name__
        if name != kind.name:
            raise ValueError(f"register_network: expected a function named {kind.name}, as the class says, got {name}")
        if name in _NETWORKS and _NETWORKS[name][0].__qualname__ != kind.__qualname__:
            raise ValueError(f"register_network: expected a name that is not taken, got {name}")
        _NETWORKS[name] = kind, make
        return make

    return register


def list_networks() -> list[str]:
    """The names that `make_network` knows."""
    return list(_NETWORKS)


def make_network(name: str, num_classes: int, **arguments: Any) -> SSDNetwork:
    """Make the network `name`, as `ssd_fast.models.<name>(num_classes, **arguments)` does.

    Raises:
        ValueError: an unknown name, the message lists the known ones; or an argument that the network refuses.
    """
    make = _NETWORKS[choice("make_network", "name", name, list_networks())][1]
    try:
        return make(num_classes, **arguments)
    except TypeError as error:
        raise ValueError(f"make_network: {error}") from error


def network_class(name: str) -> type[SSDNetwork]:
    """The class of the network `name`.

    Raises:
        ValueError: an unknown name.
    """
    return _NETWORKS[choice("network_class", "name", name, list_networks())][0]
