"""Run Nsight Compute on each kernel of a case: how long it takes, and what limits it."""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpu.processes import Ended
from gpu.report import CannotRunError, Report, python

# Cases of bench/device_cases.py: each op's kernels at one image and at a full batch.
PROFILED = (
    "postprocess sparse N=1 C=91",
    "postprocess sparse N=128 C=91",
    "multibox_loss training step N=32 C=91",
    "nms n=10000",
    "nms_padded N=8 C=90 n=400",
)

# Keys are the names in findings.
METRICS = {
    "us": "gpu__time_duration.sum",
    "dram_read_bytes": "dram__bytes_read.sum",
    "dram_write_bytes": "dram__bytes_write.sum",
    "load_sectors": "l1tex__t_sectors_pipe_lsu_mem_global_op_ld.sum",
    "load_requests": "l1tex__t_requests_pipe_lsu_mem_global_op_ld.sum",
    "store_sectors": "l1tex__t_sectors_pipe_lsu_mem_global_op_st.sum",
    "store_requests": "l1tex__t_requests_pipe_lsu_mem_global_op_st.sum",
    "bank_conflicts": "l1tex__data_bank_conflicts_pipe_lsu_mem_shared.sum",
    "instructions": "smsp__inst_executed.sum",
    "issue_percent": "smsp__issue_active.avg.pct_of_peak_sustained_active",
    "occupancy_percent": "sm__warps_active.avg.pct_of_peak_sustained_active",
    "stall_long_scoreboard": "smsp__average_warps_issue_stalled_long_scoreboard_per_issue_active.ratio",
    "stall_short_scoreboard": "smsp__average_warps_issue_stalled_short_scoreboard_per_issue_active.ratio",
    "stall_barrier": "smsp__average_warps_issue_stalled_barrier_per_issue_active.ratio",
    "stall_wait": "smsp__average_warps_issue_stalled_wait_per_issue_active.ratio",
    "stall_lg_throttle": "smsp__average_warps_issue_stalled_lg_throttle_per_issue_active.ratio",
    "stall_mio_throttle": "smsp__average_warps_issue_stalled_mio_throttle_per_issue_active.ratio",
    "registers": "launch__registers_per_thread",
    "limit_registers": "launch__occupancy_limit_registers",
    "limit_shared": "launch__occupancy_limit_shared_mem",
    "limit_warps": "launch__occupancy_limit_warps",
    "limit_blocks": "launch__occupancy_limit_blocks",
}
_SECONDS_PER_CASE = 45
_CANNOT_PROFILE = re.compile(r"==ERROR== (.*(?:Failed to initialize the profiler|ERR_NVGPUCTRPERM).*)")
_UNKNOWN_METRIC = re.compile(r"Failed to find metric (\S+)")


def profile(report: Report, names: Sequence[str]) -> None:
    """Profile one call of each case: one finding per case, with its kernels. ncu's own table goes to ncu.csv.

    A metric that this ncu does not know would make it exit, so it is left out.
    """
    if shutil.which("ncu") is None:
        raise CannotRunError("ncu was not found")
    metrics = dict(METRICS)
    for name in names:
        if report.over:
            report.findings.add("skipped", name, "the time of this step was over", late=True)
            continue
        with report.findings.case(name) as result:
            program = python("bench/profile_case.py", name, *(["--rehearse"] if report.options.rehearsal else []))
            ended = run_ncu(report, program, metrics, "--profile-from-start", "off")
            while unknown := set(_UNKNOWN_METRIC.findall(ended.output)) & set(metrics.values()):
                metrics = {short: metric for short, metric in metrics.items() if metric not in unknown}
                result.setdefault("unknown_metrics", []).extend(sorted(unknown))
                ended = run_ncu(report, program, metrics, "--profile-from-start", "off")
            table = table_of(ended)
            with (report.out / "ncu.csv").open("a") as file:
                file.write(f"# {name}\n" + "".join(f"{line}\n" for line in table))
            result["kernels"] = parse(table)
            # ncu exits with 0 even if it profiled nothing.
            if not table or ended.status:
                raise RuntimeError(f"ncu profiled {len(result['kernels'])} kernels; it {ended.verdict}: {ended.tail}")
        if not table and (reason := _CANNOT_PROFILE.search(ended.output)) is not None:
            raise CannotRunError(f"ncu cannot profile on this machine: {reason[1]}")


def run_ncu(report: Report, program: Sequence[str | Path], metrics: dict[str, str], *options: str) -> Ended:
    command = [
        *("env", "LC_ALL=C"),  # for the format of numbers
        *("ncu", "--clock-control", "none"),  # the card's settings stay as they are
        *("--print-kernel-base", "function", *options),
        *("--csv", "--page", "raw", "--print-units", "base", "--metrics", ",".join(metrics.values())),
        *program,
    ]
    return report.execute(command, "run", seconds=_SECONDS_PER_CASE, prefix="ncu: ", interrupt=True)


def table_of(ended: Ended) -> list[str]:
    """The lines of ncu's raw page."""
    return [line for line in ended.output.splitlines() if line.startswith('"')]


def parse(table: Sequence[str], metrics: dict[str, str] = METRICS) -> list[dict[str, Any]]:
    """The kernels in ncu's raw page, which has a row of names, a row of units, and one row per launch.

    ncu gives times in ns, the findings have us. A value that ncu could not collect is left out.
    """
    rows = list(csv.DictReader(table))[1:]
    kernels = []
    for row in rows:
        kernel: dict[str, Any] = {"name": row["Kernel Name"].partition("(")[0], "grid": row.get("Grid Size", "")}
        for short, metric in metrics.items():
            value = _number(row.get(metric))
            if value is not None:
                kernel[short] = round(value / 1e3, 3) if short == "us" else value
        for kind in ("load", "store"):
            if kernel.get(f"{kind}_requests"):
                kernel[f"sectors_a_{kind}"] = round(kernel[f"{kind}_sectors"] / kernel[f"{kind}_requests"], 2)
        kernels.append(kernel)
    return kernels


def _number(text: str | None) -> float | None:
    try:
        return float(str(text).replace(",", ""))
    except ValueError:
        return None
