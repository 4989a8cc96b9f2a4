"""When the clock asks for a focus: so long after the last run, and at times of the day."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time, timedelta

__all__ = ["Schedule"]


@dataclass
class Schedule:
    """``every_s`` (s; None: never) after the last run, and ``at`` times of the day, local time.

    Pure: `due` is told both clocks. A time of the day that passed while the device slept, or that a clock set
    by the network jumped over, is made up for once.
    """

    every_s: float | None = None
    at: tuple[time, ...] = ()
    _ran_s: float | None = None
    _looked: datetime | None = None

    @classmethod
    def of(cls, every_min: float | None, at: str | None) -> Schedule:
        """From the keys of ``[service]``, which have been checked."""
        times = () if at is None else tuple(_time(part) for part in at.split(","))
        return cls(None if every_min is None else 60.0 * every_min, times)

    def ran(self, now_s: float) -> None:
        """A run, whoever asked for it, has ended at ``now_s`` of the monotonic clock."""
        self._ran_s = now_s

    def due(self, now_s: float, local: datetime) -> str | None:
        """Who asks for a run now, at ``now_s`` (s, monotonic) and ``local`` time; None: nobody."""
        before, self._looked = self._looked, local
        if self._ran_s is None:
            self._ran_s = now_s
        if self.every_s is not None and now_s - self._ran_s >= self.every_s:
            self._ran_s = now_s
            return "schedule"
        if before is None or local <= before:  # the clock was set back: nothing is done twice on the way
            return None
        passed = any(_between(before, moment, local) for moment in self.at)
        return "schedule" if passed else None


def _time(text: str) -> time:
    hour, minute = text.strip().split(":")
    return time(int(hour), int(minute))


def _between(before: datetime, moment: time, now: datetime) -> bool:
    """Whether ``moment`` of some day lies after ``before`` and not after ``now``; of a long time, once."""
    latest = now.replace(hour=moment.hour, minute=moment.minute, second=0, microsecond=0)
    if latest > now:
        latest -= timedelta(days=1)
    return before < latest
