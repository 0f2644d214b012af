"""Compare Nsight Compute's counts for kernels of known access patterns with what their addresses imply."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from gpu.ncu import parse, run_ncu, table_of
from gpu.report import CannotRunError, Report

RUNNER = "patterns_cuda"  # tests/cpp/run_patterns.cpp: prints each pattern's counts as JSON

METRICS = {
    "load_requests": "l1tex__t_requests_pipe_lsu_mem_global_op_ld.sum",
    "load_sectors": "l1tex__t_sectors_pipe_lsu_mem_global_op_ld.sum",
    "store_requests": "l1tex__t_requests_pipe_lsu_mem_global_op_st.sum",
    "store_sectors": "l1tex__t_sectors_pipe_lsu_mem_global_op_st.sum",
    "shared_load_requests": "smsp__inst_executed_op_shared_ld.sum",
    "shared_load_conflicts": "l1tex__data_bank_conflicts_pipe_lsu_mem_shared_op_ld.sum",
    "shared_store_requests": "smsp__inst_executed_op_shared_st.sum",
    "shared_store_conflicts": "l1tex__data_bank_conflicts_pipe_lsu_mem_shared_op_st.sum",
}


def check_patterns(report: Report, runners: list[Path]) -> None:
    """One case per pattern, which fails if one of its counts differs."""
    if shutil.which("ncu") is None:
        raise CannotRunError("ncu was not found")
    runner = next((path for path in runners if path.name == RUNNER), None)
    if runner is None:
        raise CannotRunError(f"{RUNNER} is not among the runners")
    ended = run_ncu(report, [runner], METRICS)
    patterns = [json.loads(line) for line in ended.output.splitlines() if line.startswith('{"pattern"')]
    kernels = parse(table_of(ended), METRICS)
    if ended.status or len(kernels) != len(patterns):
        raise RuntimeError(f"ncu profiled {len(kernels)} of {len(patterns)} patterns; it {ended.verdict}: {ended.tail}")
    for pattern, kernel in zip(patterns, kernels, strict=True):
        with report.findings.case(pattern["pattern"]) as result:
            result["profiled"] = {name: kernel[name] for name in METRICS if name in kernel}
            wrong = differences(expected(pattern), kernel)
            if wrong:
                raise RuntimeError("; ".join(wrong))


def expected(pattern: dict[str, Any]) -> dict[str, int]:
    """The counts of a pattern by the names of METRICS. Each of its lists is [requests, sectors, conflicts]."""
    loads, stores = pattern["loads"], pattern["stores"]
    shared_loads, shared_stores = pattern["shared_loads"], pattern["shared_stores"]
    counts = (*loads[:2], *stores[:2], shared_loads[0], shared_loads[2], shared_stores[0], shared_stores[2])
    return dict(zip(METRICS, counts, strict=True))


def differences(counts: dict[str, int], kernel: dict[str, Any]) -> list[str]:
    """Where the profiler's counts differ or are missing."""
    return [f"{name}: expected {n}, got {kernel.get(name)}" for name, n in counts.items() if kernel.get(name) != n]
