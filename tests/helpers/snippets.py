"""The snippets of README.md and docs/: where they are, running those in Python, and checking those for a shell.

A comment above a Python snippet that cannot run in a test says why, and what it is given:

    <!-- not run: needs a GPU; given: model, photos -->
"""

from __future__ import annotations

import ast
import builtins
import importlib
import re
import shlex
from collections.abc import Iterator, Set
from typing import Any, NamedTuple

from .paths import ROOT

PAGES = ("README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")))
NOT_RUN = re.compile(r"<!-- not run: (?P<reason>[^;]+?)(?:; given: (?P<given>[\w, ]+))? -->")
_FENCE = re.compile(
    r"(?:^(?P<comment><!-- [^\n]* -->)\n)?^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE
)
_SHELL_SPAN = re.compile(r"`((?:make|ssd-fast) [^`]+)`")


class Snippet(NamedTuple):
    """A fenced block of a page: its language, its text, and the comment above it or ""."""

    page: str
    line: int
    language: str
    code: str
    comment: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def snippets(page: str, language: str) -> list[Snippet]:
    text = (ROOT / page).read_text()
    found = (
        Snippet(
            page, text.count("\n", 0, match.start("code")), match["language"], match["code"], match["comment"] or ""
        )
        for match in _FENCE.finditer(text)
    )
    return [snippet for snippet in found if snippet.language == language]


def run(page: str, **names: Any) -> dict[str, Any]:
    """Run the Python of a page from top to bottom and return the names that it leaves. Pretrained weights stay away."""
    found = snippets(page, "python")
    assert found
    not_run: set[str] = set()
    for snippet in found:
        if snippet.comment:
            not_run |= check_names(snippet, {*names, *not_run})
            continue
        code = snippet.code.replace('weights="DEFAULT"', "weights=None, weights_backbone=None")
        exec(compile("\n" * snippet.line + code, page, "exec"), names)
    return names


def check_names(snippet: Snippet, known: Set[str]) -> set[str]:
    """Assert that a snippet which is not run says why, compiles, and uses names that exist; return those it binds."""
    said = NOT_RUN.fullmatch(snippet.comment)
    assert said, f"{snippet.place}: {snippet.comment}"
    tree = ast.parse(snippet.code)
    given = set(re.findall(r"\w+", said["given"] or ""))
    bound = set(_bound(tree))
    names = {*vars(builtins), *known, *given, *bound}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            assert node.id in names, f"{snippet.place}: {node.id}"
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ssd_fast"):
            module = importlib.import_module(node.module or "")
            for alias in node.names:
                assert hasattr(module, alias.name), f"{snippet.place}: {node.module}.{alias.name}"
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "ssd_fast":
            assert hasattr(importlib.import_module("ssd_fast"), node.attr), f"{snippet.place}: ssd_fast.{node.attr}"
    return bound


def _bound(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.alias):
            yield (node.asname or node.name).partition(".")[0]
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg


def commands(page: str) -> Iterator[tuple[str, list[str]]]:
    """(place, words) of each command of a page: in its console snippets, or in text as `make ...`, `ssd-fast ...`."""
    for snippet in snippets(page, "console"):
        for number, line in enumerate(snippet.code.splitlines(), 1):
            for words in split_commands(line):
                yield f"{page}:{snippet.line + number}", words
    text = (ROOT / page).read_text()
    for match in _SHELL_SPAN.finditer(_FENCE.sub("", text)):
        for words in split_commands(match[1]):
            yield f"{page}: {match[0]}", words


def split_commands(line: str) -> list[list[str]]:
    """Return the words of each command of a line in a shell."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="&;|")
    lexer.whitespace_split = True
    found: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set("&;|"):
            found.append([])
        else:
            found[-1].append(word)
    return [words for words in found if words]
