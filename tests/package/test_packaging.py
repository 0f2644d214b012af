"""The package as users install it: the contents and needs of a wheel, and how a build finds or misses compilers."""

from __future__ import annotations

import ast
import email
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from email.message import Message
from pathlib import Path

import pytest
import torch

import ssd_fast
from helpers.paths import ROOT
from ssd_fast import _backend

MISSING = "/nonexistent/nvcc"
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")
BUILD_INPUTS = ("csrc", "ssd_fast", "CMakeLists.txt", "setup.py", "pyproject.toml", "README.md", "LICENSE", "NOTICE")


def run(command: Sequence[str], *, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command without the settings for builds and pip in the user's environment."""
    settings = ("SSD_FAST_", "CUDAARCHS", "CMAKE_ARGS", "PIP_")
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(settings)}
    environment |= {"PIP_CONFIG_FILE": os.devnull}
    return subprocess.run(
        command, cwd=cwd, env=inherited | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CPU-only wheel of a copy of the sources, built without downloads."""
    tree = tmp_path_factory.mktemp("tree")
    for name in BUILD_INPUTS:
        source, target = ROOT / name, tree / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        elif source.exists():
            shutil.copy(source, target)
    built = run(
        [*PIP, "wheel", "--no-build-isolation", "--no-deps", "--no-index", "--wheel-dir", "dist", "."],
        cwd=tree,
        SSD_FAST_CUDA="OFF",
    )
    assert built.returncode == 0, built.stdout
    (path,) = (tree / "dist").iterdir()
    return path


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the wheel is installed, beside the packages at hand."""
    folder = tmp_path_factory.mktemp("site")
    installed = run([*PIP, "install", "--no-deps", "--no-index", "--target", str(folder), str(wheel)], cwd=folder)
    assert installed.returncode == 0, installed.stdout
    return folder


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return email.message_from_bytes(archive.read(name))


def configure(folder: Path, cuda: str, compiler: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run CMake with SSD_FAST_CUDA=`cuda` and `compiler` as nvcc."""
    import pybind11

    command = ["cmake", f"-S{ROOT}", f"-B{folder}", f"-DSSD_FAST_CUDA={cuda}", f"-DPython_EXECUTABLE={sys.executable}"]
    return run([*command, f"-Dpybind11_DIR={pybind11.get_cmake_dir()}"], cwd=folder, CUDACXX=compiler, **environment)


def test_wheel_holds_all_files_of_package(wheel: Path) -> None:
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    assert wheel.name.startswith(f"ssd_fast-{ssd_fast.__version__}-{tag}-{tag}-linux_")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    extension = [name for name in names if name.endswith(".so")]
    assert len(extension) == 1 and extension[0].startswith("ssd_fast/_C.")
    for path in (ROOT / "ssd_fast").rglob("*"):
        if path.is_file() and path.suffix not in (".so", ".pyc"):
            assert str(path.relative_to(ROOT)) in names
    assert "ssd_fast/assets/ssdlite300_mobilenet_v2_coco.safetensors" in names
    assert not [
        name for name in names if name.split("/")[0] not in ("ssd_fast", f"ssd_fast-{ssd_fast.__version__}.dist-info")
    ]
    for license in ("LICENSE", "NOTICE"):
        assert [name for name in names if ".dist-info/" in name and name.endswith(license)]


def test_installed_wheel_works_and_has_no_cuda(site: Path) -> None:
    code = (
        "import numpy, sys, torch, ssd_fast\n"
        "boxes = numpy.array([[0, 0, 4, 4], [1, 0, 5, 4], [6, 6, 9, 9]], 'float32')\n"
        "scores = numpy.array([.5, .9, .1], 'float32')\n"
        "print([ssd_fast.__file__, torch.__version__, ssd_fast.build_info()['cuda'], ssd_fast.cuda_status(),\n"
        "       ssd_fast.nms(boxes, scores, 0.5).tolist()])\n"
    )
    result = run([sys.executable, "-c", code], cwd=site, PYTHONPATH=str(site))
    assert result.returncode == 0, result.stdout
    file, torch_version, cuda, status, kept = ast.literal_eval(result.stdout)
    assert Path(file).parent == site / "ssd_fast"
    assert torch_version == torch.__version__
    assert cuda is None
    assert "no CUDA kernels" in status and "SSD_FAST_CUDA=ON" in status
    assert kept == [1, 2]


def test_metadata_of_the_wheel(metadata: Message) -> None:
    assert metadata["Version"] == ssd_fast.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("License-File") == ["LICENSE", "NOTICE"]
    assert metadata["Requires-Python"] == ">=3.11"


def test_installing_leaves_torch_alone(wheel: Path, metadata: Message) -> None:
    required = [line for line in metadata.get_all("Requires-Dist", []) if ";" not in line]
    assert "torch>=2.4" in required
    assert not [line for line in required if "==" in line or "<" in line]  # no installed package needs replacing
    # Without an index no other torch can be fetched: the one at hand must do.
    dry = run([*PIP, "install", "--dry-run", "--no-index", "--no-build-isolation", str(wheel)], cwd=wheel.parent)
    assert dry.returncode == 0, dry.stdout
    would_install = [line for line in dry.stdout.splitlines() if line.startswith("Would install")]
    assert not [
        line for line in would_install if line.replace("-", "_").split()[2:] != [f"ssd_fast_{ssd_fast.__version__}"]
    ]


def test_extension_needs_neither_torch_nor_cuda_nor_openmp(site: Path) -> None:
    (extension,) = (site / "ssd_fast").glob("_C*.so")
    result = run(["ldd", str(extension)], cwd=site)
    assert result.returncode == 0 and "libc.so" in result.stdout, result.stdout
    libraries = {line.split()[0].rsplit("/", 1)[-1] for line in result.stdout.splitlines() if line.split()}
    assert {name.split(".")[0] for name in libraries} <= {
        *("linux-vdso", "libc", "libm", "libstdc++", "libgcc_s"),
        *("libdl", "libpthread", "librt", "ld-linux-x86-64", "ld-linux-aarch64"),
    }


def test_extension_of_this_build_needs_neither_torch_nor_cudart() -> None:
    """The extension in use has the CUDA kernels if there is an nvcc; cudart is linked statically."""
    libraries = run(["ldd", _backend.C.__file__], cwd=ROOT).stdout
    assert "libc.so" in libraries
    for name in ("libtorch", "libc10", "libcudart", "libcuda.", "libgomp", "libpython"):
        assert name not in libraries


def test_cuda_on_without_compiler_fails_with_message(tmp_path: Path) -> None:
    result = configure(tmp_path, "ON", MISSING)
    assert result.returncode != 0
    assert "SSD_FAST_CUDA=ON but no working CUDA compiler (nvcc) was found" in " ".join(result.stdout.split())


def test_broken_compiler_is_a_warning_unless_cuda_is_required(tmp_path: Path) -> None:
    broken = tmp_path / "nvcc"
    broken.write_text("#!/bin/sh\necho 'nvcc: broken' >&2\nexit 1\n")
    broken.chmod(0o755)
    for cuda, build in (("AUTO", tmp_path / "auto"), ("ON", tmp_path / "on")):
        build.mkdir()
        result = configure(build, cuda, str(broken))
        output = " ".join(result.stdout.split())
        if cuda == "AUTO":
            assert result.returncode == 0, result.stdout
            assert "CMake Warning" in output and "building ssd_fast for the CPU only" in output
        else:
            assert result.returncode != 0
            assert "no working CUDA compiler" in output


def test_cuda_off_needs_no_compiler(tmp_path: Path) -> None:
    result = configure(tmp_path, "OFF", MISSING)
    assert result.returncode == 0, result.stdout
    assert "CMake Warning" not in result.stdout and "CUDA kernels OFF" in result.stdout


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no CUDA toolkit (nvcc)")
def test_compiler_installed_later_is_found(tmp_path: Path) -> None:
    """A build folder made without nvcc does not stay without CUDA forever."""
    assert "CUDA kernels OFF" in configure(tmp_path, "AUTO", MISSING).stdout
    result = configure(tmp_path, "AUTO", str(shutil.which("nvcc")))
    assert result.returncode == 0 and "CUDA kernels ON" in result.stdout, result.stdout


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no CUDA toolkit (nvcc)")
def test_several_architectures_reach_compiler(tmp_path: Path) -> None:
    """They are a list with semicolons, which in a shell would end the command that compiles the bindings."""
    result = configure(tmp_path, "ON", str(shutil.which("nvcc")), CUDAARCHS="80-real;90")
    assert result.returncode == 0, result.stdout
    commands = json.loads((tmp_path / "compile_commands.json").read_text())
    bindings = [entry["command"] for entry in commands if entry["file"].endswith("bindings.cpp")]
    kernels = [entry["command"] for entry in commands if entry["file"].endswith(".cu")]
    assert bindings and all(shlex.split(command)[-1].endswith("bindings.cpp") for command in bindings)
    assert all("80-real 90" in command and ";" not in command for command in bindings)
    assert kernels and all("code=[sm_80]" in command and "compute_90" in command for command in kernels)


# The compute capabilities of NVIDIA's GPUs, and a future one. Orin and Thor run only their own binaries.
TEGRA = 87, 101, 110
CAPABILITIES = (75, 80, 86, 87, 88, 89, 90, 100, 101, 103, 110, 120, 121, 130)


def runs_on(architecture: str, capability: int) -> bool:
    """Return whether a GPU runs an entry's code: binaries within the major version, PTX on anything newer."""
    number, _, kind = architecture.partition("-")
    same = int(number) == capability if capability in TEGRA else int(number) // 10 == capability // 10
    binary = kind in ("", "real") and same
    return (binary or kind in ("", "virtual")) and int(number) <= capability


def not_covered(architectures: Sequence[str]) -> list[int]:
    return [capability for capability in CAPABILITIES if not any(runs_on(one, capability) for one in architectures)]


def test_every_gpu_has_a_binary_or_ptx() -> None:
    cmake = (ROOT / "CMakeLists.txt").read_text()
    before, after = re.findall(r"^ +set\(CMAKE_CUDA_ARCHITECTURES ([\w -]+)\)", cmake, re.MULTILINE)
    assert cmake.index("VERSION_LESS 12.8") < cmake.index(before) < cmake.index(after)
    assert not_covered(before.split()) == not_covered(after.split()) == []
    assert all(int(one.partition("-")[0]) < 100 for one in before.split())  # nvcc before 12.8 knows no others
    assert not_covered(["75-real", "80-real", "86-real", "89-real", "90-real", "100-real", "120"]) == [87, 101, 110]
    assert not_covered(["80", "90-virtual"]) == [75]
    assert not_covered(["75-real", "86-real"]) == [80, 87, 90, 100, 101, 103, 110, 120, 121, 130]
