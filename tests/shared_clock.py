"""Virtual time for several threads: it passes only while all of them sleep, to the first to wake."""

from __future__ import annotations

import threading
from collections.abc import Callable

_THREAD_END_S = 0.001
"""Real time between two looks for a thread that has ended: nobody tells."""


class SharedClock:
    """A ``Clock`` for the thread that makes it and all that start later. One of them runs at a time.

    So a test with a motor thread is as repeatable as one without, and a busy machine changes nothing.
    ``overshoot_s`` says by how much (s, >= 0) each sleep of a thread other than the maker lasts too long.
    """

    def __init__(self, start_s: float = 0.0, overshoot_s: Callable[[], float] | None = None) -> None:
        self._now_s = start_s
        self._overshoot_s = overshoot_s
        self._maker = threading.current_thread()
        self._strangers = {thread for thread in threading.enumerate() if thread is not self._maker}
        self._wakes: dict[threading.Thread, tuple[float, int]] = {}
        self._sleeps = 0
        self._changed = threading.Condition()

    def now_s(self) -> float:
        return self._now_s

    def sleep_s(self, dt: float) -> None:
        assert dt >= 0.0
        me = threading.current_thread()
        with self._changed:
            self._sleeps += 1
            late_s = self._overshoot_s() if self._overshoot_s and me is not self._maker else 0.0
            self._wakes[me] = (self._now_s + dt + late_s, self._sleeps)
            while not self._my_turn(me):
                self._changed.notify_all()
                self._changed.wait(_THREAD_END_S)
            self._now_s = self._wakes.pop(me)[0]

    def _my_turn(self, me: threading.Thread) -> bool:
        if min(self._wakes, key=lambda thread: self._wakes[thread]) is not me:
            return False
        return all(thread in self._wakes or thread in self._strangers for thread in threading.enumerate())
