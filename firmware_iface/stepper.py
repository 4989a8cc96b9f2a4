"""The real-time part of a motor driven pin by pin: a thread that emits each step when it is due.

Theory of operation. A motion is a ``Profile``; step k is due at begin + time_of_step(k), an instant and not
a pause after the step before, so a late step does not delay those after it::

    due      |     |    |   |  |  |  |          errors stay where they happen
    emitted  |      |   |   |   | |  |

Catching up has its limit: a rotor cannot follow a burst. No step comes sooner after the last one than
_CATCH_UP times the planned interval. And when the thread was held up for more than _STALLED intervals, or
one at the start rate, the rotor has come to a stand or nearly: the rest is planned anew from there, with a
ramp, which costs a tenth of a second and no step. Each step is counted as it is made, whatever happens next.

Between two steps the thread sleeps, for 2 ms at most, and looks: at the limit switches and the stop button,
which end the motion on the spot, without a ramp, and at the requests of other threads. Those only ever set
a flag or take the lock for the time of one step, so that ``stop`` and ``release`` work from a signal
handler. Nobody sleeps with the lock held. While it moves, the thread comes before all others (``urgent``).

One thread lives for one motion and the hold after it, and switches the coils off at its end, whichever end.
It is no daemon: an interpreter that exits waits for it, and so for the coils.
"""

from __future__ import annotations

import logging
import math
import operator
import threading
from abc import abstractmethod
from dataclasses import dataclass

from firmware_iface.axis import Axis
from firmware_iface.clock import Clock
from firmware_iface.errors import MotorError, SwitchPressed
from firmware_iface.gpio import Lines
from firmware_iface.profile import Profile, plan
from firmware_iface.urgent import urgent

POLL_S = 0.002
"""Longest sleep (s) between two looks at the switches: leaves 3 of the 5 ms to a busy machine."""
_CATCH_UP = 0.8
"""Shortest interval between two steps, as a part of the planned one."""
_STALLED = 2.0
"""Lateness, in planned intervals, at which a motor is taken to have come to a stand."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rates:
    """The shape of every motion of one motor; anything out of range: ValueError."""

    start_rate_steps_s: float
    """Rate (steps/s, > 0) at which the loaded motor starts and stops dead without losing a step."""
    max_rate_steps_s: float
    """Highest rate (steps/s, >= the start rate)."""
    acceleration_steps_s2: float
    """Acceleration and deceleration (steps/s^2, > 0)."""

    def __post_init__(self) -> None:
        self.plan(0)

    def plan(self, steps: int) -> Profile:
        """The timetable of a motion of ``steps`` (signed) from rest to rest."""
        return plan(
            steps,
            start_rate_steps_s=self.start_rate_steps_s,
            max_rate_steps_s=self.max_rate_steps_s,
            acceleration_steps_s2=self.acceleration_steps_s2,
        )


@dataclass(frozen=True)
class Switches:
    """Inputs (BCM pins; None: not there) that end a motion on the spot.

    The limit switches bar their own direction only, so that the axis can be driven out of one; the stop
    button bars both. Wire them normally closed to ground, with a resistor to the logic supply: then pressed
    is high, and so is a broken wire.
    """

    low_limit: int | None = None
    high_limit: int | None = None
    stop_button: int | None = None
    active_level: int = 1
    """Level (0 or 1) of a pressed switch."""

    def __post_init__(self) -> None:
        if self.active_level not in (0, 1):
            raise ValueError(f"active_level = {self.active_level!r}: need 0 or 1")

    @property
    def pins(self) -> tuple[int, ...]:
        """The pins that are there."""
        return tuple(pin for pin in (self.low_limit, self.high_limit, self.stop_button) if pin is not None)

    def limit(self, direction: int) -> tuple[int | None, str]:
        """Pin and name of the limit switch that bars motion in ``direction`` (+1 or -1)."""
        if direction > 0:
            return self.high_limit, "upper limit switch"
        return self.low_limit, "lower limit switch"

    def barring(self, direction: int, lines: Lines) -> str | None:
        """The name of a pressed switch that bars motion in ``direction`` (+1 or -1), or None."""
        for pin, what in ((self.stop_button, "stop button"), self.limit(direction)):
            if pin is not None and lines.read(pin) == self.active_level:
                return what
        return None


class _Motion:
    """One motion and the hold after it, as its own thread and the others see it."""

    def __init__(self, profile: Profile, begun_s: float) -> None:
        self.profile = profile
        self.begun_s = begun_s
        self.direction = -1 if profile.steps < 0 else 1
        self.moving = profile.steps != 0
        self.stop_asked = False
        self.cut = False
        """No step may follow, and the coils are somebody else's business."""


