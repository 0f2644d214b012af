"""The number of blocks that fit on a multiprocessor: by hand, and as NVIDIA's header computes it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from budgets import compile as cuda
from budgets.occupancy import MULTIPROCESSORS, resident

PROGRAM = r"""
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include "cuda_occupancy.h"
int main(int count, char** arguments) {
  cudaOccDeviceProp device;
  memset(&device, 0, sizeof device);
  device.computeMajor = atoi(arguments[1]);
  device.computeMinor = 0;
  device.maxThreadsPerBlock = 1024;
  device.maxThreadsPerMultiprocessor = atoi(arguments[2]) * 32;
  device.regsPerBlock = device.regsPerMultiprocessor = 65536;
  device.warpSize = 32;
  device.sharedMemPerBlock = 48 << 10;
  device.sharedMemPerMultiprocessor = atoi(arguments[3]);
  device.sharedMemPerBlockOptin = atoi(arguments[4]);
  device.reservedSharedMemPerBlock = 1024;
  device.numSms = 1;
  int registers, threads, shared;
  while (scanf("%d %d %d", &registers, &threads, &shared) == 3) {
    cudaOccFuncAttributes kernel;
    memset(&kernel, 0, sizeof kernel);
    kernel.maxThreadsPerBlock = 1024;
    kernel.numRegs = registers;
    kernel.partitionedGCConfig = PARTITIONED_GC_OFF;
    kernel.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN;
    kernel.maxDynamicSharedSizeBytes = shared;
    cudaOccDeviceState state;
    state.cacheConfig = CACHE_PREFER_NONE;
    state.carveoutConfig = 100;
    cudaOccResult result;
    memset(&result, 0, sizeof result);
    cudaOccMaxActiveBlocksPerMultiprocessor(&result, &device, &kernel, &state, threads, shared);
    printf("%d\n", result.activeBlocksPerMultiprocessor);
  }
}
"""


@pytest.mark.parametrize(
    ("architecture", "registers", "threads", "shared", "blocks", "limit"),
    [
        # 32 * 32 registers per warp: 64 warps; 64 / 8 warps per block.
        ("sm_90", 32, 256, 0, 8, "warps"),
        # 40 * 32 = 5 * 256 per warp: 12 warps in a quarter of 16384, 48 in all; 48 / 8.
        ("sm_90", 40, 256, 0, 6, "registers"),
        # 41 * 32 = 1312, rounded up to 1536: 10 in a quarter, 40 in all; 40 / 8.
        ("sm_90", 41, 256, 0, 5, "registers"),
        # 128 rows of 91 floats are 46592 bytes, and 1024: 233472 / 47616 = 4.9.
        ("sm_90", 32, 128, 46592, 4, "shared memory"),
        ("sm_80", 32, 128, 46592, 3, "shared memory"),  # 167936 / 47616 = 3.5
        ("sm_120", 32, 128, 46592, 2, "shared memory"),  # 102400 / 47616 = 2.2
        ("sm_90", 32, 32, 7296 - 1024, 32, "blocks"),  # 233472 / 7296 = 32
        ("sm_90", 32, 32, 7296 - 1024 + 1, 31, "shared memory"),  # one byte more takes 128: 233472 / 7424 = 31.4
        ("sm_120", 32, 32, 0, 24, "blocks"),
        ("sm_120", 32, 256, 0, 6, "warps"),  # 48 / 8
        ("sm_90", 64, 1024, 0, 1, "registers"),  # 2048 per warp: 8 in a quarter, 32 in all
        ("sm_90", 65, 1024, 0, 0, "registers"),  # 2304 per warp: 7 in a quarter, 28 in all
        ("sm_90", 32, 256, 227 * 1024, 1, "shared memory"),
        ("sm_90", 32, 256, 227 * 1024 + 1, 0, "shared memory"),
    ],
)
def test_resident_blocks_by_hand(
    architecture: str, registers: int, threads: int, shared: int, blocks: int, limit: str
) -> None:
    found = resident(architecture, registers, threads, shared)
    assert (found.blocks, found.limit) == (blocks, limit)
    assert found.warps == blocks * -(-threads // 32)
    assert found.share == found.warps / MULTIPROCESSORS[architecture].warps


@pytest.mark.parametrize("architecture", MULTIPROCESSORS)
def test_resident_blocks_equal_nvidia_header(tmp_path: Path, architecture: str) -> None:
    if cuda.nvcc() is None:
        pytest.skip("no CUDA toolkit (nvcc)")
    include, compiler = cuda.nvcc_folder().parent / "include", shutil.which("c++")
    if not (include / "cuda_occupancy.h").exists() or compiler is None:
        pytest.skip("the toolkit has no cuda_occupancy.h, or there is no C++ compiler")
    (tmp_path / "program.cpp").write_text(PROGRAM)
    program = tmp_path / "program"
    subprocess.run([compiler, "-w", "-I", str(include), str(tmp_path / "program.cpp"), "-o", str(program)], check=True)
    cases = [
        (registers, threads, shared)
        for registers in (8, 16, 24, 32, 33, 40, 41, 48, 56, 63, 64, 65, 72, 80, 96, 128, 168, 255)
        for threads in (32, 64, 96, 128, 160, 224, 256, 288, 384, 512, 640, 768, 1024)
        for shared in (0, 1, 127, 1024, 4000, 6145, 9216, 20001, 46592, 60000, 98304, 101376, 150000, 231000)
        if shared <= MULTIPROCESSORS[architecture].shared_block
    ]
    sm = MULTIPROCESSORS[architecture]
    arguments = [architecture.removeprefix("sm_")[:-1], str(sm.warps), str(sm.shared), str(sm.shared_block)]
    text = "\n".join(" ".join(map(str, case)) for case in cases)
    output = subprocess.run([str(program), *arguments], input=text, capture_output=True, text=True, check=True).stdout
    expected = [int(line) for line in output.split()]
    ours = [resident(architecture, *case).blocks for case in cases]
    wrong = [(case, a, b) for case, a, b in zip(cases, ours, expected, strict=True) if a != b]
    assert len(expected) == len(cases) > 1000 and not wrong, wrong[:5]
