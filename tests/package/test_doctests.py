"""Examples in docstrings print what they say, each public name has one, and docstrings keep their layout."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import torch

import ssd_fast
from ssd_fast.models import registry

OPTIONAL = {"ssd_fast.__main__"}  # modules that run when imported

SECTIONS = (
    "Args|Arguments|Attributes|Examples?|Fields|Formats|Grad|Infinity|Memory|NaN|Notes?|Raises|Returns|"
    "Sources?|Specification|Syncs|Ties|Warns|Yields"
)
SECTION = re.compile(rf"^({SECTIONS}):(.*)$")
INLINE = re.compile(rf"(?:\S |\s{{2,}})({SECTIONS}): \S")


def modules() -> Iterator[ModuleType]:
    yield ssd_fast
    for info in pkgutil.walk_packages(ssd_fast.__path__, "ssd_fast."):
        if info.name not in OPTIONAL and not info.name.endswith("._C"):
            yield importlib.import_module(info.name)


MODULES = list(modules())
DOCTESTS = {
    test.name: test
    for module in MODULES
    for test in doctest.DocTestFinder(exclude_empty=True).find(module)
    if test.examples
}


def documented(module: ModuleType) -> Iterator[tuple[str, str]]:
    """Return the docstrings of the classes, functions and methods that a module defines, by name."""

    def visit(name: str, item: Any) -> Iterator[tuple[str, str]]:
        if isinstance(item, (staticmethod, classmethod)):
            item = item.__func__
        elif isinstance(item, property):
            item = item.fget
        if (isinstance(item, type) or inspect.isfunction(item)) and item.__module__ == module.__name__:
            yield name, item.__doc__ or ""
            for key, member in vars(item).items() if isinstance(item, type) else ():
                yield from visit(f"{name}.{key}", member)

    yield module.__name__, module.__doc__ or ""
    for key, item in vars(module).items():
        yield from visit(f"{module.__name__}.{key}", item)


@pytest.mark.parametrize("name", DOCTESTS)
def test_docstring_example_prints_what_it_says(name, one_thread, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_NETWORKS", dict(registry._NETWORKS))  # an example registers one
    torch.manual_seed(0)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    output: list[str] = []
    failed = runner.run(DOCTESTS[name], out=output.append, clear_globs=False).failed
    assert not failed, "".join(output)


def test_each_public_name_has_an_example():
    without = {name for name in ssd_fast.__all__ if "\n    Examples:\n" not in (getattr(ssd_fast, name).__doc__ or "")}
    assert without == set()


def test_docstring_sections_have_separate_lines():
    wrong = []
    for module in MODULES:
        for name, text in documented(module):
            lines = inspect.cleandoc(text).splitlines()
            for index, line in enumerate(lines):
                match = SECTION.match(line)
                if match and (match[2] or index + 1 == len(lines) or not lines[index + 1].startswith("    ")):
                    wrong.append(f"{name}: {line}")
                elif match and index and lines[index - 1]:
                    wrong.append(f"{name}: no blank line above {line}")
                elif not match and INLINE.search(line):
                    wrong.append(f"{name}: {line}")
    assert wrong == []
