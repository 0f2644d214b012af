"""Count without a GPU what the kernels cost: print the table, update it or check it.

    python scripts/kernel_budgets.py              print the table
    python scripts/kernel_budgets.py --update     write it to tests/golden/kernel_budgets.json
    python scripts/kernel_budgets.py --check      fail if a kernel spills or exceeds the file
    python scripts/kernel_budgets.py --page FILE  write the file's calls, with predicted times, to docs/benchmarks.md

The section "kernels" counts the machine code: registers, shared memory and spills, and the instructions, loads and
divisions of the loops. It needs nvcc, and nvdisasm for the counts. The section "calls" counts each op's calls:
launches, requests to memory, sectors and bank conflicts. It needs what `make build-tests` builds. Sources and flags are
those of CMakeLists.txt; kernels are known by file and name, loops by their source line. More: docs/kernel_budgets.md.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from budgets import compile as cuda
from budgets import page, table, tools


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true", help="write the table, for all architectures")
    parser.add_argument("--check", action="store_true", help="compare with the written table")
    parser.add_argument(
        "--arch", nargs="+", choices=cuda.ARCHITECTURES, default=cuda.ARCHITECTURES, help="of the section kernels"
    )
    parser.add_argument("--only", choices=[section.key for section in table.SECTIONS], help="one section of the table")
    parser.add_argument("--page", type=Path, help="the page whose table of calls to rewrite")
    options = parser.parse_args()
    try:
        return write_page(options.page) if options.page else count(options)
    except (OSError, ValueError) as error:  # no build, no page, a page without marks, a table that is not JSON
        print(f"kernel_budgets: {error}", file=sys.stderr)
        return 2


def write_page(path: Path) -> int:
    golden = table.read()
    if "calls" not in golden or "kernels" not in golden:
        raise ValueError(f"{table.GOLDEN} lacks a section: run `make budgets BUDGETS=--update` first")
    path.write_text(page.put(path.read_text("utf-8"), page.tables(golden["calls"], golden["kernels"])), "utf-8")
    return 0


def count(options: argparse.Namespace) -> int:
    """Measure the sections, print them, and write or compare them if asked to."""
    sections = [section for section in table.SECTIONS if options.only in (None, section.key)]
    if any(section.of_nvcc for section in sections) and (missing := tools.missing()):
        print(f"kernel_budgets: {missing}", file=sys.stderr)
        if options.update or cuda.nvcc() is None:
            return 2
    architectures = cuda.ARCHITECTURES if options.update else options.arch
    rows = {section.key: section.measure(architectures) for section in sections}
    if options.update:
        table.write(rows)
    failed = False
    for section in sections:
        print("\n".join(section.lines(rows[section.key])))
        golden = table.read() if options.check or options.update else {}
        found, unchecked = table.check(section, rows[section.key], golden)
        if options.check and unchecked:
            print(f"{section.key}: growth was not checked: {unchecked}")
        print("".join(f"{problem}\n" for problem in found), end="", file=sys.stderr)
        failed = failed or bool(found)
    if failed and options.check:
        print(table.ACCEPT, file=sys.stderr)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
