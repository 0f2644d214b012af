"""Compile the kernels with nvcc and ptxas, with the sources and flags of CMakeLists.txt."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / "build" / "budgets"
ARCHITECTURES = ("sm_80", "sm_90", "sm_120")  # A100; H100 and H200; RTX 50


@dataclass(frozen=True)
class Compiled:
    """A .cu file for one architecture."""

    source: str
    architecture: str
    ptx: Path
    cubin: Path
    log: Path  # what ptxas reports: registers, shared memory and spills

    def resources(self) -> dict[str, dict[str, int]]:
        """By mangled name: registers, shared and spills (both in bytes), and threads of __launch_bounds__, if any."""
        bounds = dict(re.findall(r"\.entry (\w+)\([^)]*\)\s*\.maxntid (\d+)", self.ptx.read_text()))
        kernels = {}
        for block in self.log.read_text().split("Compiling entry function ")[1:]:
            mangled = block.split("'")[1]
            kernels[mangled] = {
                "registers": _number(r"Used (\d+) registers", block),
                "shared": _number(r"(\d+) bytes smem", block),
                "spills": _number(r"(\d+) bytes spill stores", block) + _number(r"(\d+) bytes spill loads", block),
            }
            if mangled in bounds:
                kernels[mangled]["threads"] = int(bounds[mangled])
        return kernels


def nvcc() -> str | None:
    """The CUDA compiler, or None."""
    return os.environ.get("CUDACXX") or shutil.which("nvcc")


@cache
def nvcc_version() -> str:
    text = subprocess.run([str(nvcc()), "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"V(\d+\.\d+\.\d+)", text)
    return found[1] if found else "unknown"


@cache
def nvcc_folder() -> Path:
    """The folder of nvcc's own tools, even if the nvcc on the PATH is a script that starts the real one."""
    dry = subprocess.run([str(nvcc()), "--dryrun", "-x", "cu", os.devnull], capture_output=True, text=True, check=False)
    found = re.search(r"_HERE_=(\S+)", dry.stderr)
    return Path(found[1]) if found else Path(str(nvcc())).resolve().parent


def cmake_list(name: str) -> list[str]:
    """The items of a list that CMakeLists.txt sets."""
    found = re.search(rf"^set\({name}\b([^)]*)\)", (ROOT / "CMakeLists.txt").read_text(), re.MULTILINE)
    if not found:
        raise ValueError(f"CMakeLists.txt: {name}: expected a list, found none")
    return found[1].split()


def sources() -> list[str]:
    """The .cu files of the package, relative to its root."""
    return sorted(str(path.relative_to(ROOT)) for path in (ROOT / "csrc").rglob("*.cu"))


def compile_ptx(source: str | Path, architecture: str, output: Path, *options: str) -> str:
    """The PTX of a .cu file, compiled with the flags of a release build (CMake's -O3 -DNDEBUG among them)."""
    flags = ["-std=c++17", "-O3", "-DNDEBUG", *cmake_list("SSD_CUDA_FLAGS")]
    virtual = architecture.replace("sm_", "compute_")
    # The options come first, so that the -I of a changed copy of the sources wins.
    include = [*options, f"-I{ROOT / 'csrc'}"]
    run([str(nvcc()), *flags, *include, f"-arch={virtual}", "-ptx", "-o", str(output), str(source)])
    return output.read_text()


def compile_file(source: str | Path, architecture: str, folder: Path, *options: str) -> Compiled:
    """A .cu file's PTX, cubin and log, in the folder."""
    stem = f"{str(source).strip('/').replace('/', '-')}.{architecture}"
    compiled = Compiled(str(source), architecture, *(folder / f"{stem}.{suffix}" for suffix in ("ptx", "cubin", "log")))
    compile_ptx(source, architecture, compiled.ptx, *options)
    # -lineinfo changes no instruction; it gives each loop its source line.
    ptxas = [str(nvcc_folder() / "ptxas"), "-O3", "-v", "-lineinfo", f"-arch={architecture}"]
    compiled.log.write_text(run([*ptxas, "-o", str(compiled.cubin), str(compiled.ptx)]).stderr)
    return compiled


def compile_cached(source: str, architecture: str) -> Compiled:
    """Compile one of the package's files; the result stays in build/budgets until a source, a flag or nvcc changes."""
    CACHE.mkdir(parents=True, exist_ok=True)
    stem = f"{source.replace('/', '-')}.{architecture}"
    key = CACHE / f"{stem}.key"
    with open(CACHE / f"{stem}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # if two test processes want the same file, one compiles it
        compiled = Compiled(source, architecture, *(CACHE / f"{stem}.{suffix}" for suffix in ("ptx", "cubin", "log")))
        if not key.exists() or key.read_text() != _inputs():
            key.unlink(missing_ok=True)
            compile_file(source, architecture, CACHE)
            key.write_text(_inputs())
    return compiled


def compile_ptx_cached(source: str, architecture: str, header: Path) -> str:
    """The PTX of one of the package's files that includes the header first, kept like that of `compile_cached`."""
    CACHE.mkdir(parents=True, exist_ok=True)
    stem = f"{source.replace('/', '-')}.{architecture}.{header.stem}"
    inputs = _inputs() + hashlib.sha256(header.read_bytes()).hexdigest()
    key, ptx = CACHE / f"{stem}.key", CACHE / f"{stem}.ptx"
    with open(CACHE / f"{stem}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not key.exists() or key.read_text() != inputs:
            key.unlink(missing_ok=True)
            compile_ptx(source, architecture, ptx, "-include", str(header))
            key.write_text(inputs)
        return ptx.read_text()


@cache
def _inputs() -> str:
    """A hash of everything that a compilation's result depends on."""
    state = hashlib.sha256(json.dumps([nvcc_version(), cmake_list("SSD_CUDA_FLAGS"), str(ROOT)]).encode())
    for path in (*sorted((ROOT / "csrc").rglob("*.[ch]*")), Path(__file__)):
        state.update(f"{path} {path.stat().st_size} ".encode() + path.read_bytes())
    return state.hexdigest()


def kernel_names(mangled: Sequence[str]) -> list[str]:
    """Names without parameters, namespace ssd and anonymous namespaces' hashes, such as nms_mask_kernel<float>."""
    if not mangled:
        return []
    return [_short(name) for name in run(["c++filt", *mangled]).stdout.splitlines()]


def _short(name: str) -> str:
    name = re.sub(r"_GLOBAL__N__\w+?_cu_[0-9a-f]{8}(_\d+)?::|\(anonymous namespace\)::", "", name.strip())
    depth = 0
    for i, character in enumerate(name):
        depth += (character == "<") - (character == ">")
        if character == "(" and depth == 0:
            name = name[:i]
            break
    return name.removeprefix("void ").replace("ssd::", "")


def run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}\n{result.stdout}{result.stderr}")
    return result


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    return int(found[1]) if found else 0
