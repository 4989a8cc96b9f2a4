r"""When each step of a motion happens: a trapezoid of speed over time, as a pure function on integer steps.

A stepper cannot jump to full speed, nor stop dead from it: the rotor would fall out of step and the
position would be lost. So a motion starts at a rate the motor can start at, gains speed at a constant
acceleration, cruises, and loses speed again until it may stop::

    rate (steps/s)
      peak |        ________________               a short move never reaches the maximum rate:
           |       /                \                          /\
           |      /                  \                        /  \
     start |     /                    \                      /    \
           |    |                      |                    |      |
         0 +----+--+----------------+--+---- t         -----+------+---- t
                 up      cruise     down                    triangle

With v0 the start rate, a the acceleration and x the distance gone (in steps, as a real number):

    speeding up    v(t) = v0 + a t      x(t) = v0 t + a t^2 / 2
    eliminate t    v(x)^2 = v0^2 + 2 a x
    invert         t(x) = (v(x) - v0) / a = 2 x / (v0 + v(x))      the last form loses no digits at small x

A ramp up to rate v takes x = (v^2 - v0^2) / (2 a). Two ramps and no cruise fill a motion of N steps when
(v^2 - v0^2) / a = N, so the peak is min(v_max, sqrt(v0^2 + a N)). Slowing down is the mirror image of
speeding up, read from the end. Step k (1 to N) is due at the instant at which x reaches k: the first one
after about 1/v0, the last one exactly at the end.

A stop in mid-move is the same shape without its first ramp: it begins at the present rate, between two
steps, and ends at the first whole step at which the motor can stand.
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

_ROUNDING_STEPS = 1e-9
"""A distance (steps) closer than this above a whole step is that step: far more than the rounding error of
the sums here, far less than a motor can show."""


@dataclass(frozen=True)
class Profile:
    """The timetable of one motion; making one moves nothing. Make it with ``plan``.

    Times are seconds from the start of the motion. Rates are steps/s and never negative: the direction is
    the sign of ``steps``.
    """

    steps: int
    """Steps of the whole motion; negative goes down; 0 is a motion that is over before it starts."""
    entry_rate_steps_s: float
    """Rate (steps/s, > 0) at time 0; not above the peak."""
    peak_rate_steps_s: float
    """Highest rate (steps/s) of the motion."""
    exit_rate_steps_s: float
    """Rate (steps/s, > 0) at the last step; not above the peak."""
    acceleration_steps_s2: float
    """Acceleration and deceleration (steps/s^2, > 0)."""
    carried_steps: float = 0.0
    """Part of a step (0 <= part < 1) already gone at time 0; only a stop in mid-move has one."""

    @cached_property
    def duration_s(self) -> float:
        """Seconds from the start to the last step."""
        return self._up_s + self._cruise_steps / self.peak_rate_steps_s + self._down_s

    def time_of_step(self, k: int) -> float:
        """Seconds at which step ``k`` is due, 1 <= k <= abs(steps); else ValueError."""
        if not 1 <= k <= abs(self.steps):
            raise ValueError(f"a motion of {abs(self.steps)} steps has no step {k}")
        gone = k - self.carried_steps
        if gone <= self._up_steps:
            return self._ramp_s(gone, self.entry_rate_steps_s)
        left = self._distance_steps - gone
        if left < self._down_steps:
            return self.duration_s - self._ramp_s(left, self.exit_rate_steps_s)
        return self._up_s + (gone - self._up_steps) / self.peak_rate_steps_s

    def step_times(self) -> npt.NDArray[np.float64]:
        """Seconds at which each step is due, rising: (abs(steps),) float64."""
        return np.array([self.time_of_step(k) for k in range(1, abs(self.steps) + 1)], dtype=np.float64)

    def steps_at(self, t_s: float) -> int:
        """Signed steps done at ``t_s``: 0 up to the start, ``steps`` from the end on, monotone between.

        Step k is done from ``time_of_step(k)`` on, that instant included.
        """
        return -self._count_at(t_s) if self.steps < 0 else self._count_at(t_s)

    def rate_at(self, t_s: float) -> float:
        """Rate (steps/s, >= 0) at ``t_s``; 0 before the start and after the end."""
        if self.steps == 0 or not 0.0 <= t_s <= self.duration_s:
            return 0.0
        speeding_up = self.entry_rate_steps_s + self.acceleration_steps_s2 * t_s
        slowing_down = self.exit_rate_steps_s + self.acceleration_steps_s2 * (self.duration_s - t_s)
        return min(self.peak_rate_steps_s, speeding_up, slowing_down)

    def stopping(self, t_s: float) -> Profile:
        """The motion that brings this one to rest, as fast as it may, when told to stop at ``t_s``.

        Its time 0 is ``t_s`` and its ``steps`` are those still to come: a whole number, never beyond this
        motion's own end, and 0 where the motor may stop dead (not yet started, at its end, or not faster
        than the exit rate).
        """
        rate = self.rate_at(t_s)
        if rate <= self.exit_rate_steps_s:
            return self._brake(0, self.exit_rate_steps_s, 0.0)
        done = self._count_at(t_s)
        gone = self.carried_steps + self._gone_at(t_s)
        end = math.ceil(gone + self._ramp_steps(rate, self.exit_rate_steps_s) - _ROUNDING_STEPS)
        carried = min(max(gone - done, 0.0), 1.0 - _ROUNDING_STEPS)
        return self._brake(min(end, abs(self.steps)) - done, rate, carried)

    def _brake(self, count: int, rate: float, carried: float) -> Profile:
        """This motion's last ``count`` steps (>= 0) at ``rate`` and then slower, without a ramp up."""
        return Profile(
            steps=-count if self.steps < 0 else count,
            entry_rate_steps_s=rate,
            peak_rate_steps_s=rate,
            exit_rate_steps_s=self.exit_rate_steps_s,
            acceleration_steps_s2=self.acceleration_steps_s2,
            carried_steps=carried,
        )

    def _count_at(self, t_s: float) -> int:
        """Steps done at ``t_s``, unsigned: the largest k whose ``time_of_step`` is not after ``t_s``."""
        if t_s <= 0.0:
            return 0
        if t_s >= self.duration_s:
            return abs(self.steps)
        k = min(int(self.carried_steps + self._gone_at(t_s)), abs(self.steps))
        # The inverse is rounded on its own: let time_of_step have the last word.
        while k < abs(self.steps) and self.time_of_step(k + 1) <= t_s:
            k += 1
        while k > 0 and self.time_of_step(k) > t_s:
            k -= 1
        return k

    def _gone_at(self, t_s: float) -> float:
        """Distance (steps, a real number) gone at ``t_s``, 0 <= t_s <= duration_s."""
        if t_s < self._up_s:
            return self.entry_rate_steps_s * t_s + self.acceleration_steps_s2 * t_s**2 / 2.0
        left_s = self.duration_s - t_s
        if left_s < self._down_s:
            left = self.exit_rate_steps_s * left_s + self.acceleration_steps_s2 * left_s**2 / 2.0
            return self._distance_steps - left
        return self._up_steps + self.peak_rate_steps_s * (t_s - self._up_s)

    def _ramp_steps(self, fast: float, slow: float) -> float:
        """Distance (steps) of a ramp between two rates (steps/s)."""
        return (fast**2 - slow**2) / (2.0 * self.acceleration_steps_s2)

    def _ramp_s(self, distance: float, slow: float) -> float:
        """Seconds of a ramp of ``distance`` steps whose slow end has the rate ``slow``."""
        fast = math.sqrt(slow**2 + 2.0 * self.acceleration_steps_s2 * distance)
        return 2.0 * distance / (slow + fast)

    @cached_property
    def _distance_steps(self) -> float:
        return abs(self.steps) - self.carried_steps

    @cached_property
    def _up_steps(self) -> float:
        return self._ramp_steps(self.peak_rate_steps_s, self.entry_rate_steps_s)

    @cached_property
    def _down_steps(self) -> float:
        return self._ramp_steps(self.peak_rate_steps_s, self.exit_rate_steps_s)

    @cached_property
    def _cruise_steps(self) -> float:
        # The two ramps of a triangle may miss its length by a rounding error.
        return max(0.0, self._distance_steps - self._up_steps - self._down_steps)

    @cached_property
    def _up_s(self) -> float:
        return self._ramp_s(self._up_steps, self.entry_rate_steps_s)

    @cached_property
    def _down_s(self) -> float:
        return self._ramp_s(self._down_steps, self.exit_rate_steps_s)


