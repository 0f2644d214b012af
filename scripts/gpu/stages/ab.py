"""Stage `ab`: variants of the kernels, each a build of its own, alternating in one process."""

from __future__ import annotations

from pathlib import Path

from gpu.build import compile_tree
from gpu.report import CannotRunError, Report, python

ROOT = Path(__file__).resolve().parents[3]


def ab(report: Report) -> None:
    """Build each variant of --variants, and let their replayed graphs alternate: a case for each op and size.

    A variant is name=FLAGS, this checkout compiled with more flags of nvcc, such as fast=-DSSD_TILE=64; name=FOLDER,
    another checkout; or name=FILE, a build of the extension.
    """
    builds: list[str] = []
    report.step("build", 240, lambda step: _build_all(step, builds))
    report.step("alternate", 240, lambda step: _alternate(step, builds))


def _build_all(report: Report, builds: list[str]) -> None:
    if len(report.options.variants) < 2:
        raise CannotRunError('two variants are needed, such as VARIANTS="base= fast=-DSSD_TILE=64"')
    for variant in report.options.variants:
        name, _, what = variant.partition("=")
        builds.append(f"{name}={_build(report, name, what)}")


def _alternate(report: Report, builds: list[str]) -> None:
    if len(builds) < 2:
        raise CannotRunError("fewer than two variants are built")
    rehearse = ["--rehearse"] if report.options.rehearsal else []
    command = python("bench/compare_builds.py", *builds, *rehearse)
    report.run_cases(command, "run", part="ab", case_seconds=60)


def _build(report: Report, name: str, what: str) -> Path:
    """The extension of a variant."""
    if what.endswith(".so"):
        return Path(what).resolve()
    source, flags = (Path(what).resolve(), "") if what and not what.startswith("-") else (ROOT, what)
    folder = report.build_folder / "ab" / name
    compile_tree(report.labelled(variant=name), source, folder, ["_C"], flags)
    return next(folder.glob("_C*.so"))
