"""Deletes each barrier, fence and wait of the kernels in turn, and expects the checker to notice.

The statements: __syncthreads, __syncwarp, grid_barrier, cluster_barrier; __threadfence; wait_for_predecessor,
__pipeline_wait_prior, __pipeline_commit. For each, the runners that include its file are rebuilt without it, in the
check flavor, and their good cases are run. A deletion that every runner survives means that no case needs the
statement, or that the checker is blind to it: exit status 1. One that is truly harmless says so on its line:

    __syncwarp();  // mutate: harmless because the lanes meet again before ...

Usage: mutate.py [FILE...]   (every .cu and .cuh under csrc; try tests/cpp/demo*.cu)
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STATEMENT = re.compile(
    r"\b(__(syncthreads|syncwarp|threadfence(_block|_system)?|pipeline_(wait_prior|commit))"
    r"|(grid|cluster)_barrier|wait_for_predecessor)\s*\("
)
HARMLESS = re.compile(r"//\s*mutate: harmless because \S")
COPIED = ("csrc", "tests/cpp", "tests/emu")
RUN_LIMIT_S = 300


@dataclass(frozen=True)
class Site:
    """A statement that can be deleted: source[begin:end] is the call, without its semicolon."""

    file: Path
    line: int
    begin: int
    end: int
    text: str
    harmless: bool


@dataclass(frozen=True)
class Unit:
    """A file that a runner is compiled from."""

    family: str
    command: list[str]
    object: Path
    includes: frozenset[Path]


def find_sites(file: Path, source: str) -> Iterator[Site]:
    offset = 0
    for number, line in enumerate(source.splitlines(keepends=True), start=1):
        code = line.split("//")[0]
        for match in STATEMENT.finditer(code):
            end = closing_parenthesis(code, match.end())
            if not code[end:].lstrip().startswith(";"):
                continue  # its value is used
            harmless = HARMLESS.search(line) is not None
            yield Site(file, number, offset + match.start(), offset + end, line.strip(), harmless)
        offset += len(line)


def closing_parenthesis(code: str, begin: int) -> int:
    """The index after the parenthesis that closes the one before begin; the end of the line if none does."""
    depth = 1
    for index in range(begin, len(code)):
        depth += {"(": 1, ")": -1}.get(code[index], 0)
        if depth == 0:
            return index + 1
    return len(code)


def without(site: Site, source: str) -> str:
    return source[: site.begin] + "((void)0)" + source[site.end :]


def checked_units(build: Path) -> list[Unit]:
    """What the check flavor of every runner is compiled from, in the order in which it is linked."""
    units = []
    for entry in json.loads((build / "compile_commands.json").read_text()):
        target = re.search(r"CMakeFiles/(\w+)_check\.dir/", entry["output"])
        if target is None or target[1] in ("emu", "runner"):
            continue
        command = shlex.split(entry["command"])
        units.append(Unit(target[1], command, build / entry["output"], includes_of(command, build)))
    return units


def includes_of(command: list[str], build: Path) -> frozenset[Path]:
    """The file itself and all that it includes, of the project."""
    arguments = list(command)
    output = arguments.index("-o")
    del arguments[output : output + 2]
    rule = subprocess.run([*arguments, "-MM"], cwd=build, check=True, capture_output=True, text=True).stdout
    files = rule.replace("\\\n", " ").split()[1:]
    return frozenset(Path(os.path.normpath(build / file)) for file in files)


class Workplace:
    """A copy of the sources in which one mutant at a time is built and run."""

    def __init__(self, folder: Path, build: Path):
        self.folder = folder
        self.build = build
        for name in COPIED:
            shutil.copytree(ROOT / name, folder / name)
        shutil.copytree(build / "emulated", folder / "emulated")
        for wrapper in (folder / "emulated").rglob("*.cpp"):
            wrapper.write_text(self.moved(wrapper.read_text()))

    def moved(self, text: str) -> str:
        """A command or a file that names the sources, made to name the copies."""
        text = text.replace(f"{self.build}/emulated", f"{self.folder}/emulated")
        for name in COPIED:
            text = text.replace(f"{ROOT}/{name}", f"{self.folder}/{name}")
        return re.sub(rf"^(-I){re.escape(str(ROOT))}/tests$", rf"\1{self.folder}/tests", text)

    def verdict(self, site: Site, units: list[Unit], schedules: int) -> str:
        """What became of the mutant: a word or two that begin with 'caught', or 'ALIVE'."""
        copy = self.folder / site.file.relative_to(ROOT)
        original = copy.read_text()
        copy.write_text(without(site, original))
        try:
            families = sorted({unit.family for unit in units if site.file in unit.includes})
            for family in families:
                why = self.failure([unit for unit in units if unit.family == family], site, schedules)
                if why:
                    return f"caught by {family}: {why}"
            return "ALIVE" if families else "ALIVE: no runner includes the file"
        finally:
            copy.write_text(original)

    def failure(self, units: list[Unit], site: Site, schedules: int) -> str:
        """How the runner made of these units fails; an empty string if it passes."""
        objects = []
        for index, unit in enumerate(units):
            if site.file not in unit.includes:
                objects.append(unit.object)
                continue
            objects.append(self.folder / f"{index}.o")
            command = [self.moved(argument) for argument in unit.command]
            command[command.index("-o") + 1] = str(objects[-1])
            subprocess.run(command, cwd=self.build, check=True)
        program = self.folder / "runner"
        libraries = [self.build / "librunner_check.a", self.build / "libemu_check.a"]
        compiler = units[0].command[0]
        subprocess.run([compiler, "-pie", *objects, *libraries, "-ldl", "-pthread", "-o", program], check=True)
        command = [program, "--no-faults", "--stop", "--schedules", str(schedules)]
        try:
            run = subprocess.run(command, capture_output=True, text=True, timeout=RUN_LIMIT_S)
        except subprocess.TimeoutExpired:
            return "it does not end"
        if run.returncode == 0:
            return ""
        found = re.search(
            r"data race|uninitialized|out of bounds|never waited for|deadlock|divergence|livelock", run.stdout
        )
        return found[0] if found else "wrong results" if "FAIL" in run.stdout else f"exit status {run.returncode}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--build", type=Path, default=ROOT / "build" / "tests", help="CMake's build folder")
    parser.add_argument("--schedules", type=int, default=5, help="schedules of each case")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    arguments = parser.parse_args()

    build = arguments.build.resolve()
    cmake = shutil.which("cmake", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}") or "cmake"
    subprocess.run([cmake, "--build", build, "--target", "runners"], check=True, stdout=subprocess.DEVNULL)
    files = [file.resolve() for file in arguments.files]
    files = files or sorted([*ROOT.glob("csrc/**/*.cu"), *ROOT.glob("csrc/**/*.cuh")])
    sites = [site for file in files for site in find_sites(file, file.read_text())]
    if not sites:
        print("mutate: no barrier or fence in these files")
        return 0
    units = checked_units(build)

    survivors = 0
    with tempfile.TemporaryDirectory(prefix="mutate-") as scratch:
        workplaces: queue.SimpleQueue[Workplace] = queue.SimpleQueue()
        for job in range(arguments.jobs):
            workplaces.put(Workplace(Path(scratch) / str(job), build))

        def judge(site: Site) -> str:
            workplace = workplaces.get()
            try:
                return workplace.verdict(site, units, arguments.schedules)
            finally:
                workplaces.put(workplace)

        with ThreadPoolExecutor(arguments.jobs) as pool:
            for site, verdict in zip(sites, pool.map(judge, sites), strict=True):
                if site.harmless and verdict == "ALIVE":
                    verdict = "alive, harmless"
                survivors += verdict.startswith("ALIVE")
                print(f"{site.file.relative_to(ROOT)}:{site.line}: {verdict}\n    {site.text}", flush=True)
    print(f"mutate: {len(sites)} sites, {survivors} survived")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
