"""The compiled extension, as the one variable `C` through which every op reaches it.

Tests put the emulated build in its place; nothing else may hold on to the module.
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
    """How the extension was built: compilers, and for CUDA the toolkit's version and the GPU architectures."""
    return dict(C.build_info)


def cuda_status() -> str:
    """One line: whether CUDA kernels can run here, or the reason why not."""
    info = C.build_info
    if info["cuda"] is None:
        return (
            "unavailable: this build has no CUDA kernels; install ssd_fast where nvcc is on the PATH (SSD_FAST_CUDA=ON)"
        )
    count, reason = C.cuda_device_count()
    if count == 0:
        return f"unavailable: CUDA kernels are built ({info['cuda']}), but {reason}"
    return f"available: {count} GPU{'s' if count > 1 else ''}, kernels built with CUDA {info['cuda']}"
