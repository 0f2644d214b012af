"""Time several builds of the extension against each other in one process: one finding per case.

    python bench/compare_builds.py NAME=PATH NAME=PATH ... [--only PART ...] [--rehearse]

A case fails unless every build gives the bits of the first, both called directly and in a graph. Graphs are replayed in
turn, so that whatever else happens on the GPU affects all builds. Values: builds, a dict with us (the
median per call), quartiles_us and ratio (to the first build's us) for each build.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import device_program
import torch
from device_builders import Prepared
from device_cases import Case, chosen
from device_timing import calls_in_graph, repetitions, summary
from timing import capture, time_events
from torch.utils._pytree import tree_leaves

from helpers.extensions import using_extension

Builds = Mapping[str, Any]


def compare(prepared: Prepared, builds: Builds, seconds: float, values: dict[str, Any]) -> None:
    """Compare the results and times of the builds.

    Raises: AssertionError: a build's bits differ from the first's; the values still have its times.
    """
    returned, graphs, slowest = {}, {}, 0.0
    for name, build in builds.items():
        with using_extension(build):
            prepared.call(*prepared.inputs)  # loads the kernels
            # Keep all results, so that no build reuses the memory of another's result and passes for it.
            returned[name] = [prepared.call(*prepared.inputs)]
            slowest = max(slowest, time_events(lambda: prepared.call(*prepared.inputs)))
    calls = calls_in_graph(seconds, slowest)
    for name, build in builds.items():
        with using_extension(build):
            graphs[name], result = capture(lambda _: prepared.call(*prepared.inputs), [0] * calls)
            returned[name].append(result)
    values["graph_calls"] = calls
    found = {name: summary(times, calls) for name, times in replay_in_turn(graphs, seconds).items()}
    first = next(iter(builds))
    values["builds"] = {name: {**of, "ratio": round(of["us"] / found[first]["us"], 4)} for name, of in found.items()}
    results = {name: [tree_leaves(prepared.result(each)) for each in pair] for name, pair in returned.items()}
    differences = [
        f"{name}{how}: {difference}"
        for name, pair in results.items()
        for how, result in zip(("", ", in a graph"), pair, strict=True)
        if (difference := different_bits(results[first][0], result)) is not None
    ]
    assert not differences, f"other bits than {first}: {'; '.join(differences)}"


def replay_in_turn(graphs: Mapping[str, Any], seconds: float) -> dict[str, list[float]]:
    """The seconds of each graph's replays, in rounds whose order changes."""
    names = list(graphs)
    times: dict[str, list[float]] = {name: [] for name in names}
    one_round = sum(time_events(graphs[name].replay) for name in names)
    for index in range(repetitions(len(names) * seconds, one_round)):
        shift = index % len(names)
        for name in names[shift:] + names[:shift]:
            times[name].append(time_events(graphs[name].replay))
    return times


def different_bits(expected: Sequence[torch.Tensor], found: Sequence[torch.Tensor]) -> str | None:
    """Where the tensors differ, or None if they do not."""
    for index, (a, b) in enumerate(zip(expected, found, strict=True)):
        if a.shape != b.shape or a.dtype != b.dtype:
            return f"output {index} is {b.dtype} {list(b.shape)}, not {a.dtype} {list(a.shape)}"
        first, second = (x.detach().contiguous().reshape(-1).view(torch.uint8) for x in (a, b))
        if not torch.equal(first, second):
            unequal = (first != second).view(-1, a.element_size()).any(1)
            return f"output {index} differs in {int(unequal.sum())} of {a.numel()} elements"
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    parser = device_program.parser(__doc__)
    parser.add_argument("builds", nargs="+", metavar="NAME=PATH", help="builds; the others are compared with the first")
    parser.add_argument("--only", nargs="+", default=[], help="only cases of these names, or with these in their names")
    options = parser.parse_args(arguments)
    device = device_program.use_device(options.rehearse)
    paths = dict(given.split("=", 1) for given in options.builds if "=" in given)
    if len(paths) < max(2, len(options.builds)):
        parser.error("expected NAME=PATH of two builds or more, of different names")
    builds = {name: device_program.load_build(Path(path), options.rehearse) for name, path in paths.items()}
    seconds = 0.01 if options.rehearse else 0.25

    def compare_case(case: Case, values: dict[str, Any]) -> None:
        with using_extension(next(iter(builds.values()))):
            prepared = case.prepare(device, small=options.rehearse)
        compare(prepared, builds, seconds, values)

    device_program.measure_cases(chosen(options.only), device_program.find_findings(), compare_case)
    return 0


if __name__ == "__main__":
    sys.exit(main())
