"""The stage: soft limits, micrometres, and an end to every move that backlash cannot spoil.

The nut follows the screw only once the gap between them is closed. So every move ends with the screw
travelling in one fixed direction, the approach, far enough to have closed the gap whatever came before:
the distance between the count and the nut is then always the same, and drops out::

    approach up     a move up, gap known to be closed    here ------------> target
                    any other       here ----> target - backlash ----> target

The stage keeps the least that the gap can be closed by (0 at the start: nobody knows how the nut lies).
A leg adds to it or takes from it, within 0 and the backlash. A target is gone to directly where that sum
reaches the backlash, and else by way of the point one backlash short of it.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from types import TracebackType

from firmware_iface.axis import Axis
from firmware_iface.clock import Clock
from firmware_iface.errors import LimitError, MotorError, MoveCancelled

POLL_S = 0.005
"""Longest time (s) between two looks at the axis and at ``cancel`` while it moves."""
_SHORTEST_POLL_S = 0.0001
_GRACE_S = 1.0
"""A motion may last half as long again as planned, and this much (s), before it counts as stuck."""


class Stage:
    """One axis with soft limits, positions in steps and µm, and one-sided approach.

    Moves block the caller on ``clock``. Every leg of a move is checked against the limits before its first
    step; nothing is clipped. Whatever ends a move (its target, a cancel, a stop, an error, Ctrl-C), the
    axis stands when the method returns or raises, and ``position_steps`` is what was commanded.

    ``um_per_step`` (µm, > 0) is the pitch; ``limits_steps`` the lowest and highest count allowed, both
    included; ``backlash_steps`` (>= 0) the travel that surely closes the gap; ``approach`` +1 or -1 the
    direction in which moves end; ``settle_s`` (s, >= 0) is slept after each move; ``name`` appears in
    errors. A range that leaves nothing reachable, or any value outside its own: ValueError.

    ``with stage:`` enables the axis and, whatever happens, releases and closes it. Making one moves
    nothing.
    """

    def __init__(
        self,
        axis: Axis,
        clock: Clock,
        *,
        um_per_step: float,
        limits_steps: tuple[int, int],
        backlash_steps: int = 0,
        approach: int = +1,
        settle_s: float = 0.0,
        name: str = "z",
    ) -> None:
        if not (math.isfinite(um_per_step) and um_per_step > 0.0):
            raise ValueError(f"{name}: um_per_step = {um_per_step!r}: need a finite number above 0")
        if not (math.isfinite(settle_s) and settle_s >= 0.0):
            raise ValueError(f"{name}: settle_s = {settle_s!r}: need a finite number of at least 0")
        if approach not in (-1, 1):
            raise ValueError(f"{name}: approach = {approach!r}: need +1 or -1")
        low, high = (operator.index(limit) for limit in limits_steps)
        backlash = operator.index(backlash_steps)
        if backlash < 0:
            raise ValueError(f"{name}: backlash_steps = {backlash}: need at least 0")
        if high - low < backlash or low >= high:
            raise ValueError(f"{name}: limits {low} to {high} steps leave no room for {backlash} of backlash")
        self.name = name
        self._axis = axis
        self._clock = clock
        self._um_per_step = um_per_step
        self._low_steps, self._high_steps = low, high
        self._backlash_steps = backlash
        self._approach = approach
        self._settle_s = settle_s
        self._closed_steps = 0
        self._seen_steps = axis.position_steps
        self._travel_steps = 0
        self._moves = 0
        self._stop_asked = False
        self._last_motion_ended_s = clock.now_s()

    def __enter__(self) -> Stage:
        self._axis.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._axis.__exit__(kind, error, trace)

    @property
    def position_steps(self) -> int:
        """Steps commanded so far; during a move, up to now."""
        return self._axis.position_steps

    @property
    def position_um(self) -> float:
        """The same in µm."""
        return self.position_steps * self._um_per_step

    @property
    def um_per_step(self) -> float:
        """Pitch: µm for one step, > 0."""
        return self._um_per_step

    @property
    def limits_um(self) -> tuple[float, float]:
        """Soft limits (low, high) in µm: no leg of a move leaves them."""
        return self._in_um(self._low_steps, self._high_steps)

    @property
    def reachable_um(self) -> tuple[float, float]:
        """The part (low, high) of ``limits_um``, in µm, that every move can reach from anywhere.

        It lacks one backlash at the end from which the approach comes: no overshoot fits beyond that.
        """
        if self._approach > 0:
            return self._in_um(self._low_steps + self._backlash_steps, self._high_steps)
        return self._in_um(self._low_steps, self._high_steps - self._backlash_steps)

    @property
    def travel_steps(self) -> int:
        """Steps commanded by this stage's moves, both directions added up."""
        return self._travel_steps

    @property
    def moves(self) -> int:
        """Moves begun, as the user sees them: with an overshoot or without, one."""
        return self._moves

    @property
    def last_motion_ended_s(self) -> float:
        """Clock time (s) of the last standstill, before settling; at first, of construction."""
        return self._last_motion_ended_s

    def move_to_um(self, target_um: float, *, cancel: Callable[[], bool] | None = None) -> None:
        """``move_to_steps`` to the step nearest to ``target_um`` (µm); not finite: LimitError."""
        if not math.isfinite(target_um):
            raise LimitError(self.name, target_um, self.limits_um, "um")
        self.move_to_steps(round(target_um / self._um_per_step), cancel=cancel)

    def move_by_um(self, distance_um: float, *, cancel: Callable[[], bool] | None = None) -> None:
        """``move_to_um``, relative to the present position (µm)."""
        self.move_to_um(self.position_um + distance_um, cancel=cancel)

    def move_to_steps(self, target: int, *, cancel: Callable[[], bool] | None = None) -> None:
        """MOVES to ``target`` (steps) from the approach side and BLOCKS until it stands and has settled.

        A target where it already stands moves only if the gap is not known to be closed. ``cancel`` is
        called at least every 5 ms; once it returns True the axis is stopped and MoveCancelled raised.

        Raises LimitError, with nothing moved, when the target or the overshoot lies outside the limits;
        MotorError when the axis refuses, ends somewhere else or does not come to rest in time.
        """
        target = operator.index(target)
        legs = self._legs_to(target)
        self._stop_asked = False
        for number, leg_target in enumerate(legs):
            if self._asked_to_stop(cancel):
                raise MoveCancelled(f"{self.name}: stopped at {self.position_um:g} um")
            self._moves += number == 0
            self._run_leg(leg_target, cancel)
        if legs:
            self._clock.sleep_s(self._settle_s)

    def stop(self) -> None:
        """Stop the move under way, which raises MoveCancelled in its own thread. Does not block.

        May be called from another thread or from a signal handler. Without a move under way it does nothing
        but stop an axis that others have set in motion.
        """
        self._stop_asked = True
        self._axis.stop()

    def _legs_to(self, target: int) -> list[int]:
        """Where each leg of a move to ``target`` ends; LimitError when one of them may not be gone."""
        self._account()
        self._check(target, target, "")
        here = self._seen_steps
        towards = (target - here) * self._approach
        if towards >= 0 and self._closed_steps + towards >= self._backlash_steps:
            return [target] if towards else []
        overshoot = target - self._approach * self._backlash_steps
        self._check(target, overshoot, f"with an overshoot to {overshoot * self._um_per_step:g} um")
        return [leg for leg, before in ((overshoot, here), (target, overshoot)) if leg != before]

    def _check(self, target: int, leg: int, detail: str) -> None:
        if not self._low_steps <= leg <= self._high_steps:
            raise LimitError(self.name, target * self._um_per_step, self.limits_um, "um", detail)

    def _run_leg(self, leg_target: int, cancel: Callable[[], bool] | None) -> None:
        """One motion of the axis, straight to ``leg_target``. However it ends, the axis stands after it."""
        planned_s = self._axis.start_move(leg_target - self._seen_steps)
        try:
            self._wait_for_standstill(planned_s, cancel)
        finally:
            if self._axis.moving:
                self._axis.stop()
                self._wait_for_standstill(planned_s, None)
            self._account()
            self._last_motion_ended_s = self._clock.now_s()
        if self._stop_asked:
            raise MoveCancelled(f"{self.name}: stopped at {self.position_um:g} um")
        if self._seen_steps != leg_target:
            raise MotorError(
                f"{self.name}: the axis stands at {self._seen_steps} steps and should be at {leg_target}"
            )

    def _wait_for_standstill(self, planned_s: float, cancel: Callable[[], bool] | None) -> None:
        """Block until the axis stands; told to stop, stop it and block on."""
        begun_s = self._clock.now_s()
        patience_s = 1.5 * planned_s + _GRACE_S
        stopping = False
        while self._axis.moving:
            if not stopping and self._asked_to_stop(cancel):
                stopping = True
                self._axis.stop()
                continue
            elapsed_s = self._clock.now_s() - begun_s
            if elapsed_s > patience_s:
                raise MotorError(
                    f"{self.name}: still moving after {elapsed_s:.1f} s; {planned_s:.1f} s were planned"
                )
            # Up to the planned end exactly; overdue, in sleeps that grow, so as not to flood a serial board.
            self._clock.sleep_s(min(POLL_S, max(abs(planned_s - elapsed_s), _SHORTEST_POLL_S)))

    def _asked_to_stop(self, cancel: Callable[[], bool] | None) -> bool:
        """Whether the move under way was told to end, by ``stop`` or by ``cancel``; once yes, always yes."""
        if cancel is not None and cancel():
            self._stop_asked = True
        return self._stop_asked

    def _account(self) -> None:
        """Take note of where the axis stands now: the travel, and what it did to the gap."""
        moved = self._axis.position_steps - self._seen_steps
        self._seen_steps += moved
        self._travel_steps += abs(moved)
        closed = self._closed_steps + moved * self._approach
        self._closed_steps = min(max(closed, 0), self._backlash_steps)

    def _in_um(self, low_steps: int, high_steps: int) -> tuple[float, float]:
        return low_steps * self._um_per_step, high_steps * self._um_per_step
