"""Computers that are not here: a folder of their files, and what their commands answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge.config import Config, override
from edge.doctor.machine import Disk, Machine, Reply

PICAMERA2, USB, CSI = (
    override(Config(), "test", camera={"driver": driver}) for driver in ("picamera2", "opencv", "gstreamer")
)
COILS = {"in1_pin": 17, "in2_pin": 18, "in3_pin": 27, "in4_pin": 22}
PLENTY = Disk(free_bytes=10**10, read_only=False, device=1)
BOOKWORM = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\n'


def uln2003(**sections: dict[str, Any]) -> Config:
    """A 28BYJ-48."""
    gpio = {**COILS, **sections.pop("gpio", {})}
    return override(Config(), "test", stage={"driver": "uln2003"}, gpio=gpio, **sections)


class Computer:
    """Builds a `Machine` below ``root``. ``answers``: command beginnings and what comes back."""

    def __init__(self, root: Path, model: str = "") -> None:
        self.root = root
        self.answers: dict[str, Reply] = {}
        self.asked: list[list[str]] = []
        self.closed: set[str] = set()
        """Paths that the user may not open."""
        if model:
            self.put("/proc/device-tree/model", model + "\0")
        self.put("/etc/os-release", BOOKWORM)
        self.put("/proc/sys/kernel/osrelease", "6.12.25+rpt-rpi-v8\n")

    def put(self, path: str, text: str = "") -> Path:
        """A file of the machine."""
        there = self.root / path.lstrip("/")
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_text(text, encoding="utf-8")
        return there

    def link(self, path: str, target: str) -> None:
        there = self.root / path.lstrip("/")
        there.parent.mkdir(parents=True, exist_ok=True)
        there.symlink_to(target)

    def answer(self, words: str, out: str = "", *, code: int = 0, err: str = "") -> None:
        """What a command that holds ``words`` gives."""
        self.answers[words] = Reply(code, out, err)

    def machine(self, **facts: Any) -> Machine:
        plain = Machine(
            root=self.root,
            run=self._run,
            may_use=lambda path: str(path).removeprefix(str(self.root)) not in self.closed,
            disk=lambda folder: PLENTY,
            user_id=1000,
            user="ada",
            architecture="aarch64",
            bits=64,
            python=(3, 11, 2),
            prefix=Path("/usr"),
            base_prefix=Path("/usr"),
        )
        return dataclasses.replace(plain, **facts)

    def _run(self, command: Sequence[str], limit_s: float) -> Reply:
        assert limit_s > 0
        self.asked.append(list(command))
        line = " ".join(command)
        return next(
            (reply for words, reply in self.answers.items() if words in line), Reply(None, "", "not found")
        )
