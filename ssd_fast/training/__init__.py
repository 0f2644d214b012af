"""Train an SSD on your own dataset: deterministic, resumable to the bit, on one device or several."""

from ..models._fitting import default_size, fit_sides
from .checkpoint import CheckpointError
from .config import TrainingConfig
from .distributed import Processes, joined_processes
from .initial_network import start_network
from .log import Step
from .loop import NonFiniteLossError
from .presets import training_preset
from .run_folder import log_evaluation
from .trainer import train

__all__ = [
    "CheckpointError",
    "NonFiniteLossError",
    "Processes",
    "Step",
    "TrainingConfig",
    "default_size",
    "fit_sides",
    "joined_processes",
    "log_evaluation",
    "start_network",
    "train",
    "training_preset",
]
