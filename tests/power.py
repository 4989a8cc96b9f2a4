"""Power cuts: a journal's system calls with a disk that loses what was not synced, and a motor that stops."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from firmware_iface.clock import VirtualClock
from firmware_iface.journal import BLOCK_BYTES, Journal
from firmware_iface.simulated import SimulatedAxis
from firmware_iface.stage import Stage

LOW, HIGH, GAP = -2000, 2000, 50
UM = 0.5


class Killed(BaseException):
    """The process ends here. Whatever its ``finally`` blocks still do is undone by the test."""


class Disk:
    """Stands in for ``os`` in the journal of ``path``. ``at_event`` is called around every change."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.synced = path.read_bytes() if path.exists() else b""
        self.pending: list[tuple[int, bytes]] = []
        self.at_event: Callable[[], None] = lambda: None

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def pwrite(self, handle: int, data: bytes, at: int) -> int:
        done = os.pwrite(handle, data, at)
        self.pending.append((at, data))
        self.at_event()
        return done

    def fsync(self, handle: int) -> None:
        self.at_event()
        os.fsync(handle)
        self._settle()

    def fdatasync(self, handle: int) -> None:
        self.at_event()
        os.fdatasync(handle)
        self._settle()

    def _settle(self) -> None:
        self.synced = self._path.read_bytes() if self._path.exists() else b""
        self.pending.clear()
        self.at_event()

    def torn_at(self, cut: int, *, end_first: bool = False) -> bytes:
        """What is on the disk if the power goes now, with ``cut`` bytes of each write made, or missing."""
        image = bytearray(self.synced.ljust(2 * BLOCK_BYTES, b"\0"))
        for at, data in self.pending:
            begin, end = (cut, len(data)) if end_first else (0, min(cut, len(data)))
            image[at + begin : at + end] = data[begin:end]
        return bytes(image[: max(len(self.synced), *(at + len(data) for at, data in self.pending), 0)])


class WatchedClock(VirtualClock):
    """Calls ``at_sleep`` before every sleep."""

    def __init__(self) -> None:
        super().__init__()
        self.at_sleep: Callable[[], None] = lambda: None

    def sleep_s(self, dt: float) -> None:
        self.at_sleep()
        super().sleep_s(dt)


class Board(SimulatedAxis):
    """An axis whose count begins at ``count``, as a board's does that was on all the time."""

    def __init__(self, clock: VirtualClock, *, count: int = 0, gap: int = 0) -> None:
        super().__init__(clock, backlash_steps=gap, vibration_amplitude_steps=0.0, seed=0)
        self._begin_at = count

    @property
    def position_steps(self) -> int:
        return self._begin_at + super().position_steps


@dataclass
class Life:
    """One process with the stage in its hands; the screw begins at ``screw``, the count at ``count``."""

    path: Path
    screw: int = 0
    count: int = 0
    wishes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.clock = WatchedClock()
        self.axis = Board(self.clock, count=self.count)
        wishes = {"um_per_step": UM, "limits_steps": (LOW, HIGH), "backlash_steps": GAP, **self.wishes}
        self.stage = Stage(self.axis, self.clock, journal=Journal(self.path), **wishes)
        self.axis.enable()

    @property
    def true_screw(self) -> int:
        return self.screw + self.axis.position_steps - self.count

    def end(self) -> None:
        self.stage.close()

    def next(self, *, count: int | None = None, shift: int = 0, **wishes: Any) -> Life:
        """This one ends in order; the next, with the axis' count at 0 or at ``count``."""
        self.end()
        return Life(
            self.path, self.true_screw + shift, 0 if count is None else count, {**self.wishes, **wishes}
        )

    def killed_on_the_way_to(self, target: int, *, after: int, count: int = 0) -> Life:
        """The next one, its axis' count at ``count``, after a kill at the ``after``-th sleep of a move."""
        image, screw, sleeps = b"", 0, 0

        def kill() -> None:
            nonlocal image, screw, sleeps
            sleeps += 1
            if sleeps == after:
                image, screw = self.path.read_bytes(), self.true_screw
                raise Killed

        self.clock.at_sleep = kill
        with pytest.raises(Killed):
            self.stage.move_to_steps(target)
        self.clock.at_sleep = lambda: None
        self.end()
        self.path.write_bytes(image)
        return Life(self.path, screw, count, self.wishes)


def safe_everywhere(life: Life) -> bool:
    """Whether no move that is allowed now could leave the soft limits, seen from outside."""
    slack = life.true_screw - life.stage.position_steps
    return all(LOW <= round(end / UM) + slack <= HIGH for end in life.stage.limits_um)


def blocks(image: bytes) -> Iterator[bytes]:
    """The two copies in a journal's file."""
    yield image[:BLOCK_BYTES]
    yield image[BLOCK_BYTES : 2 * BLOCK_BYTES]
