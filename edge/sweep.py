"""Classical focus search: a coarse pass, a fine pass about the best, the vertex of a parabola. No I/O.

The caller moves to ``next_position()``, measures, calls ``record``, until ``next_position()`` is None. Both
passes rise, or fall where that is how the stage approaches, so that it needs no overshoot. Where a first
window about ``start`` holds a clear peak away from its ends, the rest of the range is not visited.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: The peak must be this many times the median (the middle of a range is rarely in focus) ...
CLEAR_OVER_MEDIAN = 1.5
#: ... or, in a range so narrow that all of it is nearly in focus, this many times the lowest.
CLEAR_OVER_LOWEST = 1.15
#: LoG energy below which a field is taken as flat: noise of a cheap sensor leaves about a tenth of it.
FLAT_SHARPNESS = 3e-7
FINE_STEPS = 4


@dataclass(frozen=True)
class Peak:
    """Where a sweep found the sharpest place. ``clear`` False: ``reason`` says why not to trust it."""

    position: float
    sharpness: float
    clear: bool
    reason: str = ""


class Sweep:
    """Search ``low`` to ``high`` (same unit as ``step``) about ``start``, first within ``window`` of it,
    upwards or ``falling``.

    ``fine`` False leaves the second pass out. Raises ValueError unless ``low <= start <= high`` and ``step``
    is above 0.
    """

    def __init__(
        self,
        low: float,
        high: float,
        step: float,
        start: float,
        *,
        window: float = math.inf,
        fine: bool = True,
        falling: bool = False,
    ) -> None:
        if not (
            math.isfinite(low)
            and math.isfinite(high)
            and low <= start <= high
            and step > 0
            and math.isfinite(step)
        ):
            raise ValueError(
                f"sweep from {low} to {high} by {step}, start {start}: low <= start <= high, step above 0"
            )
        self._low, self._high, self._step = low, high, step
        self._fine, self._falling = fine, falling
        grid = (
            np.linspace(low, high, max(2, math.ceil((high - low) / step - 1e-9) + 1))
            if high > low
            else np.array([low])
        )
        near = np.abs(grid - start) <= window
        self._queue = self._in_order(grid[near])
        self._later = self._in_order(grid[~near])
        self._fine_left = fine
        self.seen: dict[float, float] = {}

    @property
    def budget(self) -> int:
        """The most positions this sweep can ask for from here."""
        return len(self._queue) + len(self._later) + (2 * FINE_STEPS + 1 if self._fine_left else 0)

    def next_position(self) -> float | None:
        """Where to measure next; None when the search is over."""
        if not self._queue and self._later and not self._settled():
            self._queue, self._later = self._later, []
        if not self._queue and self._fine_left:
            self._queue, self._later = self._fine_positions(), []
            self._fine_left = False
        return self._queue[0] if self._queue else None

    def record(self, position: float, sharpness: float) -> None:
        """The measure at the place `next_position` gave; ``position`` is where the stage really stood."""
        if not self._queue:
            raise ValueError("sweep: nothing was asked for")
        self._queue.pop(0)
        self.seen[position] = sharpness

    def peak(self) -> Peak:
        """The result so far. Raises ValueError when nothing was recorded."""
        if not self.seen:
            raise ValueError("sweep: nothing was recorded")
        places = np.array(sorted(self.seen))
        values = np.array([self.seen[z] for z in places])
        top = float(values.max())
        reason = doubt(values)
        # Of a flat top (a stack shows one plane from several places) no part may lie at an end.
        flat = flat_top(places, values)
        if not reason and (self._at_end(float(flat[0])) or self._at_end(float(flat[-1]))):
            reason = "the sharpest place is at the end of the range: the focus may lie beyond it"
        return Peak(vertex(places, values), top, not reason, reason)

    def _settled(self) -> bool:
        """The window holds a clear peak that is not at its ends."""
        if len(self.seen) <= 4:
            return False
        places = np.array(sorted(self.seen))
        values = np.array([self.seen[z] for z in places])
        flat = flat_top(places, values)
        inside = bool(places[0] < flat[0] and flat[-1] < places[-1])
        return inside and not doubt(values) and float(values.max()) > 2 * float(np.median(values))

    def _at_end(self, place: float) -> bool:
        slack = 0.6 * self._step / (FINE_STEPS if self._fine else 1)
        return min(abs(place - self._low), abs(place - self._high)) < slack

    def _fine_positions(self) -> list[float]:
        if not self.seen or self._high <= self._low:
            return []
        best = max(self.seen, key=lambda z: self.seen[z])
        offsets = np.arange(-FINE_STEPS, FINE_STEPS + 1) * self._step / FINE_STEPS
        wanted = [best + float(d) for d in offsets]
        # What was seen stood at whole steps of the stage, not quite where it was asked for.
        apart = 0.25 * self._step / FINE_STEPS
        return self._in_order(
            z for z in wanted if self._low <= z <= self._high and all(abs(z - s) > apart for s in self.seen)
        )

    def _in_order(self, places: Iterable[float]) -> list[float]:
        return sorted((float(z) for z in places), reverse=self._falling)


def doubt(values: Array) -> str:
    """Why ``values`` ``(N,)``, sharpness, N of 1 or more, hold no clear peak; empty where they do."""
    top, low = float(values.max()), float(values.min())
    if top < FLAT_SHARPNESS:
        return "nothing with contrast in the whole range"
    if len(values) < 2:
        return "only one place was looked at"
    if top < CLEAR_OVER_MEDIAN * float(np.median(values)) and top < CLEAR_OVER_LOWEST * low:
        return "no clear peak: the sharpness hardly changes over the range"
    return ""


def flat_top(places: Array, values: Array) -> Array:
    """The rising ``places`` ``(N,)`` of the highest of ``values`` ``(N,)``, one or more. N is 1 or more."""
    return np.asarray(places[values >= values.max() * (1 - 1e-9)], np.float64)


def vertex(places: Array, values: Array) -> float:
    """Vertex of the parabola through the logarithms of the top three; the middle of a flat top as it is.

    ``places`` ``(N,)`` rise strictly, evenly or not; ``values`` ``(N,)`` are 0 or more; N is 1 or more.
    """
    flat = flat_top(places, values)
    k = int(values.argmax())
    if len(flat) > 1 or k in (0, len(places) - 1) or values[k - 1 : k + 2].min() <= 0:
        return float((flat[0] + flat[-1]) / 2)
    x = places[k - 1 : k + 2] - places[k]
    a, b, _ = np.polyfit(x, np.log(values[k - 1 : k + 2]), 2)
    if a >= 0:
        return float(places[k])
    return float(places[k] + np.clip(-b / (2 * a), x[0], x[2]))
