"""Find and run nvdisasm, which lists the machine code of a cubin: cuobjdump -sass runs it too, and prints less."""

from __future__ import annotations

import os
import shutil
import sysconfig
from pathlib import Path

from budgets import compile as cuda

NAME = "nvdisasm"


def places() -> list[Path]:
    """The folders that are searched after the PATH: nvcc's own, Triton's, and those of NVIDIA's wheels."""
    found = [cuda.nvcc_folder()] if cuda.nvcc() else []
    for packages in dict.fromkeys(Path(sysconfig.get_path(kind)) for kind in ("purelib", "platlib")):
        found.append(packages / "triton" / "backends" / "nvidia" / "bin")
        found += sorted((packages / "nvidia").glob("*/bin"))
    return found


def disassembler() -> str | None:
    """nvdisasm, or None. An old one may not know a new nvcc's architecture; then it fails with a message."""
    if on_path := shutil.which(NAME):
        return on_path
    return next((str(folder / NAME) for folder in places() if (folder / NAME).is_file()), None)


def missing() -> str | None:
    """What is missing to count instructions, or None."""
    if cuda.nvcc() is None:
        return "no CUDA toolkit (nvcc)"
    if disassembler() is None:
        searched = ", ".join(str(folder) for folder in places())
        return f"nvcc has no {NAME} beside it; searched the PATH, {searched} (triton brings one)"
    return None


def disassemble(cubin: Path) -> str:
    """The machine code with labels, and the source line of each instruction. Cached beside the cubin, if newer."""
    listing = cubin.with_suffix(".sass")
    if not listing.exists() or listing.stat().st_mtime_ns < cubin.stat().st_mtime_ns:
        part = listing.with_name(f"{listing.name}.{os.getpid()}")
        part.write_text(cuda.run([str(disassembler()), "-c", "-g", str(cubin)]).stdout)
        part.replace(listing)  # two processes may get here at once
    return listing.read_text()
