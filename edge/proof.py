"""When a belief is proof enough to end a run, and where to look where it is not yet.

Positions and lengths are in depths of field along the stage. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from edge.belief import Belief, Reading
from edge.dialogue import Seen, Settings

__all__ = ["beside_the_peak", "next_place", "proved", "worth_a_last_move"]

#: A look this sure settles it alone, where pitch and optics are known.
ONE_LOOK_CONFIDENCE = 0.97
#: Looks nearer than this share of the tolerance are one look: their errors are the same.
DISTINCT_SHARE = 0.5
#: Worth a last move without a look: the middle of the belief, so many tolerances away; the last frame is then
#: in focus by what the user calls that. Beyond half a dof contrast has a say, if it is known to be highest.
POLISH, LAST_MOVE, POLISH_DOF = 0.2, 1.0, 0.5
#: The same where the move crosses the drive's slack, which takes longer than the way itself.
POLISH_ACROSS = 0.4
#: Before it is proved where the stage stands, the belief must be this sure of where the last move goes.
LAST_MOVE_CONFIDENCE = 0.95
#: So far from the peak of a sweep one look there may send the stage.
BESIDE_DOF = 2.0
#: A first move that is likely to need a second ends this share of the belief's spread short of its target.
SHORT, SPREAD_REACH = 0.3, 4.0


def proved(
    reading: Reading, position: float, informative: Sequence[float], settings: Settings, *, last: bool
) -> bool:
    """The belief is sure that the focus is at ``position``, or near enough for a last move without a look.

    ``informative``: where its looks were. ``last``: no more look is allowed.
    """
    if not _distinct(reading, position, informative, settings):
        return False
    if reading.within >= settings.confidence and (last or _central(reading, position, settings)):
        return True
    farthest = min(LAST_MOVE * settings.tolerance, POLISH_DOF if settings.absorbing else math.inf)
    near = abs(reading.target - position) <= farthest and not settings.assumed
    sure = max(LAST_MOVE_CONFIDENCE, settings.confidence)
    return near and len(informative) > 1 and reading.target_within >= sure


def next_place(
    belief: Belief, reading: Reading, position: float, settings: Settings, *, first: bool
) -> float:
    """The most probable focus; where that is here, a step aside that a second look can judge from."""
    s = settings
    if _central(reading, position, s):
        aside = position + 1.5 * s.tolerance
        return aside if aside <= s.high else max(s.low, position - 1.5 * s.tolerance)
    short = _short(belief, reading, position, s) if first else 0.0
    return min(max(reading.target - short, s.low), s.high)


def worth_a_last_move(way: float, heading: float, settings: Settings) -> bool:
    """Whether to move by ``way`` without a look, after a move in the direction ``heading`` (0: none)."""
    free = settings.onward is None or way * (settings.onward or heading) > 0
    least = POLISH if free else POLISH_ACROSS
    return least * settings.tolerance < abs(way) <= LAST_MOVE * settings.tolerance


def beside_the_peak(look: Seen, settings: Settings) -> float | None:
    """The focus as a ``look`` at a sweep's peak has it, where it is sure of it, and a little way off.

    What refracts is sharpest beside its focus, and how far is what one look says best. Those before it do not
    count: the sweep began because they were not to be trusted.
    """
    s = settings
    if look.log_likelihood is None or s.assumed or s.absorbing:
        return None
    belief = Belief(s.low, s.high, s.gains, start=look.position)
    belief.see(look.position, look.log_likelihood, look.bin_centres)
    reading = belief.read(look.position, s.tolerance, s.low, s.high)
    near = POLISH * s.tolerance < abs(reading.target - look.position) <= BESIDE_DOF
    return reading.target if near and reading.target_within >= s.confidence else None


def _short(belief: Belief, reading: Reading, position: float, settings: Settings) -> float:
    """How far before its target a first move ends, so that the second one crosses no slack."""
    if settings.onward is None or reading.target_within >= settings.confidence:
        return 0.0
    spread = belief.spread(reading.target, SPREAD_REACH * settings.tolerance)
    direction = settings.onward or math.copysign(1.0, reading.target - position)
    return direction * min(SHORT * spread, settings.tolerance)


def _distinct(reading: Reading, position: float, informative: Sequence[float], settings: Settings) -> bool:
    """Looks from different places, or one that is sure enough where nothing was assumed."""
    if reading.within >= ONE_LOOK_CONFIDENCE and not settings.assumed:
        return True
    nearest = DISTINCT_SHARE * settings.tolerance
    return any(abs(place - position) > nearest for place in informative)


def _central(reading: Reading, position: float, settings: Settings) -> bool:
    """The stage stands near the middle of what is believed, not at the edge of the tolerance."""
    return abs(reading.target - position) <= DISTINCT_SHARE * settings.tolerance
