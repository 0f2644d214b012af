"""Stage `ab`: variants of the kernels, each a build of its own, alternating in one process."""

from __future__ import annotations

import shutil
import sysconfig
from pathlib import Path

from gpu.build import compile_tree
from gpu.cases import run_cases
from gpu.report import CannotRunError, Report, python

ROOT = Path(__file__).resolve().parents[3]


def ab(report: Report) -> None:
    """Build each variant of --variants, and replay their graphs in turn: one case per op and size.

    A variant is NAME=FLAGS: this checkout, compiled with additional flags of nvcc, such as fast=-DSSD_TILE=64;
    NAME=FOLDER: another checkout; or NAME=FILE: a build of the extension.
    """
    builds: list[str] = []
    report.step("build", 240, lambda step: _build_all(step, builds))
    report.step("alternate", 240, lambda step: _alternate(step, builds))


def _build_all(report: Report, builds: list[str]) -> None:
    if len(report.options.variants) < 2:
        raise CannotRunError('two variants are needed, such as VARIANTS="base= fast=-DSSD_TILE=64"')
    for variant in report.options.variants:
        name, _, what = variant.partition("=")
        built = _build(report, name, what)
        if built is not None:
            builds.append(f"{name}={built}")
            if not report.options.rehearsal:
                _install_if_none_is(built)


def _alternate(report: Report, builds: list[str]) -> None:
    if len(builds) < 2:
        raise CannotRunError("fewer than two variants are built")
    rehearse = ["--rehearse"] if report.options.rehearsal else []
    command = python("bench/compare_builds.py", *builds, *rehearse)
    run_cases(report, command, "run", part="ab", case_seconds=60)


def _install_if_none_is(built: Path) -> None:
    """Install a variant if there is no extension: without one ssd_fast, which loads the variants, does not import."""
    package = ROOT / "ssd_fast"
    if not any(package.glob("_C*.so")):
        shutil.copy(built, package / f"_C{sysconfig.get_config_var('EXT_SUFFIX')}")


def _build(report: Report, name: str, what: str) -> Path | None:
    """Build the extension of a variant; None if it does not compile."""
    if what.endswith(".so"):
        with report.findings.case(f"file {name}"):
            return Path(what).resolve(strict=True)
        return None
    source, flags = (Path(what).resolve(), "") if what and not what.startswith("-") else (ROOT, what)
    folder = report.build_folder / "ab" / name
    for older in folder.glob("_C*.so"):  # built with other flags, so it must not stand in for this variant
        older.unlink()
    compile_tree(report.labeled(variant=name), source, folder, ["_C"], flags)
    return next(folder.glob("_C*.so"), None)
