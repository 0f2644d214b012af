"""Counts of the outcomes of calls, and findings by kind."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from .problems import OPS
from .runner import Result

_NAMES = [builder.__name__ for builder in OPS]


@dataclass
class Group:
    """Findings of one kind and text; the example has the fewest oddities of those seen."""

    kind: str
    text: str
    example: Result
    ops: Counter[str] = field(default_factory=Counter)

    @property
    def count(self) -> int:
        return self.ops.total()


class Report:
    """A report that takes results one by one."""

    def __init__(self) -> None:
        self.outcomes: Counter[tuple[str, str]] = Counter()  # of (op, outcome)
        self.refusals: Counter[str] = Counter()  # by kind
        self.groups: dict[tuple[str, str], Group] = {}

    def add(self, result: Result) -> None:
        op, verdict = result.op, result.verdict
        self.outcomes[op, verdict.outcome] += 1
        if verdict.outcome == "refused":
            self.refusals[verdict.kind] += 1
        if verdict.outcome == "finding":
            key = verdict.kind, _plain(verdict.text)
            group = self.groups.setdefault(key, Group(*key, result))
            group.ops[op] += 1
            if len(result.oddities) < len(group.example.oddities):
                group.example = result

    @property
    def findings(self) -> int:
        return sum(group.count for group in self.groups.values())

    def ranked(self) -> list[Group]:
        """Return the groups, largest first."""
        return sorted(self.groups.values(), key=lambda group: -group.count)

    def table(self) -> str:
        """Return calls by op and outcome, refusals by kind, and findings by kind with an example each."""
        outcomes = ("accepted", "refused", "finding")
        lines = [f"{'op':<16}{'calls':>10}{''.join(f'{name:>10}' for name in outcomes)}"]
        for op in (*_NAMES, "all"):
            counts = [self._count(op, outcome) for outcome in outcomes]
            lines.append(f"{op:<16}{sum(counts):>10}{''.join(f'{count:>10}' for count in counts)}")
        lines += ["", "refused by " + ", ".join(f"{kind}: {count}" for kind, count in self.refusals.most_common())]
        for group in self.ranked():
            ops = ", ".join(f"{op} {count}" for op, count in group.ops.most_common())
            lines += ["", f"{group.count} x {group.kind}: {group.text}", f"  {ops}"]
            lines += [f"  --only {group.example.number}: {'; '.join(group.example.oddities) or 'nothing odd'}"]
            lines += [f"    {name}: {text}" for name, text in group.example.arguments.items()]
            if group.example.verdict.text != group.text:
                lines.append(f"    -> {group.example.verdict.text[:600]}")
        return "\n".join(lines)

    def _count(self, op: str, outcome: str) -> int:
        return sum(n for (o, name), n in self.outcomes.items() if op in (o, "all") and name == outcome)

    def as_json(self) -> dict[str, Any]:
        return {
            "outcomes": {op: {outcome: n for (o, outcome), n in self.outcomes.items() if o == op} for op in _NAMES},
            "refused": dict(self.refusals),
            "findings": [
                {
                    "kind": group.kind,
                    "text": group.text,
                    "count": group.count,
                    "ops": dict(group.ops),
                    "only": group.example.number,
                    "oddities": group.example.oddities,
                    "arguments": group.example.arguments,
                    "example": group.example.verdict.text,
                }
                for group in self.ranked()
            ],
        }


def _plain(text: str) -> str:
    """Return the beginning of a text, without parts that differ from call to call."""
    text = re.sub(r"\b(" + "|".join(sorted(_NAMES, key=len, reverse=True)) + r")(?=\b|_)", "<op>", text.strip())
    text = re.sub(r"'[\w.]*'", "'_'", text)
    text = re.sub(r"0x[0-9a-f]+|\d+(\.\d+)?(e[+-]?\d+)?", "#", text.partition("\n")[0])
    return re.sub(r"#(, #)+", "#", text)[:110]
