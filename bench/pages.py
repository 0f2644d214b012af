"""Render the report as Markdown and as a plot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_RESPELLED = ("vectorised", "vectorized")  # codespell:ignore vectorised (findings up to 2026-11-27 spell it so)
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"

Row = dict[str, Any]


def median(times: dict[str, Any], kind: str) -> float | None:
    return times[kind]["median"] if times.get(kind) else None


def markdown(report: dict[str, Any]) -> str:
    facts, rows = report["environment"], report["rows"]
    gpu = f", {_gpu(facts['gpu'])}" if facts["gpu"] else ", no GPU"
    lines = [
        f"Measured on {facts['date']}, commit {facts['commit']}: {facts['cpu']}, {facts['cores']} cores{gpu}; torch "
        f"{facts['torch']}, torchvision {facts['torchvision'] or 'absent'}, Python {facts['python']}; load average "
        f"{facts['load_average'][0]} at the start.",
        "",
    ]
    lines += [
        "A rival's cell is its time divided by ours: per call (the median of the rounds' ratios, with their quartiles "
        "in brackets; without brackets, the ratio of the medians), for the fastest calls, and on a GPU per call in a "
        "replayed CUDA graph. The byte limit is the least that must be read and written, at the speed of a large copy; "
        "inputs that lie in a cache can exceed it.",
        "",
    ]
    if report["quick"]:
        lines += ["This was a quick run with few rounds, which only shows that the benchmarks work.", ""]
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
        if value < 1 and kind != "fastest call" and " alone (" not in name
    ]
    lines += ["### Where a rival is faster", "", *(lost or ["Nowhere in this run."]), ""]
    if report["failed"]:
        lines += ["### Failed", "", *(f"- {name}" for name in report["failed"]), ""]
    return "\n".join(lines).replace(*_RESPELLED)


def _gpu(facts: dict[str, Any]) -> str:
    driver = str(facts.get("driver, largest clocks, power limit", "")).partition(",")[0]
    return facts["name"] + (f" (driver {driver})" if driver else "")


def table(rows: list[Row]) -> list[str]:
    rivals = list(dict.fromkeys(name for row in rows for name in row["ratios"]))
    timed = "ours" in rows[0]
    header = [
        "case",
        *(["ours, per call", "ours, in a graph", "GB/s"] if timed else []),
        "share of byte limit",
        *rivals,
    ]
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    for row in rows:
        cells = [describe(row)]
        if timed:
            cells += [duration(median(row["ours"], "call")), duration(median(row["ours"], "graph"))]
            cells.append(f"{row['bytes_per_second'] / 1e9:.1f}")
        cells.append(f"{row['share_of_limit']:.1%}")
        for name in rivals:
            ratios = row["ratios"].get(name, {})
            low, high = row.get("quartiles", {}).get(name, (None, None))
            spread = f" [{low:.2f}, {high:.2f}]" if low is not None else ""
            texts = [f"{value:.2f}x" + (spread if kind == "call" else f" ({kind})") for kind, value in ratios.items()]
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
    """Plot one bar per case: torchvision's time divided by ours. Without matplotlib, do nothing."""
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
        axes.set(xscale="log", xlabel="torchvision's time / ours", title=f"{device.upper()}, per call, warm inputs")
        axes.tick_params(axis="y", labelsize=7)
        figure.savefig(folder / f"ratios_{device}.png", dpi=120)
        pyplot.close(figure)


def update_docs(path: Path, text: str) -> None:
    """Put the results between the two marks of a page."""
    page = path.read_text()
    before, found, rest = page.partition(BEGIN)
    _, found_end, after = rest.partition(END)
    if not found or not found_end:
        raise ValueError(f"{path}: expected the marks {BEGIN} and {END}")
    path.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}")
