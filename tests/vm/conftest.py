"""The virtual machine's jobs: those that the chosen tests ask for are run in one boot, before the first.

A test asks by its mark, ``@pytest.mark.vm("NAME", limit_s=SECONDS)`` for jobs/NAME.py, and is given the job's
JSON records by the fixture ``records``. With PARFOCAL_VM=require a computer without the tools is a failure.
"""

from __future__ import annotations

from typing import Any

import pytest
import virtual_machine
from machines import need
from virtual_machine import Result

LIMIT_S = 300.0
"""A job's time limit where its mark names none: many times what it takes on an idle computer."""
_FIRST_TEST_S = 1800
"""The first test waits for the image, the boot (more than one where a machine stands still) and all jobs."""

_figures = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_figures] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "records" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(_FIRST_TEST_S))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.stash[_figures]:
        terminalreporter.section("measured in the virtual machine")
        for line in config.stash[_figures]:
            terminalreporter.line(line)


@pytest.fixture(scope="session")
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    need("virtual machine", virtual_machine.missing())
    limits_s: dict[str, float] = {}
    for item in request.session.items:
        for mark in item.iter_markers("vm"):
            for name in mark.args:
                limits_s[name] = max(limits_s.get(name, 0.0), mark.kwargs.get("limit_s", LIMIT_S))
    return virtual_machine.run(limits_s, tmp_path_factory.mktemp("vm"), request.config.stash[_figures].append)


@pytest.fixture
def records(request: pytest.FixtureRequest, results: dict[str, Result]) -> list[dict[str, Any]]:
    """What the test's job told; the test fails when the job did."""
    mark = request.node.get_closest_marker("vm")
    assert mark.args[0] in results, f"the machine ended before the job {mark.args[0]} did, every time"
    result = results[mark.args[0]]
    assert result.code == 0, f"the job {mark.args[0]} ended with {result.code}:\n{result.errors}"
    return result.records


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> list[str]:
    """Lines to show at the end of the run."""
    return request.config.stash[_figures]
