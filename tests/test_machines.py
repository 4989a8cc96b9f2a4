"""Skipping without tools, and trees that are built once."""

from __future__ import annotations

from pathlib import Path

import pytest
from machines import built_once, need


def test_what_is_lacking_skips_or_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    need("machine", [])
    monkeypatch.delenv("PARFOCAL_VM", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no machine without a, b"):
        need("machine", ["a", "b"])
    monkeypatch.setenv("PARFOCAL_VM", "require")
    with pytest.raises(pytest.fail.Exception, match="no machine without a"):
        need("machine", ["a"])


def test_built_once_for_each_recipe_and_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    built: list[Path] = []

    def build(tree: Path) -> None:
        assert not tree.exists()
        tree.mkdir()
        built.append(tree)
        if len(built) == 1:
            raise RuntimeError("no mirror")

    with pytest.raises(RuntimeError, match="no mirror"):
        built_once("tree", "one", build)
    first = built_once("tree", "one", build)
    assert first.is_dir()
    assert built_once("tree", "one", build) == first
    assert built_once("tree", "two", build) != first
    assert len(built) == 3
