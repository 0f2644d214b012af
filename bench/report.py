"""Runs every benchmark and writes a report of the results: results.json, results.md, log.txt, and plots.

    python bench/report.py OUT [--quick] [--docs docs/benchmarks.md]

On a shared CPU only ratios are worth quoting, so times on the CPU are not written, unless --quiet-machine says that
nothing else runs. A benchmark that fails is listed, and makes the exit status 1.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch

import ssd_fast

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"

Row = dict[str, Any]


def run_benchmarks(folder: Path, quick: bool) -> tuple[list[Row], list[str], int]:
    """(a row a benchmark, the names of those that failed, how many were skipped). Leaves log.txt."""
    environment = os.environ | ({"SSD_FAST_BENCH_QUICK": "1"} if quick else {})
    with tempfile.TemporaryDirectory() as temporary:
        results, outcome = Path(temporary) / "benchmark.json", Path(temporary) / "junit.xml"
        command = [sys.executable, "-m", "pytest", str(ROOT / "bench"), "-rfE", "-p", "no:cacheprovider"]
        command += ["-o", "python_files=bench_*.py", "-o", "python_functions=bench_*", f"--junitxml={outcome}"]
        command += [f"--benchmark-json={results}", "--benchmark-columns=median,iqr,rounds"]
        with (folder / "log.txt").open("w") as log:
            process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            assert process.stdout is not None
            for line in process.stdout:
                print(line, end="", flush=True)
                log.write(line.replace(str(ROOT), "."))
            process.wait()
        text = results.read_text() if results.exists() else ""
        benchmarks = json.loads(text)["benchmarks"] if text else []
        rows = [row(benchmark["extra_info"]) for benchmark in benchmarks if benchmark["extra_info"]]
        failed, skipped = [], 0
        if outcome.exists():
            for case in ElementTree.parse(outcome).getroot().iter("testcase"):
                skipped += case.find("skipped") is not None
                if case.find("failure") is not None or case.find("error") is not None:
                    failed.append(str(case.get("name")))
    if not rows and not failed:
        failed.append(f"pytest itself (exit status {process.returncode})")
    return rows, failed, skipped


def row(info: dict[str, Any]) -> Row:
    """What the harness recorded, with ratios to the rivals, bytes a second and the share of the byte limit.

    The best figure for the device is that of a replayed graph; without one, that of single calls.
    """
    ours = info["ours"]
    seconds = median(ours, "graph") or median(ours, "call")
    assert seconds is not None
    limit = info["bytes"] / info["bandwidth"]
    ratios: dict[str, dict[str, float]] = {}
    for name, times in info["rivals"].items():
        ratios[name] = {
            kind: round(theirs / mine, 3)
            for kind in ("call", "graph")
            if (theirs := median(times, kind)) and (mine := median(ours, kind))
        }
        # Where others use the CPU too, the fastest calls are the ones that nobody disturbed.
        ratios[name]["fastest call"] = round(times["call"]["min"] / ours["call"]["min"], 3)
    return {
        **{key: info[key] for key in ("op", "device", "memory", "parameters", "past_cache", "bytes")},
        "ratios": ratios,
        "absent": info["absent"],
        "limit_seconds": limit,
        "share_of_limit": limit / seconds,
        "bytes_a_second": info["bytes"] / seconds,
        "ours": ours,
        "rivals": info["rivals"],
    }


def median(times: dict[str, Any], kind: str) -> float | None:
    return times[kind]["median"] if times.get(kind) else None


def without_times(row: Row) -> Row:
    """A row of a shared CPU: ratios, and how widely our own calls scattered."""
    spread = row["ours"]["call"]
    kept = {
        key: row[key] for key in ("op", "device", "memory", "parameters", "past_cache", "bytes", "ratios", "absent")
    }
    return {
        **kept,
        "share_of_limit": row["share_of_limit"],
        "rounds": row["ours"]["rounds"],
        "our_quartiles_over_median": [spread["q1"] / spread["median"], spread["q3"] / spread["median"]],
    }


def environment() -> dict[str, Any]:
    """The machine and the software, without names of hosts, users or folders."""
    cpu = re.search(r"model name\s*:\s*(.+)", read("/proc/cpuinfo"))
    memory = re.search(r"MemTotal:\s*(\d+)", read("/proc/meminfo"))
    found: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
        "commit": git("rev-parse", "--short", "HEAD") + (" + changes" if git("status", "--porcelain") else ""),
        "cpu": cpu[1] if cpu else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(int(memory[1]) / 2**20) if memory else None,
        "load_average": [round(value, 1) for value in os.getloadavg()],
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torch_threads": torch.get_num_threads(),
        "ssd_fast": {"version": ssd_fast.__version__, **ssd_fast.build_info(), "cuda_status": ssd_fast.cuda_status()},
        "gpu": None,
    }
    for name in ("torchvision", "numba", "numba_cuda", "cupy", "cv2"):
        try:
            found[name] = getattr(__import__(name), "__version__", "installed")
        except (ImportError, OSError):
            found[name] = None
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        query = [
            "nvidia-smi",
            "--query-gpu=driver_version,clocks.max.sm,clocks.max.mem,power.limit",
            "--format=csv,noheader",
        ]
        found["gpu"] = {
            "name": properties.name,
            "multiprocessors": properties.multi_processor_count,
            "l2_bytes": properties.L2_cache_size,
            "memory_gib": round(properties.total_memory / 2**30),
            "torch_cuda": torch.version.cuda,
            "driver, largest clocks, power limit": output(["nvidia-smi", query, "--format=csv,noheader"]).strip(),
        }
    return found


def read(path: str) -> str:
    return Path(path).read_text() if Path(path).exists() else ""


def git(*arguments: str) -> str:
    return output(["git", *arguments]).strip()


def output(command: list[str]) -> str:
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    except OSError:
        return ""


# ---- Markdown -------------------------------------------------------------------------------------------------------


def markdown(report: dict[str, Any]) -> str:
    facts, rows = report["environment"], report["rows"]
    gpu = f", {facts['gpu']['name']}" if facts["gpu"] else ", no GPU"
    lines = [
        f"Measured on {facts['date']}, commit {facts['commit']}: {facts['cpu']}, {facts['cores']} cores{gpu}; torch "
        f"{facts['torch']}, torchvision {facts['torchvision'] or 'absent'}, Python {facts['python']}; load average "
        f"{facts['load_average'][0]} at the start.",
        "",
    ]
    lines += [
        "A rival's cell is its time divided by ours: of a call (medians), of the fastest calls, and on a GPU of a call "
        "within a replayed CUDA graph. The byte limit is the least that must be read and written, at the speed of a "
        "large copy; inputs that lie in a cache can exceed it.",
        "",
    ]
    if report["quick"]:
        lines += ["A quick run: few rounds, to see that the benchmarks work. Its figures are worth little.", ""]
    for device in sorted({row["device"] for row in rows}, reverse=True):
        for op in dict.fromkeys(row["op"] for row in rows if row["device"] == device):
            lines += [f"### {op}, {device.upper()}", ""]
            lines += [*table([row for row in rows if row["device"] == device and row["op"] == op]), ""]
    absent = sorted({f"{row['op']}: {name}: {why}" for row in rows for name, why in row["absent"].items()})
    if absent:
        lines += ["### Rivals not timed", "", *(f"- {line}" for line in absent), ""]
    lost = [
        f"- {row['op']}, {row['device']}, {describe(row)}: {name} takes {value:.2f} of our time ({kind})"
        for row in rows
        for name, ratios in row["ratios"].items()
        for kind, value in ratios.items()
        if value < 1 and kind != "fastest call" and not name.startswith("softmax alone")
    ]
    lines += ["### Where a rival is faster", "", *(lost or ["Nowhere in this run."]), ""]
    if report["failed"]:
        lines += ["### Failed", "", *(f"- {name}" for name in report["failed"]), ""]
    return "\n".join(lines)


def table(rows: list[Row]) -> list[str]:
    rivals = list(dict.fromkeys(name for row in rows for name in row["ratios"]))
    timed = "ours" in rows[0]
    header = ["case", *(["ours, a call", "ours, in a graph", "GB/s"] if timed else []), "share of byte limit", *rivals]
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    for row in rows:
        cells = [describe(row)]
        if timed:
            cells += [duration(median(row["ours"], "call")), duration(median(row["ours"], "graph"))]
            cells.append(f"{row['bytes_a_second'] / 1e9:.1f}")
        cells.append(f"{row['share_of_limit']:.1%}")
        for name in rivals:
            ratios = row["ratios"].get(name, {})
            texts = [f"{value:.2f}x" + ("" if kind == "call" else f" ({kind})") for kind, value in ratios.items()]
            cells.append(", ".join(texts) or "-")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def describe(row: Row) -> str:
    parameters = ", ".join(f"{key} {value}" for key, value in row["parameters"].items())
    memory = row["memory"] + ("" if row["memory"] == "warm" or row["past_cache"] else " (within the cache)")
    return f"{parameters}; {memory}"


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1e6:.1f} us" if seconds < 1e-3 else f"{seconds * 1e3:.2f} ms"


# ---- plots ----------------------------------------------------------------------------------------------------------


def plot(rows: list[Row], folder: Path) -> None:
    """A bar a case: how many times longer torchvision takes. Nothing without matplotlib."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        return
    for device in {row["device"] for row in rows}:
        bars = [
            (f"{row['op']}: {describe(row)}", ratio)
            for row in rows
            if row["device"] == device and row["memory"] == "warm"
            for ratio in [row["ratios"].get("torchvision", {}).get("call")]
            if ratio
        ]
        if not bars:
            continue
        figure, axes = pyplot.subplots(figsize=(10, 1 + 0.25 * len(bars)), layout="constrained")
        names, values = zip(*reversed(bars), strict=True)
        axes.barh(names, values, color=["tab:red" if value < 1 else "tab:blue" for value in values])
        axes.axvline(1, color="black", linewidth=1)
        axes.set(xscale="log", xlabel="torchvision's time / ours", title=f"{device.upper()}, a call, warm inputs")
        axes.tick_params(axis="y", labelsize=7)
        figure.savefig(folder / f"ratios_{device}.png", dpi=120)
        pyplot.close(figure)