def plan(
    steps: int, *, start_rate_steps_s: float, max_rate_steps_s: float, acceleration_steps_s2: float
) -> Profile:
    """The fastest motion of ``steps`` (signed) that keeps to the given rates. Pure: nothing moves.

    ``start_rate_steps_s`` is the rate at which the motor may start and stop dead, ``max_rate_steps_s`` the
    highest one, both in steps/s with 0 < start <= max; ``acceleration_steps_s2`` > 0 in steps/s^2. Anything
    else, or not finite: ValueError. ``steps`` that are no integer: TypeError.
    """
    steps = operator.index(steps)
    for name, value in (
        ("start_rate_steps_s", start_rate_steps_s),
        ("max_rate_steps_s", max_rate_steps_s),
        ("acceleration_steps_s2", acceleration_steps_s2),
    ):
        if not (math.isfinite(value) and value > 0.0):
            raise ValueError(f"{name} = {value!r}: need a finite number above 0")
    if start_rate_steps_s > max_rate_steps_s:
        raise ValueError(
            f"start_rate_steps_s = {start_rate_steps_s!r} is above max_rate_steps_s = {max_rate_steps_s!r}"
        )
    triangle_rate = math.sqrt(start_rate_steps_s**2 + acceleration_steps_s2 * abs(steps))
    return Profile(
        steps=steps,
        entry_rate_steps_s=start_rate_steps_s,
        peak_rate_steps_s=min(max_rate_steps_s, triangle_rate),
        exit_rate_steps_s=start_rate_steps_s,
        acceleration_steps_s2=acceleration_steps_s2,
    )
