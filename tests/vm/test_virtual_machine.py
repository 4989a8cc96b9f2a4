"""The image is built once, whole or not at all; a machine that stands still is booted again."""

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


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the machine shares with this computer; its limits are short, and its image is of no account."""
    monkeypatch.setattr(virtual_machine, "image", lambda: tmp_path)
    monkeypatch.setattr(virtual_machine, "BOOT_S", 2.0)
    monkeypatch.setattr(virtual_machine, "SILENT_S", 2.0)
    shared = tmp_path / "host"
    shared.mkdir()
    return shared


def _machine(monkeypatch: pytest.MonkeyPatch, folder: Path, *boots: str) -> None:
    """Instead of the emulator: the first boot runs the first of these shell scripts, and so on."""
    tools = folder.parent / "tools"
    tools.mkdir()
    count = "echo >>../boots; boot=$(wc -l <../boots)"
    job = 'did() { echo "{}" >$1.jsonl; : >$1.err; echo 0 >$1.code; }'
    cases = "".join(f"{k + 1}) {script};;\n" for k, script in enumerate(boots))
    (tools / "qemu-system-x86_64").write_text(
        f"#!/bin/bash\ncd {folder}\n{count}\n{job}\ncase $boot in\n{cases}esac\n"
    )
    (tools / "qemu-system-x86_64").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")


STANDS_STILL = "exec sleep 60"


class TestBoot:
    def test_one_that_stands_still_before_it_says_a_word_is_booted_again(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _machine(monkeypatch, folder, STANDS_STILL, "touch alive; did coils")
        said: list[str] = []
        assert virtual_machine.run({"coils": 5.0}, folder, said.append)["coils"].records == [{}]
        assert len(said) == 1
        assert "never came to life" in said[0]

    def test_what_is_left_by_one_that_dies_or_stands_still_gets_another_boot(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        dies = "touch alive; did coils"
        _machine(
            monkeypatch,
            folder,
            dies,
            f"touch alive; echo half >timing.jsonl; {STANDS_STILL}",
            "touch alive; did timing",
        )
        said: list[str] = []
        done = virtual_machine.run({"coils": 5.0, "timing": 5.0}, folder, said.append)
        assert [done[name].records for name in ("coils", "timing")] == [[{}], [{}]]
        assert said == ["the machine ended early; booted again for timing"] * 2

    def test_signs_of_life_keep_one_that_is_only_slow(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _machine(monkeypatch, folder, "for i in {1..13}; do date +%N >alive; sleep 0.2; done; did coils")
        said: list[str] = []
        assert virtual_machine.run({"coils": 5.0}, folder, said.append)["coils"].code == 0
        assert said == []

    def test_three_times_are_enough(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(virtual_machine, "BOOT_S", 0.2)
        _machine(monkeypatch, folder, STANDS_STILL, STANDS_STILL, STANDS_STILL, "touch alive; did coils")
        with pytest.raises(VmError, match="never came to life, 3 times"):
            virtual_machine.run({"coils": 5.0}, folder, lambda line: None)

    def test_jobs_that_take_too_long(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        _machine(monkeypatch, folder, "while :; do date +%N >alive; sleep 0.1; done")
        with pytest.raises(VmError, match=r"not done after 2\.5 s"):
            virtual_machine.run({"coils": 0.5}, folder, lambda line: None)

    @pytest.mark.parametrize("cut", [None, "cut"])
    def test_one_that_dies_before_its_job_or_its_cut_is_told(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cut: str | None
    ) -> None:
        (tmp_path / "disk.img").touch()
        (tmp_path / "computer").mkdir()
        computer = virtual_machine.Computer(tmp_path / "computer")
        _machine(monkeypatch, computer.folder, "touch ../host/alive; echo '{}' >../host/coils.jsonl")
        with pytest.raises(VmError, match="ended before the job coils did"):
            computer.boot("coils", 5.0, cut=cut)


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
