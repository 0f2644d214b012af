"""The C++ runners of every kernel family, and of the demonstrations that test the emulator and its checker."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import mutate
import pytest

from helpers.paths import ROOT

BUILD = ROOT / "build" / "tests"
FLAVORS = ("plain", "asan", "check")
FAMILIES = re.findall(r"^ *ssd_add_runner\((\w+)", (ROOT / "CMakeLists.txt").read_text(), re.MULTILINE)

GOOD_CASES = {"plain": 34, "asan": 34, "check": 33}  # the checker supports one host thread
FAULTS = (
    "fault-sort-barrier",
    "fault-sum-barrier",
    "fault-sum-uninitialized",
    "fault-compact-barrier",
    "fault-nms-barrier",
    "fault-nms-global-overrun",
    "fault-nms-shared-overrun",
    "fault-exchange-unordered",
    "fault-exchange-shuffled",
    "fault-last-block-unreleased",
    "fault-last-block-unacquired",
    "fault-flag-too-early",
    "fault-histogram-barrier",
    "fault-two-writers",
    "fault-read-beside-atomic",
    "fault-synchronized-halves",
    "fault-divergent-barrier",
    "fault-missing-lane",
    "fault-livelock",
    "fault-copy-uninitialized",
    "fault-host-memory",
    "fault-use-after-free",
    "fault-no-shared-memory",
    "fault-grid-barrier",
    "fault-grid-block-missing",
    "fault-grid-not-cooperative",
    "fault-memset-not-awaited",
    "fault-launch-not-awaited",
    "fault-launch-awaited-alone",
    "fault-nobody-waits",
    "fault-overwrites-too-early",
    "fault-memset-too-early",
    "fault-two-streams",
    "fault-input-not-awaited",
    "fault-host-reads-too-early",
    "fault-cluster-not-started",
    "fault-cluster-barrier",
    "fault-cluster-ends-too-early",
    "fault-cluster-exited",
    "fault-cluster-asks-too-late",
    "fault-copy-source-written",
    "fault-copy-destination-written",
    "fault-copy-not-committed",
    "fault-copy-not-awaited",
    "fault-copy-barrier",
    "fault-copy-shuffled",
    "fault-copy-abandoned",
    "fault-copy-again-source-written",
    "fault-copy-misaligned",
    "fault-copy-of-12",
    "fault-narrow-release",
    "fault-narrow-acquire",
    "fault-narrow-atomic",
)


def cmake(*arguments: object) -> subprocess.CompletedProcess[str]:
    program = shutil.which("cmake", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if program is None:
        pytest.fail("cmake is needed to build the C++ runners, and is not on the PATH")
    command = [program, *map(str, arguments)]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.fixture(scope="session")
def runners() -> Path:
    """The folder of the runners, which are rebuilt if they are out of date."""
    if not (BUILD / "CMakeCache.txt").exists():
        pybind11 = subprocess.check_output([sys.executable, "-m", "pybind11", "--cmakedir"], text=True).strip()
        options = ["-DSSD_FAST_TESTS=ON", "-DSSD_FAST_CUDA=OFF", f"-DPython_EXECUTABLE={sys.executable}"]
        configured = cmake("-S", ROOT, "-B", BUILD, f"-Dpybind11_DIR={pybind11}", *options)
        if "needs the CUDA toolkit's headers" in configured.stdout:
            shutil.rmtree(BUILD)
            if os.environ.get("SSD_FAST_REQUIRE_EMULATED") == "1":
                pytest.fail("no CUDA toolkit headers, and SSD_FAST_REQUIRE_EMULATED=1 requires them")
            pytest.skip("the runners need the CUDA toolkit's headers, which were not found (set CUDA_HOME)")
        assert configured.returncode == 0, configured.stdout
    built = cmake("--build", BUILD, "--target", "runners", "--parallel", 2)
    assert built.returncode == 0, built.stdout[-8000:]
    return BUILD / "runners"


def run(program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, *arguments], capture_output=True, text=True)


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("family", FAMILIES)
def test_runner_passes(runners: Path, family: str, flavor: str) -> None:
    result = run(runners / f"{family}_{flavor}")
    closing_line = result.stdout.splitlines()[-1] if result.stdout else ""
    assert re.fullmatch(rf"{family}: [1-9]\d* passed, 0 failed", closing_line), result.stdout + result.stderr
    assert result.returncode == 0


@pytest.mark.parametrize("flavor", FLAVORS)
def test_no_demonstration_is_left_out(runners: Path, flavor: str) -> None:
    names = run(runners / f"demo_{flavor}", "--list").stdout.split()
    faults = tuple(name for name in names if name.startswith("fault-"))
    assert len(names) - len(faults) == GOOD_CASES[flavor]
    assert faults == (FAULTS if flavor == "check" else ())


@pytest.mark.parametrize("fault", FAULTS)
def test_checker_reports_fault(runners: Path, fault: str) -> None:
    """The checker reports it under every schedule, orderly ones included, and with its kind of error."""
    result = run(runners / "demo_check", fault)
    line, closing_line = result.stdout.splitlines()
    assert re.match(rf"caught +{fault} +5 schedules, .* reported in 5 ", line), result.stdout
    assert closing_line == "demo: 1 passed, 0 failed"


def test_runner_fails_when_a_case_does(runners: Path) -> None:
    """A missing fence does not change results: without the checker, the fault is missed."""
    result = run(runners / "demo_plain", "--faults", "fault-last-block-unreleased")
    assert result.returncode == 1
    assert re.match(r"MISSED +fault-last-block-unreleased ", result.stdout)
    assert result.stdout.splitlines()[-1] == "demo: 0 passed, 1 failed"


def test_runner_fails_when_it_runs_nothing(runners: Path) -> None:
    result = run(runners / "demo_plain", "no such case")
    assert result.returncode == 1
    assert "no case has that name" in result.stdout


@pytest.mark.parametrize("flavor", ["plain", "check"])
def test_launch_reports_kernel_failure(runners: Path, flavor: str) -> None:
    """Deadlocks and divergence need no checker: ssd::launch throws an error that names the kernel."""
    result = run(runners / f"demo_{flavor}", "--faults", "fault-divergent-barrier", "fault-missing-lane")
    assert "demo: 2 passed, 0 failed" in result.stdout, result.stdout


@pytest.mark.parametrize("setting", ["0", "1"])
def test_error_names_kernel_if_launches_are_awaited(runners: Path, setting: str) -> None:
    environment = os.environ | {"SSD_FAST_SYNC": setting}
    command = [runners / "demo_plain", "launch-waits"]
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert "demo: 1 passed, 0 failed" in result.stdout, result.stdout


def test_asan_names_kernel_block_and_thread(runners: Path) -> None:
    result = run(runners / "demo_asan", "--faults", "--schedules", "1", "fault-nms-shared-overrun")
    assert result.returncode != 0
    assert "AddressSanitizer: heap-buffer-overflow" in result.stderr
    assert re.search(r"in kernel .*nms_mask_kernel.* block \(\d+,\d+,0\) thread \(\d+,0,0\)", result.stderr)


def test_mutate_finds_statements() -> None:
    source = (
        "__syncthreads();\n"
        "if (last) __syncwarp(mask_of(x));  // mutate: harmless because it is an example\n"
        "if (__syncthreads_or(found)) return;  // __syncthreads();\n"
        "  __threadfence();\n"
        "grid_barrier();\n"
        "if (thread == 0) wait_for_predecessor();\n"
        "void cluster_barrier() { this_cluster().sync(); }\n"
        "  __pipeline_wait_prior(stages - 1);\n"
    )
    sites = list(mutate.find_sites(Path("kernel.cu"), source))
    assert [(site.line, source[site.begin : site.end], site.harmless) for site in sites] == [
        (1, "__syncthreads()", False),
        (2, "__syncwarp(mask_of(x))", True),
        (4, "__threadfence()", False),
        (5, "grid_barrier()", False),
        (6, "wait_for_predecessor()", False),
        (8, "__pipeline_wait_prior(stages - 1)", False),
    ]
    assert mutate.without(sites[1], source).splitlines()[1].startswith("if (last) ((void)0);")
