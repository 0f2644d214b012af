"""The compiled extension, as the one variable `C` through which every op reaches it.

Tests put the emulated build in its place, so nothing else may hold on to the module.
"""

from __future__ import annotations

from typing import Any

try:
    from . import _C
except ImportError as error:
    raise ImportError(
        "ssd_fast: the compiled extension ssd_fast._C is missing or does not load "
        f"({error}). Install the package (pip install .), or build it in place (pip install -e .)."
    ) from error

C: Any = _C


def build_info() -> dict[str, Any]:
    """Tell how the extension was built.

    Returns:
        Compilers and, for CUDA, the toolkit's version and the GPU architectures; "cuda" is None without CUDA kernels.

    Examples:
        >>> import ssd_fast
        >>> ssd_fast.build_info()
        {'cuda': ..., 'compiler': '...', 'pybind11': ...}
    """
    return dict(C.build_info)


def cuda_status() -> str:
    """Tell in one line whether CUDA kernels can run here, or else why not and what to do.

    Returns:
        A line that begins with "available" or "unavailable".

    Examples:
        >>> import ssd_fast
        >>> ssd_fast.cuda_status()
        '...available: ...'
    """
    if C.build_info["cuda"] is None:
        return (
            "unavailable: this build has no CUDA kernels; install ssd_fast where nvcc is on the PATH (SSD_FAST_CUDA=ON)"
        )
    return _status(C.cuda_facts(), C.build_info["cuda"])


_LEAST_DRIVER = {12: 525, 13: 580}  # NVIDIA's first driver for each major version of CUDA


def _status(facts: Any, built: str) -> str:
    """Word the status of a build with kernels, from the facts of csrc/common/cuda_info.h and the toolkit's version."""
    if facts.gpus > 0:
        return f"available: {facts.gpus} GPU{'s' if facts.gpus > 1 else ''}, kernels built with CUDA {built}"
    reason = f"{facts.error}: {facts.message}" if facts.error else "the machine has no GPU"
    if facts.error == "cudaErrorInsufficientDriver" and facts.driver // 1000 < _major(built):
        reason = _driver_fault(facts.driver, built)
    return f"unavailable: CUDA kernels are built ({built}), but {reason}"


def _major(built: str) -> int:
    return int(built.partition(".")[0])


def _driver_fault(driver: int, built: str) -> str:
    if driver == 0:
        return "there is no NVIDIA driver (a container has to be started with access to the GPU)"
    needed, supported = _major(built), driver // 1000
    least = f" to {_LEAST_DRIVER[needed]} or later" if needed in _LEAST_DRIVER else ""
    ways = f"update the driver{least}"
    if 12 <= supported < needed:
        ways += f", or install ssd_fast where nvcc belongs to a CUDA {supported} toolkit"
    found = f"{supported}.{driver % 1000 // 10}"
    return f"the NVIDIA driver is too old: it supports CUDA {found} and the kernels need CUDA {needed}; {ways}"
