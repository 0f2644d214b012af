"""docs/guarantees.md: every test that it names exists, and its notes on GPUs, make targets and links are true."""

from __future__ import annotations

import ast
import functools
import re

import pytest

import ssd_fast
from helpers.paths import ROOT

PAGE = (ROOT / "docs/guarantees.md").read_text()
TABLES = (
    *("Results", "Ties", "Arguments", "Memory, devices, threads and graphs", "Derivatives", "Files and terminals"),
    *("Datasets", "Training and checkpoints", "Weights and compatibility", "Commands"),
)
UNPROVEN = "Not proven yet"
HEADER = ["| promise | test |", "| --- | --- |"]
PROOF = re.compile(
    r"`(?:make (?P<target>[a-z-]+)|(?P<file>tests/\w+/test_\w+\.py)::(?P<test>test_\w+))`(?P<gpu> \(needs a GPU\))?"
)


@functools.cache
def functions_of(file: str) -> dict[str, set[str]]:
    """Return the fixtures and parameters of each test function in a file, by its name."""
    path = ROOT / file
    tree = ast.parse(path.read_text()) if path.is_file() else ast.Module([], [])
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return {node.name: {argument.arg for argument in node.args.args} for node in functions}


@functools.cache
def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def sections(page: str) -> dict[str, list[str]]:
    """Return the lines of each section that are not empty, by title."""
    _, *parts = re.split(r"^## (.*)\n", page, flags=re.MULTILINE)
    texts = zip(parts[::2], parts[1::2], strict=True)
    return {title: [line for line in text.splitlines() if line] for title, text in texts}


def faults_of_proof(proof: str) -> list[str]:
    found = PROOF.fullmatch(proof)
    if found is None:
        return [f"not a test or a make target: {proof}"]
    if found["target"]:
        return [] if found["target"] in make_targets() else [f"no such make target: {proof}"]
    arguments = functions_of(found["file"]).get(found["test"])
    if arguments is None:
        return [f"no such test: {proof}"]
    if ("cuda" in arguments) != bool(found["gpu"]):
        return [f"wrong about needing a GPU: {proof}"]
    return []


def faults_of_row(row: str) -> list[str]:
    cells = row.removeprefix("| ").removesuffix(" |").split(" | ")
    if len(cells) != 2 or not cells[0].endswith("."):
        return [f"not a sentence and its tests: {row}"]
    return [fault for proof in cells[1].split(", ") for fault in faults_of_proof(proof)]


def faults(page: str) -> list[str]:
    """Return the faults of the page."""
    found, by_title = [], sections(page)
    if tuple(by_title) != (*TABLES, UNPROVEN):
        found.append(f"other sections: {list(by_title)}")
    rows = []
    for title, lines in by_title.items():
        if title == UNPROVEN:
            found += [f"not in a list: {line}" for line in lines if not line.startswith(("- ", "  "))]
        elif lines[:2] != HEADER or len(lines) < 3:
            found.append(f"no rows: {title}")
        else:
            rows += lines[2:]
    found += [fault for row in rows for fault in faults_of_row(row)]
    promises = [row.split(" | ")[0] for row in rows]
    found += [f"twice: {promise}" for promise in sorted({p for p in promises if promises.count(p) > 1})]
    mentioned = "\n".join(promises)
    found += [f"no promise of {op}" for op in ssd_fast.ops.__all__ if f"`{op}`" not in mentioned]
    found += [f"too long: {line}" for line in page.splitlines() if len(line) > 120 and not line.startswith("|")]
    return found


def test_page_has_no_faults():
    assert faults(PAGE) == []


ROW = next(line for line in PAGE.splitlines() if "test_ops_take_arrays_of_other_libraries_on_gpu" in line)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("::test_backend_gives_the_bits`", "::test_backend_gives_bits`", "no such test: .*test_backend_gives_bits"),
        (
            "`tests/every_op/test_bits.py::test_threads",
            "`tests/every_op/test_bit.py::test_threads",
            r"no such test: .*test_bit\.py",
        ),
        ("`make kill-test`", "`make kill`", "no such make target: `make kill`"),
        ("`make mutate` |", "", "not a test or a make target: "),
        (ROW, ROW.replace(" (needs a GPU)", ""), "wrong about needing a GPU: .*on_gpu"),
        ("::test_by_hand`", "::test_by_hand` (needs a GPU)", "wrong about needing a GPU: .*test_by_hand"),
        (ROW, ROW.replace(". |", " |"), "not a sentence and its tests: .*CuPy"),
        (ROW, f"{ROW}\n{ROW}", "twice: .*CuPy"),
        ("## Ties", "## Draws", "other sections: .*'Draws'"),
        ("## Ties\n", "## Ties\n\n## More\n", "no rows: Ties"),
        ("`nms_padded`", "nms_padded", "no promise of nms_padded"),
        ("## Not proven yet\n", "## Not proven yet\n\nMuch.\n", r"not in a list: Much\."),
        ("# Guarantees\n", f"# Guarantees\n{'long ' * 30}\n", "too long: long"),
    ],
)
def test_planted_faults_are_found(old, new, fault):
    assert old in PAGE
    assert any(re.match(fault, found) for found in faults(PAGE.replace(old, new)))


def test_links_lead_somewhere():
    for name in ("README.md", "CONTRIBUTING.md", "docs/guarantees.md"):
        links = re.findall(r"\]\(([^)\s]+)\)", (ROOT / name).read_text())
        assert ("docs/guarantees.md" in links) == (name != "docs/guarantees.md")
        for link in links:
            if link.startswith("#"):
                titles = re.findall(r"^#+ (.*)$", (ROOT / name).read_text(), re.MULTILINE)
                assert link[1:] in {title.lower().replace(" ", "-") for title in titles}
            elif "://" not in link:
                assert (ROOT / name).parent.joinpath(link).exists(), f"{name}: {link}"
