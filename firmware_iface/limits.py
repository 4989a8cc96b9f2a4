"""Where a stage may go: soft limits, no farther than so from the last good focus, and less in doubt."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass

from firmware_iface.backlash import Gap
from firmware_iface.errors import LimitError
from firmware_iface.journal import Doubt
from firmware_iface.whereabouts import Whereabouts

_Range = tuple[float, float]
_ANYWHERE = (-math.inf, math.inf)


@dataclass(frozen=True)
class Limits:
    """The rules of one stage, in steps. Two kinds:

    * the screw may not leave the soft limits ``low_steps`` to ``high_steps``, not in passing either. In
      doubt it may not at any place where it can really be; where nobody knows that, the rule says nothing;
    * a move may not end farther than ``focus_travel_steps`` (None: any distance) from the last good focus.
      In doubt that distance is not known; instead a move may not end farther than
      ``uncertain_travel_steps`` from where the stage stood when the doubt began.
    """

    name: str
    um_per_step: float
    low_steps: int
    high_steps: int
    focus_travel_steps: int | None
    uncertain_travel_steps: int

    def __post_init__(self) -> None:
        for key in ("focus_travel_steps", "uncertain_travel_steps"):
            steps = getattr(self, key)
            if steps is not None and operator.index(steps) < 1:
                raise ValueError(f"{self.name}: {key} = {steps}: need at least 1")

    def screw_range(self, doubt: Doubt | None) -> _Range:
        """Where the screw may be counted, (low, high); low > high: nowhere."""
        if doubt is None:
            return self.low_steps, self.high_steps
        if doubt.least is None or doubt.most is None:
            return _ANYWHERE
        return self.low_steps - doubt.least, self.high_steps - doubt.most

    def end_range(self, doubt: Doubt | None, focus: int | None) -> _Range:
        """Where a move may end, as far as that is narrower than ``screw_range``."""
        if doubt is not None:
            return _around(doubt.centre_steps, self.uncertain_travel_steps)
        if focus is None or self.focus_travel_steps is None:
            return _ANYWHERE
        return _around(focus, self.focus_travel_steps)

    def allowed(self, where: Whereabouts, *, gap: Gap | None = None) -> _Range:
        """Where a move may end now; with ``gap``, whatever the way there. Nowhere: where it stands."""
        low, high = self.screw_range(where.doubt)
        if gap is not None and gap.approach > 0:
            low += gap.size_steps
        elif gap is not None:
            high -= gap.size_steps
        end_low, end_high = self.end_range(where.doubt, where.focus_steps)
        low, high = max(low, end_low), min(high, end_high)
        here = where.position_steps
        return (low, high) if low <= high else (here, here)

    def check(self, where: Whereabouts, target: int, legs: list[int]) -> None:
        """LimitError, with the rule in its text, unless a move may end at ``target`` by way of ``legs``."""
        low, high = self.screw_range(where.doubt)
        end_low, end_high = self.end_range(where.doubt, where.focus_steps)
        detail = None
        if not low <= target <= high:
            detail = self._soft(where.doubt)
        elif not end_low <= target <= end_high:
            detail = self._distance(where.doubt, where.focus_steps)
        else:
            for leg in legs:
                if not low <= leg <= high:
                    overshoot = f"with an overshoot to {leg * self.um_per_step:g} um"
                    detail = f"{self._soft(where.doubt)}, {overshoot}"
        if detail is not None:
            allowed = self._um(*self.allowed(where))
            raise LimitError(self.name, target * self.um_per_step, allowed, "um", detail)

    def in_doubt(self, where: Whereabouts, doubt: Doubt) -> str:
        """What there is to know about ``doubt``, in one line."""
        low, high = self._um(*self.allowed(where))
        until = "home, or the focus where it was, is found"
        if where.focus_steps is None:
            until = "home is found (without a switch: put the stage where 0 shall be, delete the journal)"
        return (
            f"{self.name}: the position is uncertain: {doubt.why};"
            f" {low:g} to {high:g} um is allowed until {until}"
        )

    def check_home(self, direction: int, position: int, most_steps: int) -> None:
        """ValueError unless a switch at ``position``, reached in ``direction``, lies before the limits or in
        them, no farther away than they are wide, and there is a way there.
        """
        if direction not in (-1, 1):
            raise ValueError(f"{self.name}: direction = {direction!r}: need +1 or -1")
        if most_steps < 1:
            raise ValueError(f"{self.name}: most_steps = {most_steps}: need at least 1")
        width = self.high_steps - self.low_steps
        inside = self.high_steps - position if direction < 0 else position - self.low_steps
        if not 0 < inside <= 2 * width:
            end = "lower" if direction < 0 else "upper"
            low_um, high_um = self._um(self.low_steps, self.high_steps)
            raise ValueError(
                f"{self.name}: home at {position * self.um_per_step:g} um cannot be the {end} end of a stage"
                f" with the limits {low_um:g} to {high_um:g} um"
            )

    def inwards(self, where: Whereabouts, direction: int) -> int:
        """How far the screw must go to bring the nut inside the soft limit in ``direction``; 0: it is."""
        here = where.position_steps
        beyond = max(0, self.low_steps - here if direction < 0 else here - self.high_steps)
        return beyond + where.gap.size_steps if beyond else 0

    def room(self, where: Whereabouts, direction: int) -> int:
        """How far the screw may safely go in ``direction``: to the soft limit or, in doubt, not far."""
        if where.doubt is not None:
            return self.uncertain_travel_steps
        here = where.screw_steps
        return max(0, self.high_steps - here if direction > 0 else here - self.low_steps)

    def _um(self, low: float, high: float) -> tuple[float, float]:
        return low * self.um_per_step, high * self.um_per_step

    def _soft(self, doubt: Doubt | None) -> str:
        if doubt is None:
            return "soft limit"
        return f"it might pass a soft limit, the position is uncertain: {doubt.why}"

    def _distance(self, doubt: Doubt | None, focus: int | None) -> str:
        if doubt is not None:
            um = self.uncertain_travel_steps * self.um_per_step
            return f"more than {um:g} um from where the position became uncertain: {doubt.why}"
        um = (self.focus_travel_steps or 0) * self.um_per_step
        return f"more than {um:g} um from the last good focus at {(focus or 0) * self.um_per_step:g} um"


def _around(centre: int, distance: int) -> _Range:
    return centre - distance, centre + distance
