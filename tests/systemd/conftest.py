"""The container's story, told once a session: installs of several versions, a power cut, the ends.

With PARFOCAL_VM=require a computer without the tools is a failure.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import container
import pytest
import releases
from machines import need

LIFE_S, AFTER_S = 1500.0, 900.0
"""Limits: several times what the two boots take on two busy cores."""

Records = dict[str, dict[str, Any]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "story" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(LIFE_S + AFTER_S + 600))


@pytest.fixture(scope="session")
def story(tmp_path_factory: pytest.TempPathFactory) -> Records:
    """By the name of the step: what guest.py noted."""
    need("container", container.missing())
    folder = tmp_path_factory.mktemp("container")
    box = container.Container(folder)
    try:
        bundles = box.host / "bundles"
        bundles.mkdir()
        releases.make(bundles, releases.new_key(bundles / "key"))
        box.boot("life", LIFE_S)
        box.boot("after", AFTER_S)
        return {**_records(box.host / "life.jsonl"), **_records(box.host / "after.jsonl")}
    finally:
        for name in ("upper", "scratch", "host/bundles"):  # a gigabyte
            shutil.rmtree(folder / name, ignore_errors=True)


def _records(path: Path) -> Records:
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return {line["step"]: line for line in lines}
