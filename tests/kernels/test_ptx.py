"""nvcc's PTX of the kernels has no approximate or flushing instruction and no fused multiply-add that the source does
not spell. tests/kernels/test_sass.py compares the kernels' costs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from budgets import compile as cuda

from helpers.paths import ROOT

SOURCES = cuda.sources()
# sm_90 alone is quick; SSD_FAST_ALL_ARCHS=1 takes every architecture of the table.
ARCHITECTURES = cuda.ARCHITECTURES if os.environ.get("SSD_FAST_ALL_ARCHS") == "1" else ("sm_90",)

needs_nvcc = pytest.mark.skipif(cuda.nvcc() is None, reason="no CUDA toolkit (nvcc)")

SPELLS_FMA = {"box_math.h": {"fma", "exp", "log_of_normal"}, "overlap.h": {"regular_overlap"}}  # functions that may

# Replaces the only spelling of a fused multiply-add on the device by a product and a sum. The headers come first: they
# declare the intrinsic that the macro replaces.
WITHOUT_FMA = """
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#define __fmaf_rn(a, b, c) __fadd_rn(__fmul_rn(a, b), c)
"""


def instructions(ptx: str) -> Iterator[str]:
    """Yield the opcodes of a PTX file, such as fma.rn.f32, without operands."""
    for statement in re.split(r"[;{}\n]", re.sub(r"//[^\n]*|/\*.*?\*/|\"[^\"\n]*\"", "", ptx, flags=re.DOTALL)):
        found = re.match(r"\s*(?:@!?%\w+\s+)?([a-z]\w*(?:\.\w+)+)\s", statement + " ")
        if found:
            yield found[1]


def inexact(ptx: str) -> list[str]:
    """Return the instructions that round otherwise than IEEE says, or flush subnormals."""
    return [opcode for opcode in instructions(ptx) if set(opcode.split(".")) & {"approx", "ftz", "full"}]


def fused(ptx: str) -> list[str]:
    """Return the fused multiply-adds of floating point numbers (mad.lo.s32 is one of integers)."""
    return [
        opcode
        for opcode in instructions(ptx)
        if opcode.split(".")[0] in ("fma", "mad") and re.search(r"\.b?f(16|16x2|32|32x2|64)$", opcode)
    ]


@pytest.fixture(scope="module")
def without_fma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    header = tmp_path_factory.mktemp("ptx") / "without_fma.h"
    header.write_text(WITHOUT_FMA)
    return header


@pytest.fixture(scope="module")
def ptx(without_fma: Path) -> dict[tuple[str, str], tuple[str, str]]:
    """The PTX of every source and architecture: as shipped, and with each spelled fma as a product and a sum."""

    def compile_twice(job: tuple[str, str]) -> tuple[str, str]:
        shipped = cuda.compile_cached(*job).ptx.read_text()
        return shipped, cuda.compile_ptx_cached(*job, without_fma)

    jobs = [(source, architecture) for source in SOURCES for architecture in ARCHITECTURES]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(jobs, pool.map(compile_twice, jobs), strict=True))


def test_every_cuda_source_is_built() -> None:
    assert sorted(cuda.cmake_list("SSD_CUDA_SOURCES")) == SOURCES


def test_flags_forbid_contraction_and_fast_math() -> None:
    device, host = cuda.cmake_list("SSD_CUDA_FLAGS"), cuda.cmake_list("SSD_CXX_FLAGS")
    assert "--fmad=false" in device and "-ffp-contract=off" in host
    assert not [flag for flag in device + host if "fast" in flag or "ftz" in flag or "prec-" in flag]


def test_fma_is_spelled_only_where_allowed() -> None:
    for path in sorted((ROOT / "csrc").rglob("*")):
        if path.suffix not in (".h", ".cuh", ".cu", ".cpp"):
            continue
        code = re.sub(r"//[^\n]*", "", path.read_text())
        if path.name not in SPELLS_FMA:
            assert not re.search(r"\bfma[fl]?\s*\(|__d?h?fma\w*\s*\(|__builtin_fma", code), f"{path.name} spells an fma"
            continue
        functions = re.split(r"^SSD_HD ", code, flags=re.MULTILINE)[1:]
        spelled = {re.match(r"[\w<>]+ (\w+)", text)[1] for text in functions if re.search(r"\bfma\(", text)}  # type: ignore[index]
        assert spelled == SPELLS_FMA[path.name]


@needs_nvcc
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("source", SOURCES)
def test_kernels_are_exact(ptx: dict[tuple[str, str], tuple[str, str]], source: str, architecture: str) -> None:
    shipped, plain = ptx[source, architecture]
    assert not inexact(shipped)
    # Without the spelled ones no fused multiply-add is left: the compiler added none.
    assert not fused(plain)
    assert set(fused(shipped)) <= {"fma.rn.f32"}


@needs_nvcc
def test_some_kernels_spell_fma(ptx: dict[tuple[str, str], tuple[str, str]]) -> None:
    """Otherwise the test above would also pass on PTX that it cannot read."""
    with_fma = {source for (source, _), (shipped, _) in ptx.items() if fused(shipped)}
    assert "csrc/box_coder/box_coder.cu" in with_fma
    assert "csrc/box_iou/box_iou.cu" not in with_fma


@needs_nvcc
@pytest.mark.parametrize(
    ("body", "options", "find", "expected"),
    [
        ("*x = __fadd_rn(__fmul_rn(x[0], x[1]), x[2]);", ["--fmad=true"], fused, []),
        ("*x = x[0] * x[1] + x[2];", [], fused, []),
        ("*x = x[0] * x[1] + x[2];", ["--fmad=true"], fused, [r"fma\.rn\.f32"]),
        ("*x = __fmaf_rn(x[0], x[1], x[2]);", [], fused, [r"fma\.rn\.f32"]),
        ("*x = x[0] / x[1];", [], inexact, []),
        ("*x = x[0] / x[1];", ["--prec-div=false"], inexact, [r"div\.full\.f32"]),
        ("*x = x[0] + x[1];", ["--ftz=true"], inexact, [r"add(\.rn)?\.ftz\.f32"]),
        ("if (x[1] > 0) *x = __frcp_rn(x[0]) + rsqrtf(x[1]);", [], inexact, [r"rsqrt\.approx\.f32"]),
    ],
)
def test_planted_faults_are_found(tmp_path: Path, body: str, options: list[str], find, expected: list[str]) -> None:
    source = tmp_path / "fault.cu"
    source.write_text(f"__global__ void kernel(float* x) {{ {body} }}\n")
    found = find(cuda.compile_ptx(source, "sm_90", tmp_path / "fault.ptx", *options))
    assert len(found) == len(expected)
    assert all(re.fullmatch(pattern, opcode) for pattern, opcode in zip(expected, found, strict=True)), found


@needs_nvcc
def test_box_math_is_never_contracted_without_our_flags(tmp_path: Path, without_fma: Path) -> None:
    """Users of Numba and NVRTC compile box_math.h without the flags of CMakeLists.txt."""
    source = tmp_path / "box_math.cu"
    source.write_text(
        '#include "common/box_math.h"\n'
        "__global__ void kernel(ssd::Box* b, const ssd::Deltas* d, ssd::BoxCoder coder, float* f) {\n"
        "  b[0] = ssd::decode(d[0], b[1], coder);\n"
        "  const ssd::Deltas e = ssd::encode(b[2], b[3], coder);\n"
        "  b[4] = ssd::Box{e.x, e.y, e.w, e.h};\n"
        "  f[0] = ssd::iou(b[5], b[6]);\n"
        "  f[1] = ssd::softmax_score(f[2], f[3], f[4]) + ssd::sigmoid(f[5]);\n"
        "  b[7] = ssd::clip(ssd::multiply(ssd::divide(b[8], f[6], f[7]), f[8], f[9]), f[8], f[9]);\n"
        "  const ssd::FocalLoss focal{f[15], f[16], f[17]};\n"
        "  f[18] = ssd::focal_loss(f[18], f[19] > 0, focal) + ssd::focal_slope(f[20], f[19] > 0, focal);\n"
        "  f[21] = ssd::coverage(b[10], ssd::area(b[10]), b[11]);\n"
        "  b[9] = ssd::box_around(ssd::cell_center(threadIdx.x, f[10], f[11]), f[12], f[13], f[14]);\n"
        "}\n"
    )
    plain = cuda.compile_ptx(source, "sm_90", tmp_path / "box_math.ptx", "--fmad=true", "-include", str(without_fma))
    assert not fused(plain) and not inexact(plain)
    assert sum(opcode.startswith("mul.") for opcode in instructions(plain)) > 10
