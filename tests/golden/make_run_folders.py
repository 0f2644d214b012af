"""Writes tests/golden/run_folders: a training killed half-way, the same one finished, and the outputs of its weights.

They stand for folders and weight files that users have, so they are not rewritten when the format changes: the
tests prove that these very files can still be read and continued.

Usage: PYTHONPATH=tests make_run_folders.py
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from helpers.run_folders import FOLDER, HALFWAY, config, images, make_dataset, make_network, narrow
from ssd_fast.models import load_network
from ssd_fast.training import train


class _KilledError(Exception):
    pass


def _stop(step: object) -> None:
    if step.iteration == HALFWAY + 1:  # type: ignore[attr-defined]
        raise _KilledError


def main() -> None:
    torch.set_num_threads(1)
    with narrow(), tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):  # no machine's path in the log
        dataset = make_dataset(Path("photos"))
        with contextlib.suppress(_KilledError):
            train(make_network(), dataset, config(), "killed", checkpoint_every=HALFWAY, on_step=_stop)
        weights = train(make_network(), dataset, config(), "finished", checkpoint_every=HALFWAY)
        network, _ = load_network(weights)
        with torch.no_grad():
            bbox_regression, cls_logits = network.eval()(images())
        for run in ("killed", "finished"):
            shutil.copytree(run, FOLDER / run, copy_function=shutil.copyfile)
        np.savez_compressed(FOLDER / "heads.npz", bbox_regression=bbox_regression, cls_logits=cls_logits)


if __name__ == "__main__":
    main()
