"""The image is built once, whole or not at all; a computer that cannot build it is told why."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import virtual_machine
from virtual_machine import VmError

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting for oneself alone needs root")


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe that a test writes, and a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    script = tmp_path / "build.sh"
    monkeypatch.setattr(virtual_machine, "BUILD", script)
    return script


def _made(tmp_path: Path) -> list[str]:
    return sorted(path.suffix for path in (tmp_path / "cache/parfocal/vm").iterdir())


@needs_root
def test_a_build_that_fails_leaves_nothing_that_looks_finished(build: Path, tmp_path: Path) -> None:
    build.write_text("touch $1/kernel; echo no such mirror >&2; exit 1\n")
    with pytest.raises(VmError, match="no such mirror"):
        virtual_machine.image()
    assert "" not in _made(tmp_path)


@needs_root
def test_two_at_a_time_build_once_and_a_killed_build_is_begun_again(build: Path, tmp_path: Path) -> None:
    record = tmp_path / "record"
    build.write_text(f"[ -e $1/left-over ] && exit 1; echo built >> {record}; sleep 0.1; touch $1/kernel\n")
    (virtual_machine._image_folder().with_suffix(".unfinished")).mkdir(parents=True)
    (virtual_machine._image_folder().with_suffix(".unfinished") / "left-over").touch()
    code = (
        "import pathlib, sys, virtual_machine\n"
        "virtual_machine.BUILD = pathlib.Path(sys.argv[1])\n"
        "print(virtual_machine.image())\n"
    )
    command = [sys.executable, "-c", code, str(build)]
    both = [
        subprocess.Popen(command, cwd=Path(__file__).parent, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    folders = {process.communicate(timeout=30)[0].strip() for process in both}
    assert folders == {str(virtual_machine._image_folder())}
    assert (virtual_machine._image_folder() / "kernel").exists()
    assert record.read_text() == "built\n"


def test_another_recipe_is_another_image(build: Path) -> None:
    build.write_text("true\n")
    before = virtual_machine._image_folder()
    build.write_text("false\n")
    assert virtual_machine._image_folder() != before


def test_what_is_missing_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch, build: Path) -> None:
    build.write_text("true\n")
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    lacks = ", ".join(virtual_machine.missing())
    assert "qemu-system-x86_64 (apt install qemu-system-x86)" in lacks
    assert "mke2fs (apt install e2fsprogs)" in lacks
    assert "root, to build the machine's image" in lacks