class StepperAxis(Axis):
    """An axis that makes its own steps. A descendant says how one is made and the coils switched.

    ``rates`` shape the motions; after each, and after ``enable``, the coils stay on for ``hold_s`` (s, >= 0;
    None: until released) and come back on by themselves for the next. A geared motor stays where it is
    without. ``switches`` are looked at before each step and at least every 5 ms. ``name`` stands in errors.

    A descendant's constructor MUST call this one and then ``_attach`` its lines. Its ``_step``,
    ``_switch_on`` and ``_switch_off`` are called one at a time and MUST NOT sleep.
    """

    def __init__(
        self, clock: Clock, *, rates: Rates, hold_s: float | None, switches: Switches, name: str
    ) -> None:
        if hold_s is not None and not (math.isfinite(hold_s) and hold_s >= 0.0):
            raise ValueError(f"{name}: hold_s = {hold_s!r}: need a finite number of at least 0, or None")
        self.name = name
        self._clock = clock
        self._rates = rates
        self._hold_s = hold_s
        self._switches = switches
        self._lock = threading.RLock()
        self._position_steps = 0
        self._enabled = False
        self._closed = False
        self._why_ended: str | None = None
        self._motion = _Motion(rates.plan(0), 0.0)
        self._threads: list[threading.Thread] = []

    def _attach(self, lines: Lines) -> None:
        """Take over ``lines``: outputs as the descendant uses them, inputs ``switches.pins``."""
        self._lines = lines

    @abstractmethod
    def _switch_on(self) -> None:
        """Energise the coils as they were last, so that nothing moves."""

    @abstractmethod
    def _switch_off(self) -> None:
        """Coils off; what is to be remembered of their phase is."""

    @abstractmethod
    def _step(self, direction: int) -> None:
        """MOVES one step up (+1) or down (-1). An error: not made."""

    @property
    def position_steps(self) -> int:
        return self._position_steps

    @property
    def moving(self) -> bool:
        return self._motion.moving

    @property
    def why_ended(self) -> str | None:
        """What ended the last motion before its time, in words: a switch, or an error. None: nothing did."""
        return self._why_ended

    def switch(self, direction: int) -> str | None:
        pin, name = self._switches.limit(direction)
        return None if pin is None else name

    def pressed(self, direction: int) -> str | None:
        with self._lock:
            if self._closed:
                raise MotorError(f"{self.name}: closed")
            return self._switches.barring(direction, self._lines)

    def start_move(self, steps: int) -> float:
        profile = self._rates.plan(operator.index(steps))
        with self._lock:
            if self._closed:
                raise MotorError(f"{self.name}: closed")
            if not self._enabled:
                raise MotorError(f"{self.name}: its coils are off; enable it first")
            if self.moving:
                raise MotorError(f"{self.name}: still moving; wait for the motion to end or stop it")
            if profile.steps != 0:
                pressed = self._switches.barring(1 if profile.steps > 0 else -1, self._lines)
                if pressed is not None:
                    raise SwitchPressed(f"{self.name}: the {pressed} is pressed")
                self._begin(profile)
        return profile.duration_s

    def stop(self) -> None:
        self._motion.stop_asked = True

    def enable(self) -> None:
        with self._lock:
            if self._closed:
                raise MotorError(f"{self.name}: closed")
            if not self._enabled:
                self._begin(self._rates.plan(0))
                self._enabled = True

    def release(self) -> None:
        with self._lock:
            self._motion.cut = True
            self._motion.moving = False
            self._enabled = False
            if not self._closed:
                self._switch_off()

    def close(self) -> None:
        try:
            self.release()
        finally:
            with self._lock:
                self._closed = True
            for thread in self._threads:
                self._see_off(thread)
            self._lines.close()

    def _see_off(self, thread: threading.Thread) -> None:
        """Block until a cut thread has noticed: one sleep of its own, on the clock that it sleeps on."""
        if thread is threading.current_thread():
            return
        while thread.is_alive():
            self._clock.sleep_s(POLL_S / 4.0)

    def _begin(self, profile: Profile) -> None:
        """Coils on, and a thread for ``profile`` and the hold after it. With the lock held."""
        self._motion.cut = True
        self._why_ended = None
        motion = _Motion(profile, self._clock.now_s())
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        thread = threading.Thread(target=self._run, args=(motion,), name=f"parfocal-{self.name}")
        try:
            self._switch_on()
            if profile.steps != 0 or self._hold_s is not None:
                thread.start()
                self._threads.append(thread)
        except BaseException as error:
            self._switch_off()
            if isinstance(error, RuntimeError):
                raise MotorError(f"{self.name}: no thread for the motion: {error}") from error
            raise
        self._motion = motion

    def _run(self, motion: _Motion) -> None:
        """The thread: the motion, the hold, the end."""
        keep_on = False
        try:
            with urgent():
                self._emit(motion)
            motion.moving = False
            keep_on = self._hold_s is None
            if self._hold_s is not None:
                self._hold(motion, self._clock.now_s() + self._hold_s)
        except Exception as error:  # noqa: BLE001  the top of a thread; logged below
            _log.exception("%s: the motion ended in an error", self.name)
            self._why_ended = f"error: {error}"
            keep_on = False
        finally:
            with self._lock:
                try:
                    if not (motion.cut or keep_on or self._closed):
                        self._switch_off()
                finally:
                    motion.moving = False

    def _hold(self, motion: _Motion, until_s: float) -> None:
        while not motion.cut and (left_s := until_s - self._clock.now_s()) > 0.0:
            self._clock.sleep_s(min(left_s, POLL_S))

    def _emit(self, motion: _Motion) -> None:
        """Make the steps of ``motion`` when they are due, until done, stopped, barred or cut."""
        profile, begun_s, done = motion.profile, motion.begun_s, 0
        longest_s = interval_s = 1.0 / self._rates.start_rate_steps_s
        braking = False
        soonest_s = -math.inf
        while done < abs(profile.steps):
            now_s = self._clock.now_s()
            if motion.stop_asked and not braking:
                braking = True
                profile, begun_s, done = profile.stopping(_between(profile, done, now_s - begun_s)), now_s, 0
                continue
            due_s = max(begun_s + profile.time_of_step(done + 1), soonest_s)
            late_s = now_s - due_s
            if late_s > min(longest_s, _STALLED * interval_s):
                if braking:
                    return
                if done:
                    remaining = profile.steps - motion.direction * done
                    profile, begun_s, done = self._rates.plan(remaining), now_s, 0
                    soonest_s, interval_s = -math.inf, longest_s
                    continue
                # A rotor that stands can wait: the timetable shifts. Planned anew at each late awakening,
                # a motion on a machine that is always late would never make its first step.
                begun_s += late_s
            barred = self._step_unless_barred(motion, now_s >= due_s)
            if barred:
                return
            if now_s < due_s:
                self._clock.sleep_s(min(due_s - now_s, POLL_S))
                continue
            done += 1
            if done < abs(profile.steps):
                interval_s = profile.time_of_step(done + 1) - profile.time_of_step(done)
                soonest_s = now_s + _CATCH_UP * interval_s

    def _step_unless_barred(self, motion: _Motion, due: bool) -> bool:
        """Look at the switches and, when ``due``, make and count a step. True: the motion is over."""
        with self._lock:
            if motion.cut or not self._enabled:
                return True
            pressed = self._switches.barring(motion.direction, self._lines)
            if pressed is not None:
                self._why_ended = pressed
                return True
            if due:
                self._step(motion.direction)
                self._position_steps += motion.direction
            return False


def _between(profile: Profile, done: int, t_s: float) -> float:
    """``t_s``, moved into the time in which exactly ``done`` steps of ``profile`` are done."""
    first_s = profile.time_of_step(done) if done else 0.0
    next_s = math.nextafter(profile.time_of_step(done + 1), 0.0)
    return min(max(t_s, first_s), next_s)
