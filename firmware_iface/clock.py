"""Time as an argument: the machine's own clock, and one that only moves when somebody sleeps on it.

Everything that waits takes a ``Clock``. With a ``VirtualClock`` a minute of motion takes as long as the
arithmetic behind it, and the same run gives the same times to the last bit.
"""

from __future__ import annotations

import math
import time
from typing import Protocol


class Clock(Protocol):
    """A monotonic clock that can be slept on. Times are seconds (s) from an arbitrary origin."""

    def now_s(self) -> float:
        """Seconds since the clock's origin; never decreases. Does not block."""
        ...

    def sleep_s(self, dt: float) -> None:
        """Block until ``dt`` s (>= 0) of this clock have passed. Negative or not finite: ValueError."""
        ...


class RealClock:
    """The machine's monotonic clock. ``sleep_s`` really blocks the calling thread."""

    def now_s(self) -> float:
        """Seconds of ``time.monotonic``: not wall-clock time, and unmoved by NTP steps."""
        return time.monotonic()

    def sleep_s(self, dt: float) -> None:
        """Block for at least ``dt`` s (>= 0). Negative or not finite: ValueError."""
        time.sleep(_checked(dt))


class VirtualClock:
    """A clock whose time passes only in ``sleep_s``, at once. One clock for one simulated rig.

    Blocks nobody. Not for several threads that sleep at the same time: each would advance the others.
    """

    def __init__(self, start_s: float = 0.0) -> None:
        if not math.isfinite(start_s):
            raise ValueError(f"a clock cannot start at {start_s!r} s: need a finite number")
        self._now_s = float(start_s)

    def now_s(self) -> float:
        """Seconds slept so far, plus ``start_s``."""
        return self._now_s

    def sleep_s(self, dt: float) -> None:
        """Advance the clock by ``dt`` s (>= 0) and return at once. Negative or not finite: ValueError."""
        self._now_s += _checked(dt)


def _checked(dt: float) -> float:
    """``dt`` itself; ValueError when no clock could sleep for so long."""
    if not (math.isfinite(dt) and dt >= 0.0):
        raise ValueError(f"cannot sleep for {dt!r} s: need a finite number of at least 0")
    return dt
