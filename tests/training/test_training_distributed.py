"""Several processes: their gradients are those of one process with the whole batch, and one of them writes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from helpers.checks import one_thread
from helpers.paths import TESTS
from helpers.training_cases import make_dataset
from ssd_fast.models import load_network

_SCRIPT = """
    import sys
    from pathlib import Path
    import torch
    torch.set_num_threads(1)
    sys.path.insert(0, {tests!r})
    from helpers.training_cases import *
    from ssd_fast.training import NonFiniteLossError, joined_processes, train
    folder = Path({folder!r})
    with joined_processes(torch.device("cpu")) as (processes, device):
        network = small_network()
        # Norms use their running statistics: those of a batch would differ between a process and the whole.
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.train = lambda mode, module=module: module
                module.training = False
        config = small_config(batch_size=6, epochs=1, optimizer="sgd", learning_rate=0.01, ema_decay=0.0)
        if processes.rank == {spoiled}:
            network.register_forward_hook(lambda module, images, heads: tuple(float("nan") * head for head in heads))
        try:
            train(network, make_dataset(folder / "photos"), config, folder / "run", device=device, processes=processes)
        except NonFiniteLossError as error:
            print(error)
        print("rank", processes.rank, "of", processes.count, "main", processes.is_main)
"""


def start(folder: Path, count: int, spoiled: int = -1) -> list[str]:
    """Run the script in `count` processes, as torchrun would start them, and return their outputs.

    spoiled: the process whose network gives NaN.
    """
    make_dataset(folder / "photos")
    script = textwrap.dedent(_SCRIPT.format(tests=str(TESTS), folder=str(folder), spoiled=spoiled))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(count):
        environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
        environment |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"}
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", script],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    try:
        outputs = [process.communicate(timeout=900) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert all(process.returncode == 0 for process in processes), outputs
    return [output for output, _ in outputs]


pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")


def test_two_processes_take_step_of_one(tmp_path):
    outputs = start(tmp_path / "two", 2)
    assert [output.splitlines()[-1] for output in outputs] == ["rank 0 of 2 main True", "rank 1 of 2 main False"]
    start(tmp_path / "one", 1)
    with one_thread():
        one, two = (load_network(tmp_path / count / "run" / "weights.safetensors")[0] for count in ("one", "two"))
    from helpers.training_cases import small_network

    begin = small_network().state_dict()
    moved = 0
    for name, value in one.state_dict().items():
        if "running" in name or "num_batches" in name:
            continue
        # One step of SGD from the same weights: the difference is the gradient, averaged over the processes.
        step = value - begin[name]
        torch.testing.assert_close(two.state_dict()[name] - begin[name], step, rtol=1e-3, atol=1e-6)
        moved += int(step.abs().max() > 1e-5)
    assert moved > 10
    lines = (tmp_path / "two" / "run" / "log.jsonl").read_text().splitlines()
    assert len(lines) == 4, "not start, an iteration, an epoch, end, by one process"


def test_non_finite_loss_of_one_process_stops_all(tmp_path):
    """No process waits forever in an all_reduce, and no weights are written."""
    for output in start(tmp_path, 2, spoiled=1):
        assert "loss of iteration 1 is not finite" in output
    assert not (tmp_path / "run" / "weights.safetensors").exists()
