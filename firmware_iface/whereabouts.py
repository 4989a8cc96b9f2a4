"""Where the stage is, how surely, and what of that outlives the process.

The axis counts steps from wherever it was switched on; the journal knows where that was. Three things can
have happened to the count while nobody looked::

    count now            taken to mean
    as it was left       the axis kept it, and nothing moved
    0                    the axis started anew, and nothing moved (a motor on GPIO pins always does)
    anything else        others moved the axis, by the difference if it kept its count, and by all of it
                         if it started anew

In the last case the position is certain where both give the same, or where the count has changed by a tenth
of itself at most: had it begun again at 0, it would hardly have come back to there. Else it lies between.
"""

from __future__ import annotations

from firmware_iface.axis import Axis
from firmware_iface.backlash import Gap
from firmware_iface.journal import Doubt, Journal, Record

_KEPT = 10
"""A count that has changed by less than this part of itself has not begun again at 0."""


class Whereabouts:
    """The position of ``axis``'s screw and nut in steps, with or without a ``journal``.

    Nothing here moves. With a journal that is new, the position is 0 where the stage stands, and without one
    it is the axis' own count. ``doubt``: None while the position is certain. ``focus_steps``: position at
    the last good focus, if any. ``travel_steps``: steps made, both directions added up.
    """

    def __init__(self, axis: Axis, gap: Gap, *, um_per_step: float, journal: Journal | None) -> None:
        self.doubt: Doubt | None = None
        self.focus_steps: int | None = None
        self.travel_steps = 0
        self._axis = axis
        self._gap = gap
        self._um_per_step = float(um_per_step)
        self._journal = journal
        self._offset_steps = 0
        self._seen_steps = axis.position_steps
        if journal is not None:
            self._resume(journal)

    @property
    def screw_steps(self) -> int:
        """Where the screw is counted to be; during a motion, now."""
        return self._axis.position_steps + self._offset_steps

    @property
    def position_steps(self) -> int:
        """The position, as the convention about backlash has it; during a motion, now."""
        screw = self.screw_steps
        return self._gap.after(screw - self._seen_steps).position(screw)

    @property
    def gap(self) -> Gap:
        """The gap between screw and nut, as it was when account was last taken."""
        return self._gap

    def account(self) -> None:
        """Take note of where the axis stands now: the travel, and what it did to the gap."""
        moved = self.screw_steps - self._seen_steps
        self._seen_steps += moved
        self.travel_steps += abs(moved)
        self._gap = self._gap.after(moved)

    def moves_between(self, begin: int, end: int) -> None:
        """Write down that the screw is about to move between two places. BLOCKS; MotorError as in Journal."""
        self._write((min(begin, end), max(begin, end)))

    def stands(self) -> None:
        """Write down that the motor stands here. BLOCKS; MotorError as in Journal."""
        self.account()
        self._write(None)

    def lost_between(self, begin: int, end: int, why: str) -> None:
        """The screw stands somewhere between two places, and a gap's width to either side."""
        self.account()
        self._widen(begin - self._seen_steps, end - self._seen_steps, why)

    def is_at(self, position: int) -> None:
        """The position is this, for certain; the nut lies where it was last pushed to.

        The last good focus keeps its place on the specimen. After a doubt nobody knows its place any more.
        """
        self.account()
        self.focus_steps = (
            None
            if self.doubt or self.focus_steps is None
            else self.focus_steps + position - self.position_steps
        )
        self._shift(position - self.position_steps)
        self.doubt = None

    def found_focus(self) -> None:
        """See ``Stage.found_focus``."""
        self.account()
        if not self._gap.settled:
            return
        if self.doubt is None:
            self.focus_steps = self.position_steps
        elif self.focus_steps is not None:
            shift = self.focus_steps - self.position_steps
            least, most = self.doubt.least, self.doubt.most
            if least is None or most is None or least <= shift <= most:
                self._shift(shift)
                self.doubt = None
        self._write(None)

    def _shift(self, steps: int) -> None:
        """Count everything so much higher."""
        self._offset_steps += steps
        self._seen_steps += steps

    def _write(self, moving: tuple[int, int] | None) -> None:
        if self._journal is None:
            return
        self._journal.write(
            Record(
                position_steps=self._seen_steps,
                moving=moving,
                axis_steps=self._seen_steps - self._offset_steps,
                closed_steps=self._gap.most_closed_steps,
                focus_steps=self.focus_steps,
                doubt=self.doubt,
                um_per_step=self._um_per_step,
            )
        )

    def _resume(self, journal: Journal) -> None:
        """Take up where the journal ends. Writes nothing: whatever happens next, it says the same again."""
        record, count = journal.record, self._seen_steps
        if record is None:
            self._shift(-count)
        else:
            self.doubt, self.focus_steps = record.doubt, record.focus_steps
            self._gap = self._gap.forgotten(most_closed_steps=record.closed_steps)
            if record.moving is None:
                self._shift(record.position_steps - count)
                self._shift_by_others(record.axis_steps, count)
            else:
                self._resume_cut_off(record, *record.moving, count)
            if record.um_per_step != self._um_per_step:
                self.focus_steps = None
                self._doubt_all(
                    f"um_per_step was {record.um_per_step:g} when it was written down, and is"
                    f" {self._um_per_step:g} now"
                )
        if journal.damage is not None:
            self._doubt_all(f"the journal {journal.path} {journal.damage}")

    def _resume_cut_off(self, record: Record, low: int, high: int, count: int) -> None:
        """Take up after a motion that nobody saw end, between two places of the screw."""
        self._shift((low + high) // 2 - count)
        low_um, high_um = low * record.um_per_step, high * record.um_per_step
        why = f"a move between {low_um:g} and {high_um:g} um was cut off"
        if count != 0 and not low <= record.position_steps + count - record.axis_steps <= high:
            self._doubt_all(f"{why}, and the axis was moved by others since")
        else:
            self.lost_between(low, high, why)

    def _shift_by_others(self, left_at: int, count: int) -> None:
        """Allow for what others have done with the axis: see the top of the file."""
        moved = count - left_at
        if moved == 0 or count == 0:
            return
        self._gap = self._gap.after(moved)
        self._shift(moved)
        if left_at != 0 and _KEPT * abs(moved) > abs(left_at):
            why = f"the axis counts {count} steps and was left at {left_at}: others moved it, or it was reset"
            self._widen(min(left_at, 0), max(left_at, 0), why)

    def _widen(self, least: int, most: int, why: str) -> None:
        """What was known to a step is now known from ``least`` to ``most``, and a gap's width to either side.

        An older doubt goes on, as much wider.
        """
        least, most = min(least, most) - self._gap.size_steps, max(least, most) + self._gap.size_steps
        self._gap = self._gap.forgotten()
        old = self.doubt
        if old is None:
            self.doubt = Doubt(why, least, most, self.position_steps)
        elif old.least is not None and old.most is not None:
            self.doubt = Doubt(old.why, old.least + least, old.most + most, old.centre_steps)

    def _doubt_all(self, why: str) -> None:
        """The position is known no more."""
        self._gap = self._gap.forgotten()
        self.doubt = Doubt(why, None, None, self.position_steps)
