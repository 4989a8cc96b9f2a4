"""The stage: soft limits, micrometres, moves that backlash cannot spoil, and a position that is remembered.

What a move does about backlash, and the two conventions for it, is in ``backlash``; where a move may end, in
``limits``; what is known of the position and how it survives a power cut, in ``whereabouts`` and ``journal``;
the search for a limit switch, in ``homing``.

The position is **uncertain** after a motion that nobody saw end (a power cut, a kill, a link that failed),
when the journal cannot be read, and when the pitch was changed. The true position is then known as an
interval, or not at all. Moves are restricted so that at no place of the interval a soft limit can be passed,
and end near where the doubt began; until home is found, or the focus where it was last.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Literal

from firmware_iface.axis import Axis
from firmware_iface.backlash import Gap
from firmware_iface.clock import Clock
from firmware_iface.errors import LimitError, MotorError, MoveCancelled
from firmware_iface.homing import Homing, SwitchMissing
from firmware_iface.journal import Journal
from firmware_iface.limits import Limits
from firmware_iface.whereabouts import Whereabouts

POLL_S = 0.005
"""Longest time (s) between two looks at the axis and at ``cancel`` while it moves."""
_SHORTEST_POLL_S = 0.0001
_GRACE_S = 1.0
"""A motion may last half as long again as planned, and this much (s), before it counts as stuck."""


class Stage:
    """One axis with limits, positions in steps and µm, and compensation of backlash.

    Moves block the caller on ``clock``. Every leg of a move is checked against the limits before its first
    step; nothing is clipped. Whatever ends a move (its target, a cancel, a stop, an error, Ctrl-C), the
    axis stands when the method returns or raises, and ``position_steps`` is what was commanded.

    ``um_per_step`` (µm, > 0) is the pitch; ``limits_steps`` the lowest and highest place of the screw, both
    included; ``backlash_steps`` (>= 0) the travel that surely closes the gap, with ``compensation``
    "on-reversal" its exact size; ``approach`` +1 or -1 the direction in which moves end; ``settle_s``
    (s, >= 0) is slept after each move. ``focus_travel_steps`` (>= 1; None: any) is the farthest that a move
    may end from the last good focus, ``uncertain_travel_steps`` (>= 1) from where the position became
    uncertain. ``journal`` remembers the position; the stage closes it. ``name`` appears in errors. A range
    that leaves nothing reachable, or any value outside its own: ValueError.

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
        compensation: Literal["one-sided", "on-reversal"] = "one-sided",
        approach: int = +1,
        settle_s: float = 0.0,
        focus_travel_steps: int | None = None,
        uncertain_travel_steps: int = 800,
        journal: Journal | None = None,
        name: str = "z",
    ) -> None:
        if not (math.isfinite(um_per_step) and um_per_step > 0.0):
            raise ValueError(f"{name}: um_per_step = {um_per_step!r}: need a finite number above 0")
        if not (math.isfinite(settle_s) and settle_s >= 0.0):
            raise ValueError(f"{name}: settle_s = {settle_s!r}: need a finite number of at least 0")
        if compensation not in ("one-sided", "on-reversal"):
            raise ValueError(f"{name}: compensation = {compensation!r}: need one-sided or on-reversal")
        low, high = (operator.index(limit) for limit in limits_steps)
        backlash = operator.index(backlash_steps)
        gap = Gap.unknown(backlash, approach, on_reversal=compensation == "on-reversal")
        if high - low < backlash or low >= high:
            raise ValueError(f"{name}: limits {low} to {high} steps leave no room for {backlash} of backlash")
        self.name = name
        self._axis = axis
        self._clock = clock
        self._um_per_step = um_per_step
        self._limits = Limits(name, um_per_step, low, high, focus_travel_steps, uncertain_travel_steps)
        self._settle_s = settle_s
        self._journal = journal
        self._where = Whereabouts(axis, gap, um_per_step=um_per_step, journal=journal)
        self._moves = 0
        self._stop_asked = False
        self._last_motion_ended_s = clock.now_s()

    def __enter__(self) -> Stage:
        try:
            self._axis.__enter__()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._axis.__exit__(kind, error, trace)
        finally:
            self.close()

    def close(self) -> None:
        """Release and close the axis, and close the journal. A second call does nothing."""
        try:
            self._axis.close()
        finally:
            if self._journal is not None:
                self._journal.close()

    @property
    def position_steps(self) -> int:
        """Steps commanded so far; during a move, up to now. On reversal: by which the nut has moved.

        0 is what home makes it; before, where the stage stood when the journal was new, and without a
        journal where it is for the axis.
        """
        return self._where.position_steps

    @property
    def position_um(self) -> float:
        """The same in µm."""
        return self.position_steps * self._um_per_step

    @property
    def um_per_step(self) -> float:
        """Pitch: µm for one step, > 0."""
        return self._um_per_step

    @property
    def uncertain(self) -> str | None:
        """Why the position is uncertain and what is allowed until when, in one line; None: it is certain."""
        if self._where.doubt is None:
            return self._axis.uncertain
        return self._limits.in_doubt(self._where, self._where.doubt)

    @property
    def limits_um(self) -> tuple[float, float]:
        """Where a move may end now (low, high), in µm, by all the rules; both where it stands: nowhere."""
        return self._in_um(*self._limits.allowed(self._where))

    @property
    def reachable_um(self) -> tuple[float, float]:
        """The part (low, high) of ``limits_um``, in µm, that every move can reach from anywhere.

        It may lack one backlash at the end from which the approach comes: no overshoot fits beyond that.
        """
        return self._in_um(*self._limits.allowed(self._where, gap=self._where.gap))

    @property
    def travel_steps(self) -> int:
        """Steps commanded by this stage's moves, both directions added up."""
        return self._where.travel_steps

    @property
    def moves(self) -> int:
        """Moves begun, as the user sees them: with an overshoot or without, one."""
        return self._moves

    @property
    def last_motion_ended_s(self) -> float:
        """Clock time (s) of the last standstill, before settling; at first, of construction."""
        return self._last_motion_ended_s

    @property
    def settle_s(self) -> float:
        """Seconds that are slept after each move."""
        return self._settle_s

    @property
    def screw_steps(self) -> int:
        """Where the screw is counted to be, in steps."""
        return self._where.screw_steps

    @property
    def onward(self) -> int | None:
        """See `firmware_iface.backlash.Gap.onward`."""
        return self._where.gap.onward

    def move_to_um(self, target_um: float, *, cancel: Callable[[], bool] | None = None) -> None:
        """``move_to_steps`` to the step nearest to ``target_um`` (µm); not finite: LimitError."""
        if not math.isfinite(target_um):
            raise LimitError(self.name, target_um, self.limits_um, "um")
        self.move_to_steps(round(target_um / self._um_per_step), cancel=cancel)

    def move_by_um(self, distance_um: float, *, cancel: Callable[[], bool] | None = None) -> None:
        """``move_to_um``, relative to the present position (µm)."""
        self.move_to_um(self.position_um + distance_um, cancel=cancel)

    def move_to_steps(self, target: int, *, cancel: Callable[[], bool] | None = None) -> None:
        """MOVES to ``target`` (steps), the gap taken care of, and BLOCKS until it stands and has settled.

        A target where it already stands moves only if the gap is not known to be closed. ``cancel`` is
        called at least every 5 ms; once it returns True the axis is stopped and MoveCancelled raised.

        Raises LimitError, with nothing moved, when the target or the way there is not allowed; the text says
        which rule it is. MotorError when the axis refuses, a switch or the stop button ends the motion (the
        position stays certain), it ends somewhere else or does not come to rest in time (it does not), or
        the journal cannot be written.
        """
        target = operator.index(target)
        self._where.account()
        self._follow(self._where.gap.legs(self._where.screw_steps, target), target, cancel)

    def turn_screw_to(self, screw: int, *, cancel: Callable[[], bool] | None = None) -> None:
        """MOVES the screw straight to ``screw`` (steps) and BLOCKS, whatever the gap makes of it for the nut.

        For measuring the gap itself; one-sided, a position is the screw's. Else as ``move_to_steps``.
        """
        screw = operator.index(screw)
        self._where.account()
        here = self._where.screw_steps
        reached = self._where.gap.after(screw - here).position(screw)
        self._follow([screw] if screw != here else [], reached, cancel)

    def _follow(self, legs: list[int], target: int, cancel: Callable[[], bool] | None) -> None:
        """Check the way to ``target`` and go it, leg by leg."""
        self._limits.check(self._where, target, legs)
        self._stop_asked = False
        if not legs:
            return
        try:
            for number, leg_target in enumerate(legs):
                if self._asked_to_stop(cancel):
                    raise self._cancelled()
                if number == 0:
                    # Once for all legs: one more write would wear the card and narrow nothing.
                    here = self._where.screw_steps
                    self._where.moves_between(min(here, *legs), max(here, *legs))
                    self._moves += 1
                self._run_leg(leg_target, cancel)
        finally:
            self._where.stands()
        self._clock.sleep_s(self._settle_s)

    def home(
        self,
        direction: int,
        position_steps: int,
        *,
        most_steps: int,
        cancel: Callable[[], bool] | None = None,
    ) -> None:
        """MOVES to the limit switch in ``direction`` (+1 or -1), and BLOCKS until it stands off it again.

        The place where the switch closes becomes ``position_steps``, and the position certain. On the way
        there, at most ``most_steps`` (>= 1), the switch limits and not the soft limits; at the end these do,
        in the new count. The last good focus keeps its place, or is forgotten where the position was
        uncertain. ``cancel`` and the other errors as in ``move_to_steps``.

        Raises ValueError where ``position_steps`` has the soft limits on its wrong side, or is farther from
        them than they are apart. MotorError when there is no switch at that end, it does not open or never
        reads steady: the position is as certain as before. MotorError when the switch does not come: the
        position is uncertain, something else may have held the motor up.
        """
        self._limits.check_home(direction, operator.index(position_steps), operator.index(most_steps))
        homing = Homing(self._axis, self._clock, partial(self._go, cancel=cancel), direction, self.name)
        self._stop_asked = False
        self._moves += 1
        here = self._where.screw_steps
        room = self._limits.room(self._where, -direction)
        farthest, back = here + direction * most_steps, here - direction * room
        try:
            self._where.moves_between(farthest, back)
            homing.find(most_steps, room_steps=room)
            self._where.is_at(position_steps)
            here = self._where.screw_steps
            room = self._limits.room(self._where, -direction)
            self._where.moves_between(here, here - direction * room)
            homing.leave(self._limits.inwards(self._where, direction), room_steps=room)
        except SwitchMissing as error:
            self._where.lost_between(farthest, back, str(error))
            raise
        finally:
            self._where.stands()

    def found_focus(self) -> None:
        """The specimen is in focus where the stage stands, the end of a focus run that went well.

        Remembers it as the last good focus. While the position is uncertain and the last good focus could be
        here, the position is taken to be that one, and certain: of all places in the interval it is the
        only one where a focus is known, specimens differ in height by less than most intervals are wide,
        and what limits protect, the distance of specimen and objective, is measured from there. Where no
        focus is remembered, or it lies outside the interval, the position stays uncertain.

        After anything but a move that reached its target the nut may lie anywhere in its gap; then this does
        nothing. Moves nothing. Raises MotorError where the journal cannot be written.
        """
        self._where.found_focus()

    def stop(self) -> None:
        """Stop the move under way, which raises MoveCancelled in its own thread. Does not block.

        May be called from another thread or from a signal handler. Without a move under way it does nothing
        but stop an axis that others have set in motion.
        """
        self._stop_asked = True
        self._axis.stop()

    def _run_leg(self, leg_target: int, cancel: Callable[[], bool] | None) -> None:
        """One motion of the axis, straight to ``leg_target`` and no other place."""
        begin = self._where.screw_steps
        self._go(leg_target - begin, cancel)
        here = self._where.screw_steps
        if here == leg_target:
            return
        if self._axis.why_ended is not None:
            raise MotorError(
                f"{self.name}: the {self._axis.why_ended} ended the move at {self.position_um:g} um"
            )
        text = f"{self.name}: the axis stands at {here} steps and should be at {leg_target}"
        self._where.lost_between(begin, leg_target, text)
        raise MotorError(text)

    def _go(self, steps: int, cancel: Callable[[], bool] | None) -> None:
        """One motion of the axis. However it ends, the axis stands after it."""
        begin = self._where.screw_steps
        planned_s, begun = 0.0, False
        try:
            try:
                planned_s = self._axis.start_move(steps)
                begun = True
                self._wait_for_standstill(planned_s, cancel)
            finally:
                if self._axis.moving:
                    self._axis.stop()
                    self._wait_for_standstill(planned_s, None)
            if (self._axis.why_ended or "").startswith("error"):
                raise MotorError(f"{self.name}: the motion ended in an {self._axis.why_ended}")
        except MotorError as error:
            if begun or self._axis.uncertain is not None:
                self._where.lost_between(begin, begin + steps, str(error))
            raise
        finally:
            self._where.account()
            self._last_motion_ended_s = self._clock.now_s()
        if self._stop_asked:
            raise self._cancelled()

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

    def _cancelled(self) -> MoveCancelled:
        return MoveCancelled(f"{self.name}: stopped at {self.position_um:g} um")

    def _in_um(self, low_steps: float, high_steps: float) -> tuple[float, float]:
        return low_steps * self._um_per_step, high_steps * self._um_per_step
