"""The folder of a training: its files, and whether it may be written or continued."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .._checks import as_path
from .._io.writing import remove_partials, replace_file, require_output_file, write_errors
from ..datasets import DetectionDataset
from ..models import SSDNetwork, save_weights
from .checkpoint import CheckpointError, check_compatible, read_checkpoint, write_checkpoint
from .config import TrainingConfig
from .lock import one_writer
from .log import TrainingLog
from .state import TrainingState

__all__ = ["Run", "log_evaluation"]

_LOG = "log.jsonl"


class Run:
    """The files of a training: `folder/checkpoint.pt`, `weights.safetensors`, `log.jsonl` and `config.json`.

    A checkpoint in the folder must agree with the network, the dataset, the config and the number of processes.

    Args:
        folder: need not exist.
        network: the network in training.
        dataset: the training data.
        config: the settings.
        processes: the number of processes.

    Attributes:
        require_held: raises CheckpointError if the folder is no longer the one that was opened.
    """

    def __init__(
        self, folder: Path, network: SSDNetwork, dataset: DetectionDataset, config: TrainingConfig, processes: int = 1
    ) -> None:
        self.folder = folder
        self.checkpoint, self.weights = folder / "checkpoint.pt", folder / "weights.safetensors"
        self.log, self.config = folder / _LOG, folder / "config.json"
        self.require_held: Callable[[], None] = lambda: None
        self._training = {
            "network": {"name": network.name, "num_classes": network.num_classes, **network.arguments},
            "classes": list(dataset.classes),
            "preset": network.preset.to_dict(),
            "dataset": {"images": len(dataset), "fingerprint": _fingerprint(dataset)},
            "config": config.to_dict(),
            "processes": processes,
        }

    @contextlib.contextmanager
    def opened(self, resume: bool) -> Iterator[None]:
        """Make the folder, keep other writers out of it, and remove half-written files of killed processes.

        Raises:
            CheckpointError: another process is writing into it, or it holds a training and resume is not set.
            OSError: the folder cannot be written.
        """
        with write_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        with one_writer(self.folder) as self.require_held:
            if not resume and (found := [path for path in (self.checkpoint, self.weights) if path.exists()]):
                raise CheckpointError(
                    f"{self.folder} already holds a training ({found[0].name}): continue it with --resume (in Python "
                    "resume=True), or choose another folder with --out (in Python folder)"
                )
            for path in (self.checkpoint, self.weights, self.log, self.config):
                require_output_file(path)
                remove_partials(path)
            yield

    def describe(self) -> None:
        """Write config.json.

        Raises:
            OSError: the file cannot be written.
        """
        replace_file(self.config, (json.dumps(self._training, indent=2) + "\n").encode())

    def save(self, state: TrainingState) -> None:
        """Replace the checkpoint.

        Raises:
            CheckpointError: the checkpoint cannot be written.
        """
        write_checkpoint(self.checkpoint, {"training": self._training, "state": state.state_dict()})

    def restore(self, state: TrainingState) -> bool:
        """Load the checkpoint into the state, if there is one.

        Returns:
            Whether there was one.

        Raises:
            CheckpointError: the checkpoint is damaged or belongs to another training; the state is then unchanged.
        """
        if not self.checkpoint.exists():
            return False
        content = read_checkpoint(self.checkpoint)
        check_compatible(self.checkpoint, content["training"], self._training)
        state.load_state_dict(content["state"])
        return True

    def export(self, state: TrainingState, classes: Sequence[str]) -> None:
        """Write the averaged weights, with the preset and class names that `load_network` needs.

        Raises:
            OSError: the weights cannot be written.
        """
        average = state.average.module
        assert isinstance(average, SSDNetwork)
        save_weights(average, self.weights, classes=("background", *classes))


def log_evaluation(folder: str | Path, split: str | None, values: Mapping[str, Any]) -> None:
    """Append a line with the event "eval" to the log of a finished training.

    Raises:
        CheckpointError: a training is writing into the folder, which could lose the line.
        OSError: the line cannot be written.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from ssd_fast.training import log_evaluation
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     log_evaluation(folder, "test", {"ap50": 0.75})
        ...     Path(folder, "log.jsonl").read_text()
        '{"event": "eval", "split": "test", "ap50": 0.75}\\n'
    """
    folder = as_path("log_evaluation", "folder", folder, "the path of a folder")
    with one_writer(folder):
        TrainingLog(folder / _LOG).write("eval", split=split, **values)


def _fingerprint(dataset: DetectionDataset) -> str:
    """Hash the names, sizes and ground truths, but not the pixels."""
    digest = hashlib.sha256()
    for sample in dataset.samples:
        digest.update(repr((sample.name, sample.size)).encode())
        for array in (sample.boxes, sample.labels, sample.ignored):
            digest.update(array.tobytes())
    return digest.hexdigest()[:16]
