"""cuda_status(): one line that names the problem and the remedy, for made-up and real facts."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

import ssd_fast
from ssd_fast import _backend

INSUFFICIENT = {
    "error": "cudaErrorInsufficientDriver",
    "message": "CUDA driver version is insufficient for CUDA runtime version",
}


@pytest.mark.parametrize(
    ("built", "facts", "expected"),
    [
        ("13.0.88", {"gpus": 1, "driver": 13000}, "available: 1 GPU, kernels built with CUDA 13.0.88"),
        ("12.6.20", {"gpus": 8, "driver": 13000}, "available: 8 GPUs, kernels built with CUDA 12.6.20"),
        (
            "13.0.88",
            INSUFFICIENT,
            "unavailable: CUDA kernels are built (13.0.88), but there is no NVIDIA driver (a container has to be "
            "started with access to the GPU)",
        ),
        (
            "13.0.88",
            INSUFFICIENT | {"driver": 12040},
            "unavailable: CUDA kernels are built (13.0.88), but the NVIDIA driver is too old: it supports CUDA 12.4 "
            "and the kernels need CUDA 13; update the driver to 580 or later, or install ssd_fast where nvcc belongs "
            "to a CUDA 12 toolkit",
        ),
        (
            "12.8.61",
            INSUFFICIENT | {"driver": 11080},
            "unavailable: CUDA kernels are built (12.8.61), but the NVIDIA driver is too old: it supports CUDA 11.8 "
            "and the kernels need CUDA 12; update the driver to 525 or later",  # CUDA 11 cannot compile the kernels
        ),
        (
            "14.1.10",
            INSUFFICIENT | {"driver": 13010},
            "unavailable: CUDA kernels are built (14.1.10), but the NVIDIA driver is too old: it supports CUDA 13.1 "
            "and the kernels need CUDA 14; update the driver, or install ssd_fast where nvcc belongs to a CUDA 13 "
            "toolkit",
        ),
        (
            "13.0.88",
            INSUFFICIENT | {"driver": 13000},  # such as a driver that lacks functions
            "unavailable: CUDA kernels are built (13.0.88), but cudaErrorInsufficientDriver: "
            + INSUFFICIENT["message"],
        ),
        (
            "13.0.88",
            {"driver": 13000, "error": "cudaErrorNoDevice", "message": "no CUDA-capable device is detected"},
            "unavailable: CUDA kernels are built (13.0.88), but cudaErrorNoDevice: no CUDA-capable device is detected",
        ),
        ("13.0.88", {"driver": 13000}, "unavailable: CUDA kernels are built (13.0.88), but the machine has no GPU"),
    ],
)
def test_cuda_status_of_made_up_facts(monkeypatch, built, facts, expected):
    facts = {"gpus": 0, "error": "", "message": "", "driver": 0} | facts
    extension = SimpleNamespace(build_info={"cuda": built}, cuda_facts=lambda: SimpleNamespace(**facts))
    monkeypatch.setattr(_backend, "C", extension)
    assert ssd_fast.cuda_status() == expected


def test_cuda_status_of_emulator_is_available(emulated, monkeypatch):
    monkeypatch.setattr(_backend, "C", emulated)
    assert ssd_fast.cuda_status() == "available: 1 GPU, kernels built with CUDA emulated"


def test_cuda_status_of_gpu_is_available(cuda):
    count = torch.cuda.device_count()
    assert ssd_fast.cuda_status().startswith(f"available: {count} GPU{'s' if count > 1 else ''}, kernels built with ")


class DeviceArray:
    """An array that claims to be in the memory of a GPU."""

    def __init__(self, *shape: int) -> None:
        self.__cuda_array_interface__ = {"shape": shape, "typestr": "<f4", "data": (4096, False), "version": 3}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.skipif(_backend.C.build_info["cuda"] is None, reason="this build has no CUDA kernels")
def test_op_without_driver_points_to_cuda_status():
    """The status of this machine is one of the lines above, too."""
    assert ssd_fast.cuda_status().startswith("unavailable: CUDA kernels are built (")
    if "driver" not in ssd_fast.cuda_status():
        pytest.skip("there is a driver, and only the GPU is missing")
    with pytest.raises(RuntimeError, match=r"^ssd_fast: \w+: .*insufficient.* \(ssd_fast\.cuda_status\(\) says"):
        _backend.C.box_iou(DeviceArray(1, 4), DeviceArray(1, 4), DeviceArray(1, 1))
