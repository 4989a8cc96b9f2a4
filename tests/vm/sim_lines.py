"""Kernel GPIO lines of the gpio-sim module, as the kernel sees them. For jobs: root, in the machine.

Three ways to look at a line, none of them through the library under test: its level, where the simulated
chip keeps it; the kernel's trace, which has each write and each change of direction with its time; and the
pull, which is the wire at an input.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from firmware_iface.axis import Axis

LINES = 54
"""As many as a Raspberry Pi has."""
_CONFIG = Path("/sys/kernel/config/gpio-sim/microscope")
_TRACE = Path("/sys/kernel/tracing")
_EVENT = re.compile(
    r"-(?P<thread>\d+) .*\s(?P<at>\d+\.\d+): "
    r"(?P<kind>gpio_value|gpio_direction|tracing_mark_write): (?P<what>.*)"
)


@dataclass(frozen=True)
class Event:
    """One line of the trace."""

    at_s: float
    """As ``time.monotonic``; the kernel writes whole microseconds."""
    kind: str
    """"set" and "get" (a level written or read), "out" and "in" (a change of direction), or "mark"."""
    pin: int
    """-1 for a mark."""
    level: int
    """Of "set" and "get"; else 0."""
    thread: int
    """Of whoever did it; a process' main thread has the number of the process."""


class SimLines:
    """A chip of ``LINES`` lines, made known to rpi-lgpio as a Raspberry Pi's; use ``made()``."""

    def __init__(self, device: Path) -> None:
        (chip,) = device.glob("gpiochip*")
        self._lines = chip
        (legacy,) = device.glob("gpio/gpiochip*")
        self._base = int(legacy.name.removeprefix("gpiochip"))
        self._levels: dict[int, int] = {}
        os.environ.update(
            RPI_LGPIO_CHIP=chip.name.removeprefix("gpiochip"),
            RPI_LGPIO_REVISION="c03114",
            LG_WD=str(Path.cwd()),
        )

    def level(self, pin: int) -> int:
        """The level at ``pin`` now."""
        file = self._levels.get(pin)
        if file is None:
            file = self._levels[pin] = os.open(self._lines / f"sim_gpio{pin}" / "value", os.O_RDONLY)
        return int(os.pread(file, 1, 0))

    def levels(self, pins: Iterable[int]) -> list[int]:
        """``level`` of each."""
        return [self.level(pin) for pin in pins]

    def pull_file(self, pin: int) -> Path:
        """Where "pull-up" or "pull-down" is to be written for ``pull``."""
        return self._lines / f"sim_gpio{pin}" / "pull"

    def pull(self, pin: int, up: bool) -> None:
        """What an input reads, and what a line falls to once nobody has it."""
        self.pull_file(pin).write_text("pull-up" if up else "pull-down")

    def clear_trace(self) -> None:
        """Forget all events so far."""
        (_TRACE / "trace").write_text("")

    def events(self) -> list[Event]:
        """All events since ``clear_trace``, in order. RuntimeError when the kernel had to drop any."""
        lost = [
            line
            for stats in _TRACE.glob("per_cpu/cpu*/stats")
            for line in stats.read_text().splitlines()
            if re.match(r"(overrun|commit overrun|dropped events): [1-9]", line)
        ]
        if lost:
            raise RuntimeError(f"the kernel's trace lost events: {', '.join(lost)}")
        found = map(_EVENT.search, (_TRACE / "trace").read_text().splitlines())
        return [self._event(match) for match in found if match]

    def _event(self, match: re.Match[str]) -> Event:
        at_s, kind, words = float(match["at"]), match["kind"], match["what"].split()
        thread = int(match["thread"])
        if kind == "tracing_mark_write":
            return Event(at_s, "mark", -1, 0, thread)
        pin = int(words[0]) - self._base
        return Event(at_s, words[1], pin, int(words[2]) if kind == "gpio_value" else 0, thread)

    def close(self) -> None:
        for file in self._levels.values():
            os.close(file)


@contextmanager
def made() -> Iterator[SimLines]:
    """The chip, all lines pulled down and traced; gone at the end, so that the next job finds none."""
    subprocess.run(["modprobe", "gpio-sim"], check=True)
    bank = _CONFIG / "bank0"
    bank.mkdir(parents=True)
    (bank / "num_lines").write_text(str(LINES))
    (bank / "label").write_text("pinctrl-bcm2711")
    (_CONFIG / "live").write_text("1")
    try:
        (_TRACE / "trace_clock").write_text("mono")
        (_TRACE / "buffer_size_kb").write_text("8192")
        (_TRACE / "events/gpio/enable").write_text("1")
        lines = SimLines(Path("/sys/devices/platform") / (_CONFIG / "dev_name").read_text().strip())
        try:
            yield lines
        finally:
            lines.close()
    finally:
        (_TRACE / "events/gpio/enable").write_text("0")
        (_CONFIG / "live").write_text("0")
        bank.rmdir()
        _CONFIG.rmdir()


def mark_and_pull_later(lines: SimLines, pin: int, after_s: float) -> subprocess.Popen[bytes]:
    """A process that, after ``after_s`` s, leaves a mark in the trace and pulls ``pin`` up."""
    pull = f"sleep {after_s}; echo pulled > {_TRACE}/trace_marker; echo pull-up > {lines.pull_file(pin)}"
    return subprocess.Popen(["/bin/sh", "-c", pull])


def rest(axis: Axis) -> None:
    """Block until ``axis`` stands."""
    while axis.moving:
        time.sleep(0.005)


def tell(**record: object) -> None:
    """One record for the test that asked for this job."""
    json.dump(record, sys.stdout)
    sys.stdout.write("\n")
    sys.stdout.flush()
