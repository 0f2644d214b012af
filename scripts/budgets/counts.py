"""Count a kernel and its loops from their machine code."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from budgets.loops import Flow, Loop
from budgets.sass import Code, Instruction

Counts = dict[str, float]  # whole numbers, except round_trips
WHOLE = "no loop: the kernel, once"
# Rounds after which a loop repeats itself, with and without several stages of copies in flight.
ROUNDS_AHEAD, ROUNDS = 24, 2


def kernel_counts(code: Code) -> Counts:
    """Count the whole kernel, without the code for warps whose threads have diverged. loads_16: how many instructions
    load 16 bytes per thread from global memory."""
    instructions = Flow(code).whole().body()
    counts: Counts = {"instructions": len(instructions)}
    for what, of_global in (("loads", Instruction.loads), ("stores", Instruction.stores)):
        widths = Counter(x.width for x in instructions if of_global(x, "global"))
        counts.update({f"{what}_{width}": widths[width] for width in sorted(widths)})
    return counts | marks(instructions) | {"local": sum(x.local for x in instructions)}


def marks(instructions: Sequence[Instruction]) -> Counts:
    """Count the expensive instructions."""
    integer = sum(x.divides_integers for x in instructions)
    inline = sum(x.divides_integers and not x.calls for x in instructions)
    return {
        "integer_divisions": integer,
        # Each integer division that is not a call has one reciprocal; the others belong to floating point divisions.
        "divisions": max(0, sum(x.reciprocal for x in instructions) - inline),
        "calls": sum(x.calls for x in instructions),
        "barriers": sum(x.barrier for x in instructions),
        "fences": sum(x.fence for x in instructions),
        "atomics": sum(x.atomic for x in instructions),
    }


def loop_counts(loop: Loop) -> Counts:
    """Count one iteration of one thread. Nothing here knows which branches it takes: counts are of the longest path,
    `shortest` is of the shortest, and marks and stores count on any path. Inner loops count as if they ran once.

    The loads are those from global memory or, in a loop without them, from shared memory (`shared` is 1) or, without
    any, the stores to global memory (`stored` is 1). in_flight: the most loads under way at once. round_trips: how
    often an iteration waits for a load that was issued after the last such wait; an average, where copies stay under
    way for several iterations.
    """
    path, body = loop.longest(), loop.body()
    memory = "global" if any(x.loads("global") for x in body) else "shared"
    loaded = any(x.loads(memory) for x in body)
    moved = [x for x in path if (x.loads(memory) if loaded else x.stores("global"))]
    in_flight, trips = flight(path, memory) if loaded else (0, 0)
    return {
        "instructions": len(path),
        "shortest": len(loop.shortest()),
        "shared": int(loaded and memory == "shared"),
        "stored": int(not loaded),
        "moves": len(moved),
        "bytes": sum(x.width for x in moved),
        "width": max((x.width for x in moved), default=0),
        "in_flight": in_flight,
        "round_trips": trips,
        **marks(body),
    }


@dataclass(frozen=True)
class Load:
    fills: set[int]  # registers; none for a copy to shared memory
    group: int  # of copies with a common wait
    issued: int


def flight(path: Sequence[Instruction], memory: str) -> tuple[int, float]:
    """(the most loads outstanding at once, round trips per iteration) of a loop that repeats this path.

    A load is outstanding until an instruction mentions a register that it fills; then, roughly, all loads before it
    have arrived too. Copies to shared memory are outstanding until a wait for their group; bulk copies, whose waits do
    not say which copies they are for, until the next wait. A loop without waits has those of one iteration.
    """
    outstanding: deque[Load] = deque()
    most = trips = trips_before = group = clock = last_wait = 0
    rounds = ROUNDS_AHEAD if any(x.name in ("LDGDEPBAR", "SYNCS") for x in path) else ROUNDS
    for i in range(2 * rounds):
        trips_before = trips if i == rounds else trips_before
        for x in path:
            clock += 1
            if x.name == "LDGDEPBAR":
                group += 1
            if x.name == "DEPBAR" or (x.name == "SYNCS" and "TRYWAIT" in x.modifiers):
                last_group = group - _groups_left(x) if x.name == "DEPBAR" else clock
                came = [n for n, load in enumerate(outstanding) if not load.fills and load.group < last_group]
            else:
                mentioned = x.registers() if outstanding else set()
                came = [n for n, load in enumerate(outstanding) if load.fills & mentioned]
            if came:
                arrived = [outstanding.popleft() for _ in range(came[-1] + 1)]
                if arrived[-1].issued > last_wait:  # otherwise it was under way during an earlier wait
                    trips, last_wait = trips + 1, clock
            if x.loads(memory):
                outstanding.append(Load(x.written_by_load(), group, clock))
                most = max(most, len(outstanding))
    if not last_wait:
        return sum(x.loads(memory) for x in path), 0
    average = (trips - trips_before) / rounds
    return most, int(average) if average.is_integer() else round(average, 2)


def _groups_left(wait: Instruction) -> int:
    """How many groups of copies may still be under way: two for DEPBAR.LE SB0, 0x2."""
    last = wait.operands.split(",")[-1].strip()
    return int(last, 16) if last.startswith("0x") else 0


def kernel_loops(code: Code) -> dict[str, Counts]:
    """The counts of the loops that move data, or of a kernel without one, as if it were one.

    A loop is identified by the text of its source line, which changes above it do not alter. Several loops from one
    line (the compiler unrolls and copies) are numbered, global memory and the most bytes first; equal ones become one
    row with `copies`.
    """
    flow = Flow(code)
    by_text: dict[str, list[Counts]] = {}
    for loop in flow.moving():
        by_text.setdefault(source_text(*loop.place), []).append(loop_counts(loop))
    rows = {}
    for text, all_counts in by_text.items():
        distinct = {tuple(counts.items()): counts for counts in all_counts}.values()
        for i, counts in enumerate(sorted(distinct, key=_size)):
            copies = all_counts.count(counts)
            rows[f"{text} #{i + 1}" if i else text] = counts | ({"copies": copies} if copies > 1 else {})
    return rows or {WHOLE: loop_counts(flow.whole())}


def _size(row: Counts) -> tuple[float, float, float, float]:
    """Sort key for the loops of one source line: global memory first, then the most bytes."""
    return row["shared"], row["stored"], -row["bytes"], -row["instructions"]


def source_text(file: str, line: int) -> str:
    path = Path(file)
    try:
        text = path.read_text().splitlines()[line - 1].split("//")[0].strip().removesuffix("{").strip()
    except (OSError, IndexError):
        return f"{path.name}:{line}"
    return text if path.suffix == ".cu" else f"{path.name}: {text}"
