"""Kills a small training at random moments, resumes it, and compares its weights with those of an undisturbed one.

SIGKILL, SIGTERM and SIGINT in turn, half of them as soon as a checkpoint is being written. Each training is resumed
until it is finished, and new ones are begun until there were enough kills. Exit status 1: a weight differs in a bit,
the log lacks a line or has one twice, something is left half written, or a resumed training failed.

Usage: kill_training.py [--kills 30] [--seed 0]
"""

from __future__ import annotations

import argparse
import collections
import itertools
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

import torch
from safetensors.torch import load_file

from ssd_fast.datasets import DetectionDataset

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

from helpers.training_cases import make_dataset, small_config, train_small

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
CONFIG = small_config(epochs=6)
ITERATIONS = 18
INTERRUPTED = 130


def start(dataset: DetectionDataset, folder: Path) -> int:
    """The process of a training that continues what is in the folder, with a checkpoint after every iteration."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # so that none comes before the child can answer it
    pid = os.fork()  # which, unlike a new Python, costs no import of torch for each kill
    if pid:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        return pid
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores it
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        train_small(dataset, folder, CONFIG, checkpoint_every=1, resume=True)
        status = 0
    except KeyboardInterrupt:
        status = INTERRUPTED
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def end(pid: int) -> int:
    """The exit code of a process; of one that died of a signal, minus its number."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def is_writing(folder: Path) -> bool:
    """Whether half a checkpoint lies there."""
    return any(folder.glob(".partial-*-checkpoint.pt"))


def wait_for_checkpoint_write(pid: int, folder: Path) -> None:
    """Returns as soon as the process begins a checkpoint, or ends."""
    before = set(folder.glob(".partial-*"))
    while before >= set(folder.glob(".partial-*-checkpoint.pt")):
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return
        time.sleep(0.0005)


def finish_despite_kills(
    dataset: DetectionDataset, folder: Path, kinds: list[signal.Signals], moments: random.Random, longest: float
) -> collections.Counter[str]:
    """Trains to the end, killed after a random time by each of the signals in turn, which are taken off the list.

    Returns: the kills by signal; "writing": those that left half a checkpoint.
    """
    kills: collections.Counter[str] = collections.Counter()
    while True:
        pid = start(dataset, folder)
        if kinds:
            time.sleep(moments.uniform(0, longest))
            if moments.random() < 0.5:
                wait_for_checkpoint_write(pid, folder)
            os.kill(pid, kinds[-1])
        code = end(pid)
        if code == 0:
            return kills
        if not kinds or code not in (-kinds[-1], INTERRUPTED):
            raise RuntimeError(f"the training in {folder} failed with exit code {code}")
        kills[kinds.pop().name] += 1
        kills["writing"] += is_writing(folder)


def faults(folder: Path, whole: Path) -> tuple[int, int]:
    """The tensors that differ in a bit from the undisturbed training's, and what else is wrong in the folder."""
    found, expected = (load_file(run / "weights.safetensors") for run in (folder, whole))
    assert found.keys() == expected.keys()
    differing = sum(found[name].numpy().tobytes() != expected[name].numpy().tobytes() for name in expected)
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    iterations = [line["iteration"] for line in lines if line["event"] == "iteration"]
    names = {path.name for path in folder.iterdir()}
    return differing, (iterations != list(range(1, ITERATIONS + 1))) + (
        names != {path.name for path in whole.iterdir()}
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    moments = random.Random(arguments.seed)
    kinds = list(itertools.islice(itertools.cycle(SIGNALS), arguments.kills))
    kills: collections.Counter[str] = collections.Counter()
    differing = others = 0
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        dataset = make_dataset(root / "photos")
        train_small(dataset, root / "first")  # imports here what each child would import otherwise
        begin = time.perf_counter()
        if code := end(start(dataset, root / "whole")):
            raise RuntimeError(f"the undisturbed training failed with exit code {code}")
        seconds = time.perf_counter() - begin
        trainings = 0
        while kinds:
            folder = root / f"run{trainings}"
            kills += finish_despite_kills(dataset, folder, kinds, moments, longest=seconds / 2)
            more_differing, more_others = faults(folder, root / "whole")
            differing, others, trainings = differing + more_differing, others + more_others, trainings + 1
    by_signal = ", ".join(f"{kills[kind.name]} {kind.name}" for kind in SIGNALS)
    print(f"{trainings} trainings, {arguments.kills} kills ({by_signal}), {kills['writing']} during a checkpoint write")
    print(f"{differing} differing tensors, {others} other faults")
    return int(differing > 0 or others > 0)


if __name__ == "__main__":
    sys.exit(main())
