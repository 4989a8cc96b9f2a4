"""A simulated motor, its gear and the stage it drags, in virtual time.

Built from the small physical things that make real focusing hard, each simple by itself:

* the motor follows the same ``Profile`` as a real driver, and can be stopped in mid-move;
* a commanded step may be missed: the driver counts it, the rotor does not turn;
* the nut lies in a gap. It follows the screw only once the gap is closed on the side it is pushed from
  (a dead zone, or "play")::

        screw   |<------ backlash ------>|
        nut     [x]                           x: pushed up by the screw's lower flank
                                     [x]      pushed down by its upper flank

* after the last step the stage rings: a damped sine that starts at zero, in the direction of travel.

Nothing here waits. Every position is computed for the instant it is asked for, which may lie in the past:
a camera's frame shows the stage as it was when it was exposed.
"""

from __future__ import annotations

import math
import operator
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from firmware_iface.axis import Axis
from firmware_iface.clock import Clock
from firmware_iface.errors import MotorError
from firmware_iface.profile import Profile, plan

_REMEMBERED_MOTIONS = 32
"""How many motions back a position can be asked for; a loop looks back over one or two."""
_RINGS_OVER = 20.0
"""Decay times after which a vibration is gone: e^-20 of its amplitude."""


@dataclass(frozen=True, eq=False)
class _Turn:
    """One stretch of the screw's motion, in one direction."""

    start_s: float
    end_s: float
    direction: int
    """+1 or -1, also for a motion without steps: the motor stopped dead; 0: it has never moved."""
    screw_at: Callable[[float], int]
    """Steps the screw has really made at a time (s) from the start of this stretch to that of the next."""
    nut_steps: float
    """Where the nut was at the start."""
    whole: bool = True
    """False once it was cut short, by the stretch that follows it."""


class DraggedStage:
    """What a screw drags along: a nut with a gap, and a stage that rings. ``SimulatedAxis`` explains them.

    It is told of the screw's motions as they begin, and remembers the last 32. Nut and screw begin at 0;
    ``slack_steps`` (0 to ``backlash_steps``) is what an upward motion has to take up first.
    """

    def __init__(
        self,
        *,
        backlash_steps: float,
        slack_steps: float,
        vibration_amplitude_steps: float,
        vibration_hz: float,
        vibration_decay_s: float,
    ) -> None:
        _check("backlash_steps", backlash_steps, 0.0, math.inf)
        _check("initial_slack", slack_steps, 0.0, backlash_steps)
        _check("vibration_amplitude_steps", vibration_amplitude_steps, 0.0, math.inf)
        _check("vibration_hz", vibration_hz, 0.0, math.inf)
        _check("vibration_decay_s", vibration_decay_s, 1e-6, math.inf)
        # The nut lies between screw + low and screw + high.
        self._nut_low_steps = -slack_steps
        self._nut_high_steps = backlash_steps - slack_steps
        self._amplitude_steps = vibration_amplitude_steps
        self._angular_rad_s = 2.0 * math.pi * vibration_hz
        self._decay_s = vibration_decay_s
        standing = _Turn(-math.inf, -math.inf, 0, lambda t_s: 0, 0.0)
        self._turns: deque[_Turn] = deque([standing], maxlen=_REMEMBERED_MOTIONS)

    def begin(self, start_s: float, end_s: float, direction: int, screw_at: Callable[[float], int]) -> None:
        """The screw moves from ``start_s`` to ``end_s`` (s) in one ``direction`` (+1 or -1), now or later.

        ``screw_at`` tells its steps from ``start_s`` on. A motion under way is cut short, and rings not.
        """
        last = self._turns[-1]
        nut_steps = self._nut_at(last, start_s)
        if start_s < last.end_s:
            self._turns[-1] = replace(last, end_s=start_s, whole=False)
        self._turns.append(_Turn(start_s, end_s, direction, screw_at, nut_steps))

    def position_steps(self, t_s: float) -> float:
        """Where the stage is at ``t_s`` (s), in steps from its start. ValueError: too long ago to know."""
        index = bisect_right(self._turns, t_s, key=lambda turn: turn.start_s) - 1
        if index < 0:
            raise ValueError(f"the simulated axis has forgotten where it was at {t_s:g} s")
        return self._nut_at(self._turns[index], t_s) + self._vibration_at(index, t_s)

    def screw_steps(self, t_s: float) -> float:
        """Where the screw was at ``t_s`` (s), in steps: what the motor had counted by then."""
        return self._turn(t_s).screw_at(t_s)

    def slack_steps(self, t_s: float) -> tuple[float, float]:
        """Steps that a motion up, and one down, would have to take up at ``t_s`` (s) to move the nut."""
        turn = self._turn(t_s)
        screw, nut = turn.screw_at(t_s), self._nut_at(turn, t_s)
        return nut - screw - self._nut_low_steps, screw + self._nut_high_steps - nut

    def _turn(self, t_s: float) -> _Turn:
        """The last motion begun by ``t_s``."""
        return self._turns[max(bisect_right(self._turns, t_s, key=lambda turn: turn.start_s) - 1, 0)]

    def _nut_at(self, turn: _Turn, t_s: float) -> float:
        """The nut without vibration. One motion has one direction, so the dead zone needs no memory."""
        screw = turn.screw_at(t_s)
        return min(max(turn.nut_steps, screw + self._nut_low_steps), screw + self._nut_high_steps)

    def _vibration_at(self, index: int, t_s: float) -> float:
        """What is left at ``t_s`` of the ringing after the motions up to ``index``, in steps."""
        total = 0.0
        for i in range(index, -1, -1):
            turn = self._turns[i]
            since_s = t_s - turn.end_s
            if since_s > _RINGS_OVER * self._decay_s:
                break
            if since_s > 0.0 and turn.whole:
                swing = math.exp(-since_s / self._decay_s) * math.sin(self._angular_rad_s * since_s)
                total += turn.direction * self._amplitude_steps * swing
        return total


