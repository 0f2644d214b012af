"""The project around the package: workflows, issue forms, metadata, and one version and Python floor everywhere."""

from __future__ import annotations

import os
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ssd_fast
from helpers.paths import ROOT

yaml = pytest.importorskip("yaml", reason="PyYAML, of the extra `test`, is not installed")

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.y*ml"))
FORMS = sorted(path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.y*ml") if path.stem != "config")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FLOOR = "3.11"

# What a step may run besides the project's own commands: it prepares the machine.
PREPARING = ("apt-get", "git config", "python -m pip install -c constraints.txt")


def steps(workflow: Path) -> Iterator[dict[str, Any]]:
    for job in yaml.safe_load(workflow.read_text())["jobs"].values():
        yield from job["steps"]


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE))


def unknown_command(command: str) -> str | None:
    """Return why a command of a workflow cannot work, or None."""
    words = shlex.split(command)
    if words[0] == "make":
        missing = {word for word in words[1:] if "=" not in word} - make_targets()
        return f"no target of the Makefile: {sorted(missing)}" if missing else None
    if "/" in words[0]:
        return None if os.access(ROOT / words[0], os.X_OK) else f"no executable {words[0]}"
    return None if command.startswith(PREPARING) else f"not a command of the project: {command}"


def test_unknown_command_notices() -> None:
    assert unknown_command("make test VENV=none") is None
    assert unknown_command("make tests") == "no target of the Makefile: ['tests']"
    assert unknown_command(".ci/run") is None
    assert unknown_command(".ci/walk") == "no executable .ci/walk"
    assert unknown_command("pytest tests") == "not a command of the project: pytest tests"


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_runs_commands_of_the_project(workflow: Path) -> None:
    commands = [line for step in steps(workflow) for line in step.get("run", "").splitlines()]
    assert commands or workflow.stem not in ("ci", "wheels", "docs")
    unknown = [why for line in commands for command in line.split(" && ") if (why := unknown_command(command))]
    assert not unknown


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_is_confined(workflow: Path) -> None:
    """A workflow only reads the repository, uses GitHub's own actions at a major version, and ends by itself."""
    found = yaml.safe_load(workflow.read_text())
    assert {"name", "jobs", True} <= found.keys()  # YAML 1.1 reads the key `on` as true
    assert found["permissions"] == {"contents": "read"}
    for action in (step["uses"] for step in steps(workflow) if "uses" in step):
        assert re.fullmatch(r"actions/[a-z-]+@v\d+", action)
    for job in found["jobs"].values():
        assert "timeout-minutes" in job
    assert "secrets" not in workflow.read_text()


def test_workflows_for_ci_wheels_and_docs_exist() -> None:
    assert {"ci", "wheels", "docs"} <= {path.stem for path in WORKFLOWS}
    ran = [step.get("run") for path in WORKFLOWS if path.stem == "ci" for step in steps(path)]
    assert ".ci/run" in ran


def test_workflows_use_python_floor() -> None:
    wheels = yaml.safe_load((ROOT / ".github/workflows/wheels.yml").read_text())
    assert wheels["jobs"]["wheel"]["strategy"]["matrix"]["python"][0] == FLOOR
    versions = {
        step["with"]["python-version"]
        for path in WORKFLOWS
        for step in steps(path)
        if step.get("uses", "").startswith("actions/setup-python@")
    }
    assert versions == {FLOOR, "${{ matrix.python }}"}


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.stem)
def test_issue_form_is_valid(form: Path) -> None:
    found = yaml.safe_load(form.read_text())
    assert {"name", "description", "body"} <= found.keys()
    fields = [element for element in found["body"] if element["type"] != "markdown"]
    names = [field["id"] for field in fields]
    assert len(names) == len(set(names)) > 0
    assert all(field["attributes"]["label"] for field in fields)
    assert any(field.get("validations", {}).get("required") for field in fields)


def test_forms_for_bugs_results_speed_and_features_exist() -> None:
    assert [path.stem for path in FORMS] == ["bug", "feature", "slow", "wrong_result"]


def test_version_is_in_one_place_and_citation_repeats_it() -> None:
    assert "version" not in PROJECT["project"] and PROJECT["project"]["dynamic"] == ["version"]
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "ssd_fast.__version__"}
    source = (ROOT / "ssd_fast" / "__init__.py").read_text()
    assert re.findall(r'^__version__ = "(.+)"$', source, re.MULTILINE) == [ssd_fast.__version__]  # read, not imported
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == ssd_fast.__version__
    assert citation["license"] == PROJECT["project"]["license"]
    assert f"## [{ssd_fast.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_python_floor_is_same_for_every_tool() -> None:
    assert PROJECT["project"]["requires-python"] == f">={FLOOR}"
    assert PROJECT["tool"]["ruff"]["target-version"] == f"py{FLOOR.replace('.', '')}"
    assert PROJECT["tool"]["mypy"]["python_version"] == FLOOR
    assert f"Programming Language :: Python :: {FLOOR}" in PROJECT["project"]["classifiers"]


def test_license_files_exist_and_setuptools_knows_spdx() -> None:
    assert all((ROOT / name).is_file() for name in PROJECT["project"]["license-files"])
    (required,) = (line for line in PROJECT["build-system"]["requires"] if line.startswith("setuptools"))
    (pinned,) = re.findall(r"^setuptools==(\d+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert int(pinned) >= int(required.removeprefix("setuptools>=")) >= 77


def test_no_project_url_is_made_up() -> None:
    assert "urls" not in PROJECT["project"]
    assert "url" not in (ROOT / "CITATION.cff").read_text()
