"""Load and save weight files, convert other projects' layouts, and recognize the network of a file."""

from .layouts import LAYOUTS
from .loading import load_network, load_weights
from .saving import save_weights

__all__ = ["LAYOUTS", "load_network", "load_weights", "save_weights"]
