"""The registry of networks by name, in which each network registers the function that makes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from .._checks import choice, instance
from .._io.text import brief
from .network import SSDNetwork

__all__ = ["list_networks", "make_network", "network_class", "register_network"]

Network = TypeVar("Network", bound=SSDNetwork)

_NETWORKS: dict[str, tuple[type[SSDNetwork], Callable[..., SSDNetwork]]] = {}


def register_network(kind: type[Network]) -> Callable[[Callable[..., Network]], Callable[..., Network]]:
    """Register the function that makes a network, so that its name works wherever this process names a network.

    `make_network`, `training.start_network` and the files of `save_weights`, which store the name, find it there.

    Args:
        kind: the network's class; its `name` must be the name of the function.

    Returns:
        A decorator that returns the function unchanged.

    Raises:
        TypeError: `kind` is not a class of networks with a name, or a function without a name is decorated.
        ValueError: the function's name differs from the class's, or is taken.

    Examples:
        >>> from ssd_fast import models
        >>> class Wide(models.SSDTiny):
        ...     name = "wide"
        ...
        ...     def __init__(self, num_classes):
        ...         super().__init__(num_classes, (32, 96), ((8.0,), (16.0,), (32.0,)))
        ...
        ...     @property
        ...     def arguments(self):
        ...         return {}  # besides num_classes
        >>> @models.register_network(Wide)
        ... def wide(num_classes):
        ...     return Wide(num_classes)
        >>> models.make_network("wide", num_classes=2).preprocessing.size
        (32, 96)
    """

    if not (isinstance(kind, type) and issubclass(kind, SSDNetwork) and isinstance(getattr(kind, "name", None), str)):
        expected = "a subclass of SSDNetwork with a name, as in @register_network(MyNetwork)"
        raise TypeError(f"register_network: kind: expected {expected}, got {brief(kind)}")

    def register(make: Callable[..., Network]) -> Callable[..., Network]:
        name = getattr(make, "__name__", None)
        if name is None:
            raise TypeError(f"register_network: expected a function named {kind.name}, got {brief(make)}")
        if name != kind.name:
            raise ValueError(f"register_network: expected a function named {kind.name}, the class's name, got {name}")
        if name in _NETWORKS and _origin(_NETWORKS[name][0]) != _origin(kind):  # equal if a module is reloaded
            raise ValueError(f"register_network: expected a name that is not taken, got {name}")
        _NETWORKS[name] = kind, make
        return make

    return register


def _origin(kind: type) -> tuple[str, str]:
    return kind.__module__, kind.__qualname__


def list_networks() -> list[str]:
    """The names that `make_network` knows, in order of registration.

    Examples:
        >>> from ssd_fast import models
        >>> "ssd300_vgg16" in models.list_networks()
        True
    """
    return list(_NETWORKS)


def make_network(name: str, num_classes: int, **arguments: Any) -> SSDNetwork:
    """Make the network `name`, as `ssd_fast.models.<name>(num_classes, **arguments)` does.

    Raises:
        ValueError: an unknown name (the message lists the known ones), or an argument that the network refuses.
        TypeError: the registered function returned something other than an instance of the class it is registered for.

    Examples:
        >>> from ssd_fast import models
        >>> network = models.make_network("ssd_tiny", num_classes=3, size=(64, 96))
        >>> network.name, network.num_classes, network.preprocessing.size
        ('ssd_tiny', 3, (64, 96))
    """
    kind, make = _NETWORKS[choice("make_network", "name", name, list_networks())]
    try:
        network = make(num_classes, **arguments)
    except TypeError as error:
        raise ValueError(f"make_network: {error}") from error
    instance("make_network", name, network, kind, f"the registered function to return a {kind.__name__}")
    return network


def network_class(name: str) -> type[SSDNetwork]:
    """The class of the network `name`.

    Raises:
        ValueError: an unknown name.
    """
    return _NETWORKS[choice("network_class", "name", name, list_networks())][0]
