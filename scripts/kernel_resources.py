"""Registers, shared memory and spills of every kernel, by GPU architecture: prints the table, updates or checks it.

    python scripts/kernel_resources.py             print the table
    python scripts/kernel_resources.py --update    write it to tests/golden/kernel_resources.json
    python scripts/kernel_resources.py --check     fail if a kernel spills, or needs more than the file says

Needs nvcc, no GPU. Sources and flags are those of CMakeLists.txt; kernels are known by file and name.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests" / "golden" / "kernel_resources.json"
ARCHITECTURES = ("sm_80", "sm_90", "sm_120")  # A100; H100 and H200; RTX 50

Usage = dict[str, int]  # registers, shared, spills (the last two in bytes)
Table = dict[str, dict[str, Usage]]  # "<file>: <kernel>" -> architecture -> usage


def nvcc() -> str | None:
    """The CUDA compiler, or None."""
    return os.environ.get("CUDACXX") or shutil.which("nvcc")


def nvcc_version() -> str:
    text = subprocess.run([str(nvcc()), "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"V(\d+\.\d+\.\d+)", text)
    return found[1] if found else "unknown"


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
    run(
        [
            str(nvcc()),
            *flags,
            f"-I{ROOT / 'csrc'}",
            f"-arch={virtual}",
            "-ptx",
            "-o",
            str(output),
            *options,
            str(source),
        ]
    )
    return output.read_text()


def run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}\n{result.stdout}{result.stderr}")
    return result


def usage(source: str, architecture: str, folder: Path) -> dict[str, Usage]:
    """What ptxas says of each kernel of a .cu file."""
    stem = f"{source.replace('/', '-')}.{architecture}"
    ptx, cubin = folder / f"{stem}.ptx", folder / f"{stem}.cubin"
    compile_ptx(source, architecture, ptx)
    ptxas = Path(nvcc_folder()) / "ptxas"
    log = run([str(ptxas), "-O3", "-v", f"-arch={architecture}", "-o", str(cubin), str(ptx)]).stderr
    kernels = {}
    for block in log.split("Compiling entry function ")[1:]:
        mangled = block.split("'")[1]
        kernels[f"{source}: {kernel_name(mangled)}"] = {
            "registers": number(r"Used (\d+) registers", block),
            "shared": number(r"(\d+) bytes smem", block),
            "spills": number(r"(\d+) bytes spill stores", block) + number(r"(\d+) bytes spill loads", block),
        }
    return kernels


def nvcc_folder() -> str:
    """Where nvcc's own tools lie, even if the nvcc on the PATH is a script that starts the real one."""
    dry = subprocess.run([str(nvcc()), "--dryrun", "-x", "cu", os.devnull], capture_output=True, text=True, check=False)
    found = re.search(r"_HERE_=(\S+)", dry.stderr)
    return found[1] if found else str(Path(str(nvcc())).resolve().parent)


def number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    return int(found[1]) if found else 0


def kernel_name(mangled: str) -> str:
    """Such as nms_mask_kernel<float>: without parameters, namespace ssd, and the hash of an anonymous namespace."""
    name = run(["c++filt", mangled]).stdout.strip()
    name = re.sub(r"_GLOBAL__N__\w+?_cu_[0-9a-f]{8}(_\d+)?::|\(anonymous namespace\)::", "", name)
    depth = 0
    for i, character in enumerate(name):
        depth += (character == "<") - (character == ">")
        if character == "(" and depth == 0:
            name = name[:i]
            break
    return name.removeprefix("void ").replace("ssd::", "")


def measure(architectures: Iterable[str] = ARCHITECTURES) -> Table:
    """The usage of all kernels, compiled in parallel."""
    jobs = [(source, architecture) for source in sources() for architecture in architectures]
    table: Table = {}
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        for (_, architecture), kernels in zip(
            jobs, pool.map(lambda job: usage(job[0], job[1], Path(folder)), jobs), strict=True
        ):
            for kernel, use in kernels.items():
                table.setdefault(kernel, {})[architecture] = use
    return dict(sorted(table.items()))


def problems(table: Table, golden: Table | None) -> list[str]:
    """Spills, and whatever needs more than the golden table allows or is not in it. Less is no problem."""
    found = []
    for kernel, by_architecture in table.items():
        for architecture, use in by_architecture.items():
            if use["spills"]:
                found.append(f"{kernel} [{architecture}]: spills {use['spills']} bytes")
            if golden is None:
                continue
            allowed = golden.get(kernel, {}).get(architecture)
            if allowed is None:
                found.append(f"{kernel} [{architecture}]: not in the table")
                continue
            for what in ("registers", "shared"):
                if use[what] > allowed[what]:
                    found.append(f"{kernel} [{architecture}]: {what} grew from {allowed[what]} to {use[what]}")
    found += [f"{kernel}: in the table, but no such kernel" for kernel in sorted(set(golden or {}) - set(table))]
    return found


def check(table: Table) -> tuple[list[str], str | None]:
    """(problems, why growth was not checked). Another nvcc allocates differently, so only spills count then."""
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {"nvcc": None, "kernels": {}}
    if golden["nvcc"] is not None and golden["nvcc"] != nvcc_version():
        return problems(table, None), f"the table is of nvcc {golden['nvcc']}, this is {nvcc_version()}"
    return problems(table, golden["kernels"]), None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true", help="write the table")
    parser.add_argument("--check", action="store_true", help="compare with the written table")
    parser.add_argument("--arch", nargs="+", default=ARCHITECTURES, help="such as sm_90")
    options = parser.parse_args()
    if nvcc() is None:
        print("kernel_resources: needs nvcc, which is not on the PATH", file=sys.stderr)
        return 2
    table = measure(ARCHITECTURES if options.update else options.arch)
    for kernel, by_architecture in table.items():
        for architecture, use in by_architecture.items():
            spilled = f", {use['spills']} bytes SPILLED" if use["spills"] else ""
            print(f"{kernel} [{architecture}]: {use['registers']} registers, {use['shared']} bytes shared{spilled}")
    if options.update:
        GOLDEN.write_text(json.dumps({"nvcc": nvcc_version(), "kernels": table}, indent=1) + "\n")
    found, unchecked = check(table) if options.check else (problems(table, None), None)
    if unchecked:
        print(f"Growth was not checked: {unchecked}")
    for problem in found:
        print(problem, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
