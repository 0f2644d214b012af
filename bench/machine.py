"""The machine and software that the benchmarks ran on, without names of hosts, users or folders."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import re
import sys
from pathlib import Path
from typing import Any

import torch

import ssd_fast

sys.path.append(str(Path(__file__).resolve().parents[1] / "scripts"))

from gpu.machine import host, output


def environment() -> dict[str, Any]:
    """The machine and the software, without names of hosts, users or folders."""
    cpu = re.search(r"model name\s*:\s*(.+)", read("/proc/cpuinfo"))
    memory = re.search(r"MemTotal:\s*(\d+)", read("/proc/meminfo"))
    found: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        **host(),
        "cpu": cpu[1] if cpu else platform.processor(),
        "memory_gib": round(int(memory[1]) / 2**20) if memory else None,
        "load_average": [round(value, 1) for value in os.getloadavg()],
        "torch": torch.__version__,
        "torch_threads": torch.get_num_threads(),
        "ssd_fast": {"version": ssd_fast.__version__, **ssd_fast.build_info(), "cuda_status": ssd_fast.cuda_status()},
        "gpu": None,
    }
    packages = importlib.metadata.packages_distributions()
    # Not imported, which takes seconds.
    for name in ("torchvision", "numba", "numba_cuda", "cupy", "cv2", "onnxruntime"):
        found[name] = importlib.metadata.version(packages[name][0]) if name in packages else None
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        query = "--query-gpu=driver_version,clocks.max.sm,clocks.max.mem,power.limit"
        found["gpu"] = {
            "name": properties.name,
            "multiprocessors": properties.multi_processor_count,
            "l2_bytes": properties.L2_cache_size,
            "memory_gib": round(properties.total_memory / 2**30),
            "torch_cuda": torch.version.cuda,
            "driver, largest clocks, power limit": output(["nvidia-smi", query, "--format=csv,noheader"]).strip(),
        }
    return found


def read(path: str) -> str:
    return Path(path).read_text() if Path(path).exists() else ""


if __name__ == "__main__":
    print(json.dumps(environment()))
