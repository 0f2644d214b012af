"""Read machine code (SASS) as nvdisasm prints it: a kernel's instructions and their kinds."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SECTION = re.compile(r"^\.text\.(\w+):$")
_LABEL = re.compile(r"^(\.L_\w+|\$__internal\w*\$\w+):$")
_LINE = re.compile(r'^//## File "([^"]+)", line (\d+)')
_INSTRUCTION = re.compile(r"^/\*([0-9a-f]+)\*/\s+(?:@(!?\w+)\s+)?([A-Z][\w.]*)\s*(.*?)\s*;")
_TARGETS = re.compile(r"(?:\.L_\w+|\$__internal\w*\$\w+)")

# Global memory: LD and ST are generic addresses, which the compiler could not prove to be global.
_LOADS = {"global": ("LDG", "LD", "LDGSTS", "UBLKCP"), "shared": ("LDS", "LDSM")}
_STORES = {"global": ("STG", "ST"), "shared": ("STS",)}
_ATOMICS = ("ATOM", "ATOMG", "ATOMS", "RED", "REDG")
_NARROW = {"U8": 1, "S8": 1, "U16": 2, "S16": 2, "64": 8, "128": 16}


@dataclass(frozen=True)
class Instruction:
    address: int
    guard: str  # the predicate before it, or ""
    opcode: str  # with its modifiers: LDG.E.128
    operands: str
    targets: tuple[str, ...]  # the labels it names
    file: str
    line: int

    @property
    def name(self) -> str:
        return self.opcode.split(".")[0]

    @property
    def modifiers(self) -> list[str]:
        return self.opcode.split(".")[1:]

    def loads(self, memory: str) -> bool:
        """Whether it loads from "global" or "shared" memory."""
        return self.name in _LOADS[memory]

    def stores(self, memory: str) -> bool:
        return self.name in _STORES[memory]

    @property
    def width(self) -> int:
        """The bytes that a thread's load or store moves; 0 for a bulk copy, whose size is in a register."""
        if self.name == "UBLKCP":
            return 0
        return next((_NARROW[m] for m in self.modifiers if m in _NARROW), 4)

    @property
    def divides_integers(self) -> bool:
        """An integer division by a value that the compiler does not know: a reciprocal rounded up, or a call."""
        if self.name in ("I2F", "UI2F"):
            return "RP" in self.modifiers
        return self.calls and re.search(r"_(div|rem)_[su]\d+$", self.targets[0] if self.targets else "") is not None

    @property
    def reciprocal(self) -> bool:
        """A reciprocal, also in an integer division. A floating point division has one, then FCHK or a call."""
        return self.name == "MUFU" and self.modifiers[:1] in (["RCP"], ["RCP64H"])

    @property
    def calls(self) -> bool:
        return self.name == "CALL"

    @property
    def barrier(self) -> bool:
        return self.name == "BAR" and self.modifiers[:1] != ["ARV"]

    @property
    def fence(self) -> bool:
        """Orders memory between blocks, or drops what the L1 cache holds."""
        return self.name in ("MEMBAR", "ERRBAR") or (self.name == "CCTL" and "IVALL" in self.modifiers)

    @property
    def atomic(self) -> bool:
        return self.name in _ATOMICS

    @property
    def local(self) -> bool:
        """Access to the thread's own memory: spilled registers, and arrays indexed by a variable."""
        return self.name in ("LDL", "STL")

    def registers(self) -> set[int]:
        """The registers it reads or writes by name. Of a pair or a quad, the first only (a load: written_by_load)."""
        return {int(number) for number in re.findall(r"(?<![\w.])R(\d+)\b", self.operands)}

    def written_by_load(self) -> set[int]:
        """The registers that a load fills."""
        found = re.match(r"R(\d+)", self.operands)
        if not found or self.name in ("LDGSTS", "UBLKCP"):
            return set()
        return set(range(int(found[1]), int(found[1]) + max(1, self.width // 4)))


@dataclass(frozen=True)
class Code:
    """A kernel's own instructions, without the division routines that follow it; labels by position."""

    instructions: list[Instruction]
    labels: dict[str, int]  # label -> index of the instruction that it precedes


def parse(text: str) -> dict[str, Code]:
    """The code of each kernel of a disassembled cubin, by mangled name."""
    kernels: dict[str, Code] = {}
    code = Code([], {})
    own, file, line = False, "", 0
    for stripped in map(str.strip, text.splitlines()):
        if section := _SECTION.match(stripped):
            code = kernels[section[1]] = Code([], {})
            own, file, line = True, "", 0
        elif label := _LABEL.match(stripped):
            own = own and not label[1].startswith("$")
            if own:
                code.labels[label[1]] = len(code.instructions)
        elif place := _LINE.match(stripped):
            file, line = place[1], int(place[2])
        elif own and (found := _INSTRUCTION.match(stripped)):
            address, guard, opcode, operands = found.groups()
            if opcode != "NOP":
                targets = tuple(_TARGETS.findall(operands))
                code.instructions.append(
                    Instruction(int(address, 16), guard or "", opcode, operands, targets, file, line)
                )
    return kernels
