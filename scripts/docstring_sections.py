"""A griffe extension for the API pages of the documentation: shows every section of a docstring as one.

Griffe knows Google's sections, and takes others (Ties, Grad, Syncs, ...) for boxes in color. These become paragraphs
with a bold title, and so do sections of one line.
"""

from __future__ import annotations

import re
from textwrap import dedent, indent
from typing import Any

import griffe

_LISTS = ("Args", "Attributes")
_KNOWN = (*_LISTS, "Returns", "Raises", "Warns", "Yields", "Example", "Examples")
_TITLE = re.compile(r"(?P<title>[A-Z]\w*):(?: +(?P<text>\S.*))?")


class DocstringSections(griffe.Extension):
    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = sections(obj.docstring.value)


def sections(docstring: str) -> str:
    """The docstring with each section as griffe and Markdown show it."""
    summary, *lines = docstring.splitlines()
    parts: list[list[str]] = [[summary]]
    for line in lines:
        if _TITLE.fullmatch(line):
            parts.append([])
        parts[-1].append(line)
    return "\n".join(["\n".join(parts[0]), *(_section(*part) for part in parts[1:])])


def _section(first: str, *below: str) -> str:
    match = _TITLE.fullmatch(first)
    assert match is not None
    title, text = match["title"], match["text"]
    if text is None and title in _KNOWN:
        return "\n".join(["", first, *below])
    body = "\n".join([text or "", dedent("\n".join(below))]).strip()
    return f"\n{title}:\n{indent(body, '    ')}\n" if title in _LISTS else f"\n**{title}:** {body}\n"
