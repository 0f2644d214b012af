"""The loops of a kernel: control flow, the loops that move data, and their shortest and longest paths."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from budgets.sass import Code, Instruction

_ENDS = ("EXIT", "RET", "BRA", "BRX", "BRXU", "JMP", "JMX", "KILL", "BPT")


class Flow:
    """A kernel's blocks: ranges of instructions that are entered at the first and left after the last."""

    def __init__(self, code: Code) -> None:
        self.code = code
        instructions = code.instructions
        starts = {0} | {i for i in code.labels.values() if i < len(instructions)}
        starts |= {i + 1 for i, x in enumerate(instructions) if x.name in _ENDS and i + 1 < len(instructions)}
        self.starts = sorted(starts)
        self.ends = [*self.starts[1:], len(instructions)]
        number = {start: i for i, start in enumerate(self.starts)}
        self.next: list[list[int]] = []
        for end in self.ends:
            last = instructions[end - 1]
            # BRA.DIV leads to the code for warps whose threads have diverged: the rare path.
            jumps = last.name in ("BRA", "BRX", "BRXU") and "DIV" not in last.modifiers
            after = [number[code.labels[t]] for t in last.targets if code.labels.get(t) in number] if jumps else []
            if last.name not in _ENDS or _conditional(last):
                after += [number[end]] if end in number else []
            self.next.append(list(dict.fromkeys(after)))
        self.reachable = self._reachable(0)

    def block(self, i: int) -> list[Instruction]:
        return self.code.instructions[self.starts[i] : self.ends[i]]

    def _reachable(self, start: int, without: int = -1) -> set[int]:
        seen, open_ = {start}, [start]
        while open_:
            for after in self.next[open_.pop()]:
                if after not in seen and after != without:
                    seen.add(after)
                    open_.append(after)
        return seen

    @cached_property
    def back_edges(self) -> set[tuple[int, int]]:
        """The jumps back: those to a block that every path to the jump goes through."""
        candidates = [(a, b) for a in sorted(self.reachable) for b in self.next[a] if self.starts[b] <= self.starts[a]]
        return {(a, b) for a, b in candidates if a == b or b == 0 or a not in self._reachable(0, without=b)}

    @cached_property
    def loops(self) -> list[Loop]:
        """All loops, in the kernel's order; jumps to the same block make one loop."""
        before: dict[int, list[int]] = {}
        for a in self.reachable:
            for b in self.next[a]:
                before.setdefault(b, []).append(a)
        found: dict[int, Loop] = {}
        for tail, head in sorted(self.back_edges):
            loop = found.setdefault(head, Loop(self, head, {head}, []))
            loop.tails.append(tail)
            open_ = [tail]
            while open_:
                block = open_.pop()
                if block not in loop.blocks:
                    loop.blocks.add(block)
                    open_ += before.get(block, [])
        return [found[head] for head in sorted(found)]

    def whole(self) -> Loop:
        """The kernel as a loop of one iteration, in which every inner loop runs once."""
        return Loop(self, 0, set(self.reachable), [])

    def moving(self) -> list[Loop]:
        """The innermost loops that load from global or shared memory, or store to global memory. An inner loop that
        moves nothing, such as one that waits, is part of them."""
        loops = [loop for loop in self.loops if loop.moves]
        return [a for a in loops if not any(b is not a and b.blocks < a.blocks for b in loops)]


def _conditional(jump: Instruction) -> bool:
    """Whether the instruction may be skipped, by its guard or by a predicate among the operands."""
    if jump.guard and jump.guard != "PT":
        return True
    return "DIV" in jump.modifiers or (jump.name == "BRA" and not jump.operands.lstrip("`(").startswith("."))


@dataclass
class Loop:
    flow: Flow
    head: int
    blocks: set[int]
    tails: list[int]  # the blocks that jump back; none for a whole kernel

    def body(self) -> list[Instruction]:
        return [x for block in sorted(self.blocks) for x in self.flow.block(block)]

    @property
    def moves(self) -> bool:
        for x in (x for tail in self.tails for x in self.flow.block(tail)):
            if (x.atomic and "SPIN" in x.modifiers) or x.opcode == "BRA.U.ANY":
                return False  # an atomic operation that is retried, or threads that take turns
        body = self.body()
        return any(x.loads("global") or x.loads("shared") or x.stores("global") for x in body)

    @property
    def place(self) -> tuple[str, int]:
        """File and line of the jump back, which is the line of the `for` or `while`."""
        last = self.flow.block(max(self.tails or [self.head]))[-1]
        return last.file, last.line

    def longest(self) -> list[Instruction]:
        """The instructions on the longest path from the head back to it, with every inner loop run once."""
        return self._path(max)

    def shortest(self) -> list[Instruction]:
        return self._path(min)

    def _path(self, choose) -> list[Instruction]:
        flow = self.flow
        inner = {(a, b) for a, b in flow.back_edges if a in self.blocks and b in self.blocks}
        ends = set(self.tails) or {b for b in self.blocks if not flow.next[b]}
        best: dict[int, tuple[int, list[int]]] = {}
        for block in _after_successors(self.head, lambda b: self._inside(b, inner)):
            ways = [best[after] for after in self._inside(block, inner) if after in best]
            if block in ends:  # a tail may also continue within the loop
                ways.append((0, []))
            if ways:
                length, way = choose(ways, key=lambda x: x[0])
                best[block] = (length + self.flow.ends[block] - self.flow.starts[block], [block, *way])
        return [x for block in best[self.head][1] for x in flow.block(block)] if self.head in best else self.body()

    def _inside(self, block: int, without: set[tuple[int, int]]) -> list[int]:
        return [b for b in self.flow.next[block] if b in self.blocks and (block, b) not in without]


def _after_successors(start: int, successors) -> Iterable[int]:
    """The reachable blocks, each after all its successors."""
    done: set[int] = set()
    open_ = [(start, iter(successors(start)))]
    seen = {start}
    while open_:
        block, rest = open_[-1]
        after = next((b for b in rest if b not in seen), None)
        if after is None:
            open_.pop()
            if block not in done:
                done.add(block)
                yield block
        else:
            seen.add(after)
            open_.append((after, iter(successors(after))))
