"""The section "calls" of the table: what the kernels of each op's calls do, compared with what the table allows."""

from __future__ import annotations

from collections.abc import Sequence

from budgets.rows import Row, Rows

# The inputs come from torch's generators, whose numbers may differ between CPUs in the last bit. Then one candidate
# more or less passes a threshold.
SLACK = 0.005


def measure(architectures: Sequence[str] = ()) -> Rows:
    """Count all cases. They do not depend on the architecture."""
    from budgets import traffic  # imports torch
    from budgets.cases import CASES

    extension = traffic.load_counted()
    return {case.name: traffic.count(case, extension) for case in CASES}


def problems(rows: Rows, golden: Rows | None) -> list[str]:
    """Counts above the table's, or not in it. Lower counts are not a problem."""
    if golden is None:
        return []
    found = [f"{case}: in the table, but no such case" for case in golden if case not in rows]
    for case, kernels in rows.items():
        allowed = golden.get(case, {})
        found += [f"{case}: {kernel}: not in the table" for kernel in kernels if kernel not in allowed]
        found += [f"{case}: {kernel}: in the table, but not launched" for kernel in allowed if kernel not in kernels]
        for kernel in kernels.keys() & allowed.keys():
            found += [f"{case}: {kernel}: {text}" for text in worse(kernels[kernel], allowed[kernel])]
    return found


def worse(row: Row, allowed: Row) -> list[str]:
    """The counts that grew, and the widths that fell."""
    found = []
    for key in sorted(row.keys() | allowed.keys()):
        now, before = row.get(key, 0), allowed.get(key, 0)
        if key in ("load_width", "store_width"):
            if now < before:
                found.append(f"{key} fell from {before} to {now}")
        elif key not in ("blocks", "threads") and now > before * (1 + SLACK):
            found.append(f"{key} grew from {before:,} to {now:,}")
    return found


def lines(rows: Rows) -> list[str]:
    """The rows as text."""
    text = []
    for case, kernels in rows.items():
        text.append(case)
        for kernel, row in kernels.items():
            text.append(f"  {kernel}: " + ", ".join(f"{key.replace('_', ' ')} {n:,}" for key, n in row.items()))
    return text