@dataclass(frozen=True, eq=False)
class _Motion:
    """One stretch of motion by one profile, and how everything stood when it began."""

    start_s: float
    end_s: float
    profile: Profile
    direction: int
    """+1 or -1, also for a motion without steps: the motor stopped dead; 0: it has never moved."""
    commanded_steps: int
    """Count at the start."""
    screw_steps: int
    """Steps the screw had really made at the start."""
    turned: npt.NDArray[np.int64] | None
    """(n + 1,) how many of the first k steps really turned the screw; None: all of them."""
    whole: bool = True
    """False once it was cut short, by the motion that follows it."""

    def done(self, t_s: float) -> int:
        """Signed steps commanded by this motion up to ``t_s``."""
        if t_s >= self.end_s and self.whole:
            return self.profile.steps
        return self.profile.steps_at(min(t_s, self.end_s) - self.start_s)

    def screw_at(self, t_s: float) -> int:
        """Steps the screw has really made at ``t_s``."""
        done = self.done(t_s)
        if self.turned is None:
            return self.screw_steps + done
        turned = int(self.turned[abs(done)])
        return self.screw_steps + (-turned if done < 0 else turned)


class SimulatedAxis(Axis):
    """An axis whose motor, gear and stage are arithmetic on ``clock``. Never blocks and never sleeps.

    The same seed and the same calls at the same clock times give the same positions, bit for bit.

    ``start_rate_steps_s``, ``max_rate_steps_s`` (steps/s) and ``acceleration_steps_s2`` (steps/s^2) shape
    each motion. ``backlash_steps`` (>= 0) is the gap; ``initial_slack`` (0 to backlash_steps) how much of
    it an upward motion has to take up before the nut follows, drawn from the seed when None.
    ``missed_step_probability`` (0 to 1) holds for each commanded step. After a motion the stage rings with
    ``vibration_amplitude_steps`` (>= 0) at ``vibration_hz`` (Hz) for about ``vibration_decay_s`` (s, > 0).
    Anything outside those ranges: ValueError.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        start_rate_steps_s: float = 200.0,
        max_rate_steps_s: float = 1000.0,
        acceleration_steps_s2: float = 5000.0,
        backlash_steps: float = 200.0,
        missed_step_probability: float = 0.0,
        vibration_amplitude_steps: float = 3.0,
        vibration_hz: float = 40.0,
        vibration_decay_s: float = 0.03,
        initial_slack: float | None = None,
        seed: int,
    ) -> None:
        _check("backlash_steps", backlash_steps, 0.0, math.inf)
        _check("missed_step_probability", missed_step_probability, 0.0, 1.0)
        self._random = np.random.default_rng(seed)
        slack = float(self._random.uniform(0.0, backlash_steps)) if initial_slack is None else initial_slack
        self._stage = DraggedStage(
            backlash_steps=backlash_steps,
            slack_steps=slack,
            vibration_amplitude_steps=vibration_amplitude_steps,
            vibration_hz=vibration_hz,
            vibration_decay_s=vibration_decay_s,
        )
        self._clock = clock
        self._start_rate_steps_s = start_rate_steps_s
        self._max_rate_steps_s = max_rate_steps_s
        self._acceleration_steps_s2 = acceleration_steps_s2
        self._missed_step_probability = missed_step_probability
        self._enabled = False
        self._closed = False
        self._motion = _Motion(-math.inf, -math.inf, self._plan(0), 0, 0, 0, None)

    @property
    def position_steps(self) -> int:
        return self._motion.commanded_steps + self._motion.done(self._clock.now_s())

    @property
    def moving(self) -> bool:
        return self._clock.now_s() < self._motion.end_s

    def start_move(self, steps: int) -> float:
        profile = self._plan(operator.index(steps))
        if self._closed:
            raise MotorError("simulated axis: closed")
        if not self._enabled:
            raise MotorError("simulated axis: its coils are off; enable it first")
        if self.moving:
            raise MotorError("simulated axis: still moving; wait for the motion to end or stop it")
        if profile.steps != 0:
            turned = None
            if self._missed_step_probability > 0.0:
                draws = self._random.random(abs(profile.steps))
                turned = _running_count(draws >= self._missed_step_probability)
            self._begin(profile, 1 if profile.steps > 0 else -1, turned)
        return profile.duration_s

    def stop(self) -> None:
        now_s = self._clock.now_s()
        motion = self._motion
        if now_s < motion.end_s:
            self._interrupt(motion, now_s, motion.profile.stopping(now_s - motion.start_s))

    def enable(self) -> None:
        if self._closed:
            raise MotorError("simulated axis: closed")
        self._enabled = True

    def release(self) -> None:
        now_s = self._clock.now_s()
        motion = self._motion
        if now_s < motion.end_s:
            self._interrupt(motion, now_s, self._plan(0))
        self._enabled = False

    def close(self) -> None:
        self.release()
        self._closed = True

    @property
    def enabled(self) -> bool:
        """Whether the coils are on."""
        return self._enabled

    def true_position_steps(self, t_s: float | None = None) -> float:
        """Where the nut really is at ``t_s`` (s on the axis' clock; None: now), in steps from its start.

        Looks back over the last 32 motions, before which it raises ValueError; after now it tells where
        the present motion would lead. Does not block.
        """
        return self._stage.position_steps(self._clock.now_s() if t_s is None else t_s)

    def screw_steps(self, t_s: float) -> float:
        """What the motor had counted at ``t_s`` (s), not long ago."""
        return self._stage.screw_steps(t_s)

    def slack_steps(self) -> tuple[float, float]:
        """Steps that a motion up, and one down, would have to take up now to move the nut."""
        return self._stage.slack_steps(self._clock.now_s())

    def _plan(self, steps: int) -> Profile:
        return plan(
            steps,
            start_rate_steps_s=self._start_rate_steps_s,
            max_rate_steps_s=self._max_rate_steps_s,
            acceleration_steps_s2=self._acceleration_steps_s2,
        )

    def _begin(self, profile: Profile, direction: int, turned: npt.NDArray[np.int64] | None) -> None:
        """A motion that begins now, where the last one stands now."""
        now_s = self._clock.now_s()
        last = self._motion
        self._motion = _Motion(
            start_s=now_s,
            end_s=now_s + profile.duration_s,
            profile=profile,
            direction=direction,
            commanded_steps=last.commanded_steps + last.done(now_s),
            screw_steps=last.screw_at(now_s),
            turned=turned,
        )
        self._stage.begin(now_s, self._motion.end_s, direction, self._motion.screw_at)

    def _interrupt(self, motion: _Motion, now_s: float, rest: Profile) -> None:
        """Cut the motion at ``now_s`` and go on with ``rest``. Which steps are missed stays as drawn."""
        turned = motion.turned
        if turned is not None:
            done = abs(motion.done(now_s))
            turned = turned[done : done + abs(rest.steps) + 1] - turned[done]
        self._motion = replace(motion, end_s=now_s, whole=False)
        self._begin(rest, motion.direction, turned)


def _running_count(turned: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """(n,) bool to (n + 1,) int64: how many of the first k are true."""
    count = np.zeros(len(turned) + 1, dtype=np.int64)
    np.cumsum(turned, out=count[1:])
    return count


def _check(name: str, value: float, low: float, high: float) -> None:
    """ValueError unless ``value`` is finite and low <= value <= high."""
    if not (math.isfinite(value) and low <= value <= high):
        raise ValueError(f"{name} = {value!r}: need a finite number from {low:g} to {high:g}")
