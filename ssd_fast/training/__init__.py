"""Training an SSD on a dataset of one's own: deterministic, resumable to the bit, on one device or several."""

from ..models._fitting import default_size, fit_sides
from .checkpoint import CheckpointError
from .config import TrainingConfig
from .distributed import Processes, joined_processes
from .initial_network import start_network
from .log import Step
from .presets import training_preset
from .run_folder import log_evaluation
from .trainer import NonFiniteLossError, train

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
