"""What the benchmarks ran on: machine and software, without names of hosts, users or folders."""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

import torch

import ssd_fast

ROOT = Path(__file__).resolve().parents[1]


def environment() -> dict[str, Any]:
    """The machine and the software, without names of hosts, users or folders."""
    cpu = re.search(r"model name\s*:\s*(.+)", read("/proc/cpuinfo"))
    memory = re.search(r"MemTotal:\s*(\d+)", read("/proc/meminfo"))
    found: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "commit": git("rev-parse", "--short", "HEAD") + (" + changes" if git("status", "--porcelain") else ""),
        "cpu": cpu[1] if cpu else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(int(memory[1]) / 2**20) if memory else None,
        "load_average": [round(value, 1) for value in os.getloadavg()],
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torch_threads": torch.get_num_threads(),
        "ssd_fast": {"version": ssd_fast.__version__, **ssd_fast.build_info(), "cuda_status": ssd_fast.cuda_status()},
        "gpu": None,
    }
    for name in ("torchvision", "numba", "numba_cuda", "cupy", "cv2"):
        try:
            found[name] = getattr(__import__(name), "__version__", "installed")
        except (ImportError, OSError):
            found[name] = None
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        query = "--query-gpu=driver_version,clocks.max.sm,clocks.max.mem,power.limit"
        driver = output(["nvidia-smi", query, "--format=csv,noheader"])
        found["gpu"] = {
            "name": properties.name,
            "multiprocessors": properties.multi_processor_count,
            "l2_bytes": properties.L2_cache_size,
            "memory_gib": round(properties.total_memory / 2**30),
            "torch_cuda": torch.version.cuda,
            "driver, largest clocks, power limit": driver.strip(),
        }
    return found


def read(path: str) -> str:
    return Path(path).read_text() if Path(path).exists() else ""


def git(*arguments: str) -> str:
    return output(["git", *arguments]).strip()


def output(command: list[str]) -> str:
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    except OSError:
        return ""


if __name__ == "__main__":
    print(json.dumps(environment()))
