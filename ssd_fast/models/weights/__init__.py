"""Weight files: checked loading and saving, other projects' layouts, and recognizing the network of a file."""

from .layouts import LAYOUTS
from .loading import load_network, load_weights, save_weights

__all__ = ["LAYOUTS", "load_network", "load_weights", "save_weights"]
