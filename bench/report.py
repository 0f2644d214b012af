"""Run every benchmark and write a report of the results: results.json, results.md, log.txt, and plots.

    python bench/report.py OUT [--quick] [--docs docs/benchmarks.md]
    python bench/report.py OUT --findings FINDINGS.jsonl [--docs docs/benchmarks.md]

With --findings it runs nothing, and reports what stage `rivals` of the GPU report found on another machine.
On a shared CPU only ratios are worth quoting, so times on the CPU are not written, unless --quiet-machine says that
nothing else runs. A benchmark that fails is listed, and the exit status is then 1.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from machine import environment
from pages import Row, markdown, median, plot, update_docs

sys.path.append(str(Path(__file__).resolve().parents[1] / "scripts"))

from gpu import findings

ROOT = Path(__file__).resolve().parents[1]


def run_benchmarks(folder: Path, quick: bool) -> tuple[list[Row], list[str], int]:
    """(one row per benchmark, the names of those that failed, how many were skipped). Writes log.txt."""
    environment = os.environ | ({"SSD_FAST_BENCH_QUICK": "1"} if quick else {})
    with tempfile.TemporaryDirectory() as temporary:
        results, outcome = Path(temporary) / "benchmark.json", Path(temporary) / "junit.xml"
        command = [sys.executable, "-m", "pytest", str(ROOT / "bench"), "-rfE", "-p", "no:cacheprovider"]
        command += [f"--junitxml={outcome}", f"--benchmark-json={results}", "--benchmark-columns=median,iqr,rounds"]
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


def rows_of_findings(path: Path) -> tuple[dict[str, Any], list[Row], list[str], int]:
    """(the machine, one row per benchmark, the names of those that failed, how many were skipped) of a GPU report.

    Raises: ValueError: it has no stage `rivals`, or was killed before that stage found anything.
    """
    found = [finding for finding in findings.read(path) if finding.get("stage") == "rivals"]
    machine = next((finding["environment"] for finding in found if "environment" in finding), None)
    # The last finding of each case, per step: the rivals that compile run in a step of their own.
    benchmarks = list(
        {(finding["step"], finding["case"]): finding for finding in found if "::" in finding["case"]}.values()
    )
    rows = joined([row(finding["measured"]) for finding in benchmarks if "measured" in finding])
    if machine is None or not rows:
        raise ValueError(f"{path}: expected findings of the stage rivals, got none with a machine and a result")
    failed = [finding["case"] for finding in benchmarks if finding["status"] in ("failed", "crashed", "hung")]
    return machine, rows, failed, sum(finding["status"] == "skipped" for finding in benchmarks)


def joined(rows: list[Row]) -> list[Row]:
    """Join the rows of each case, whose rivals may have been timed in several runs; each ratio is within one run."""
    found: dict[str, Row] = {}
    for row in rows:
        key = json.dumps([row[name] for name in ("op", "device", "memory", "parameters")])
        first = found.setdefault(key, row)
        for name in ("ratios", "quartiles", "rivals", "absent"):
            first[name] = first[name] | row[name]
        first["absent"] = {name: why for name, why in first["absent"].items() if name not in first["ratios"]}
    return list(found.values())


def row(info: dict[str, Any]) -> Row:
    """The harness's record with ratios to the rivals, bytes per second and the share of the byte limit.

    The time on the device is that of a replayed graph or, without one, of single calls.
    """
    ours = info["ours"]
    seconds = median(ours, "graph") or median(ours, "call")
    assert seconds is not None
    limit = info["bytes"] / info["bandwidth"]
    ratios: dict[str, dict[str, float]] = {}
    quartiles: dict[str, list[float]] = {}
    for name, times in info["rivals"].items():
        ratios[name] = {
            kind: round(theirs / mine, 3)
            for kind in ("call", "graph")
            if (theirs := median(times, kind)) and (mine := median(ours, kind))
        }
        if ratio := times.get("ratio"):  # per round: whatever slows a round down slows both
            ratios[name]["call"] = round(ratio["median"], 3)
            quartiles[name] = [round(ratio["q1"], 3), round(ratio["q3"], 3)]
        # On a shared CPU, the fastest calls are those that nothing disturbed.
        ratios[name]["fastest call"] = round(times["call"]["min"] / ours["call"]["min"], 3)
    return {
        **{key: info[key] for key in ("op", "device", "memory", "parameters", "past_cache", "bytes")},
        "ratios": ratios,
        "quartiles": quartiles,
        "absent": info["absent"],
        "limit_seconds": limit,
        "share_of_limit": limit / seconds,
        "bytes_per_second": info["bytes"] / seconds,
        "ours": ours,
        "rivals": info["rivals"],
    }


def without_times(row: Row) -> Row:
    """A row for a shared CPU: ratios, and the spread of our own calls."""
    spread = row["ours"]["call"]
    kept = {
        key: row[key]
        for key in ("op", "device", "memory", "parameters", "past_cache", "bytes", "ratios", "quartiles", "absent")
    }
    return {
        **kept,
        "share_of_limit": row["share_of_limit"],
        "rounds": row["ours"]["rounds"],
        "our_quartiles_over_median": [spread["q1"] / spread["median"], spread["q3"] / spread["median"]],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for the report")
    parser.add_argument("--quick", action="store_true", help="few rounds and no large cases: a trial of the benchmarks")
    parser.add_argument("--quiet-machine", action="store_true", help="write CPU times too: nothing else runs here")
    parser.add_argument("--docs", type=Path, help="a page to put the results into, such as docs/benchmarks.md")
    parser.add_argument("--findings", type=Path, help="findings of a GPU report, which ran the benchmarks elsewhere")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.findings:
        try:
            facts, rows, failed, skipped = rows_of_findings(options.findings)
        except ValueError as error:
            parser.error(str(error))
    else:
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