def update_docs(path: Path, text: str) -> None:
    """Puts the results between the two marks of a page."""
    page = path.read_text()
    before, found, rest = page.partition(BEGIN)
    _, found_end, after = rest.partition(END)
    if not found or not found_end:
        raise ValueError(f"{path}: expected the marks {BEGIN} and {END}")
    path.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for the report")
    parser.add_argument("--quick", action="store_true", help="few rounds and no large cases: a trial of the benchmarks")
    parser.add_argument("--quiet-machine", action="store_true", help="write CPU times too: nothing else runs here")
    parser.add_argument("--docs", type=Path, help="a page to put the results into, such as docs/benchmarks.md")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    facts = environment()
    rows, failed, skipped = run_benchmarks(options.out, options.quick)
    shown = [row if row["device"] == "cuda" or options.quiet_machine else without_times(row) for row in rows]
    report = {"environment": facts, "quick": options.quick, "failed": failed, "skipped": skipped, "rows": shown}
    (options.out / "results.json").write_text(json.dumps(report, indent=1) + "\n")
    text = markdown(report)
    (options.out / "results.md").write_text(f"# Benchmarks of ssd_fast\n\n{text}")
    plot(rows, options.out)
    if options.docs:
        update_docs(options.docs, text)
    print(f"{len(rows)} benchmarks, {len(failed)} failed, {skipped} not for this machine: {options.out / 'results.md'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
