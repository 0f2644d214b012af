"""The processes of a training: one, or those started by torchrun."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist

__all__ = ["Processes", "joined_processes"]


@dataclass(frozen=True)
class Processes:
    """The rank of this process and the number of processes. Only the main process writes and prints."""

    rank: int = 0
    count: int = 1

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def wait(self) -> None:
        """Wait until all processes get here."""
        if self.count > 1:
            dist.barrier()

    def agree(self, fine: bool, device: torch.device) -> bool:
        """Whether all processes are fine, so that none enters a collective call that the others never make."""
        if self.count == 1:
            return fine
        worst = torch.tensor(int(fine), dtype=torch.int64, device=device)
        dist.all_reduce(worst, dist.ReduceOp.MIN)
        return bool(worst)


@contextlib.contextmanager
def joined_processes(device: torch.device) -> Iterator[tuple[Processes, torch.device]]:
    """Join the processes started by torchrun (gloo on CPUs, NCCL on GPUs), and leave them at the end.

    Args:
        device: the requested device; with several GPUs each process gets its own, LOCAL_RANK, whichever is named.

    Yields:
        This process and its device.

    Examples:
        >>> import torch
        >>> from ssd_fast.training import joined_processes
        >>> with joined_processes(torch.device("cpu")) as (processes, device):
        ...     processes.is_main, processes.count
        (True, 1)
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1 or not dist.is_available():
        yield Processes(), device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    mine = not dist.is_initialized()
    if mine:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(dist.get_rank(), dist.get_world_size()), device
    finally:
        if mine:
            dist.destroy_process_group()
