"""A pytest plugin (-p gpu.pytest_findings) that records each test as a case of the report that started pytest."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from gpu.findings import BEGAN, RESTART, from_environment, lost_context

_findings = from_environment()
_outcomes: dict[str, tuple[str, str]] = {}  # of tests that are not torn down yet
_measured: dict[str, dict[str, Any]] = {}


@pytest.hookimpl(trylast=True)  # after the conftest's, which marks what is selected here
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests that an earlier process of this file has finished."""
    done = _findings.done()
    left = [item for item in items if item.nodeid not in done]
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid in done])
    items[:] = left


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """A file that cannot be imported is a failed case."""
    if report.failed:
        _findings.add("failed", f"collection of {report.nodeid}", str(report.longrepr)[-2000:])


def pytest_runtest_logstart(nodeid: str) -> None:
    """Name the test that is to blame if the process crashes."""
    _findings.add(BEGAN, nodeid)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Keep what a benchmark measured."""
    result = yield
    benchmark = getattr(item, "funcargs", {}).get("benchmark")
    if benchmark is not None and benchmark.extra_info:
        _measured[item.nodeid] = dict(benchmark.extra_info)
    return result


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Record a test after its teardown. After an error that loses the CUDA context, ask for a new process."""
    if report.failed:
        _outcomes[report.nodeid] = "failed", f"in {report.when}: {_message(report)}{report.longreprtext[-1500:]}"
    elif report.skipped:
        _outcomes.setdefault(report.nodeid, ("skipped", _reason(report)))
    if report.when != "teardown":
        return
    status, text = _outcomes.pop(report.nodeid, ("passed", ""))
    measured = {"measured": _measured.pop(report.nodeid)} if report.nodeid in _measured else {}
    _findings.add(status, report.nodeid, text, **measured)
    if lost_context(text):
        print(f"\n{report.nodeid}\n{report.longreprtext}")
        sys.stdout.flush()
        os._exit(RESTART)


def _message(report: pytest.TestReport) -> str:
    """The error's own message, which may stand far from both ends of a long report."""
    crash = getattr(report.longrepr, "reprcrash", None)
    return f"{crash.message[:500]}\n" if crash is not None else ""


def _reason(report: pytest.TestReport) -> str:
    where = report.longrepr
    return str(where[2]) if isinstance(where, tuple) else str(where)
