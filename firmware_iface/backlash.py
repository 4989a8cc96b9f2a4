"""The gap between screw and nut, and the two ways to have it not matter.

The nut follows the screw only once the gap between them is closed. ``Gap`` keeps how far it can be closed
in the approach direction: at least and at most, 0 to ``size_steps``. Every step taken narrows that down.

**One-sided**: every move ends in one fixed direction, the approach, far enough to have closed the gap
whatever came before. The distance between screw and nut is then always the same, and drops out; the position
is the screw's::

    approach up     a move up, gap known to be closed    here ------------> target
                    any other       here ----> target - size ----> target

It needs no exact size, only one that is large enough, and a load or spring that pulls cannot spoil it. It
costs two crossings of the gap for every move against the approach.

**On reversal**: a move that reverses is made longer by what there is of the gap, so that the nut travels the
distance asked for; the position is the nut's, whichever way it came::

    approach up     a move up       screw: here ------------> target
                    a move down     screw: target - size <-------- here

It is quicker, and the nut never swings past its target. It needs the exact size: what is wrong with it is
the error of every other move. While nobody knows how the nut lies, a move ends one-sided, after which all
is known.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Gap:
    """``size_steps`` (>= 0) of play; ``approach`` +1 or -1; ``on_reversal`` the convention, see above.

    Anything else: ValueError, in the words of ``Stage``.
    """

    size_steps: int
    approach: int
    on_reversal: bool
    least_closed_steps: int
    most_closed_steps: int

    def __post_init__(self) -> None:
        if self.size_steps < 0:
            raise ValueError(f"backlash_steps = {self.size_steps}: need at least 0")
        if self.approach not in (-1, 1):
            raise ValueError(f"approach = {self.approach!r}: need +1 or -1")

    @classmethod
    def unknown(cls, size_steps: int, approach: int, *, on_reversal: bool) -> Gap:
        """A gap in which the nut may lie anywhere."""
        return cls(size_steps, approach, on_reversal, 0, size_steps)

    def forgotten(self, *, most_closed_steps: int | None = None) -> Gap:
        """The same, with the nut anywhere; ``most_closed_steps``: where it is taken to be until moved."""
        most = self.size_steps if most_closed_steps is None else most_closed_steps
        return replace(self, least_closed_steps=0, most_closed_steps=min(max(most, 0), self.size_steps))

    @property
    def settled(self) -> bool:
        """Whether ``position`` is the nut's, and not off by what may be open of the gap."""
        least = self.least_closed_steps
        return least == self.size_steps or (self.on_reversal and least == self.most_closed_steps)

    @property
    def onward(self) -> int | None:
        """Direction (+1, -1) in which a move crosses no slack; 0: that of the move before; None: no slack."""
        return None if not self.size_steps else 0 if self.on_reversal else self.approach

    def after(self, moved: int) -> Gap:
        """The gap after the screw has made ``moved`` steps (signed) in one go."""
        if not moved:
            return self
        least, most = (
            min(max(closed + moved * self.approach, 0), self.size_steps)
            for closed in (self.least_closed_steps, self.most_closed_steps)
        )
        return replace(self, least_closed_steps=least, most_closed_steps=most)

    def position(self, screw: int) -> int:
        """What the convention calls the position when the screw stands at ``screw``."""
        if not self.on_reversal:
            return screw
        return screw + self.approach * (self.size_steps - self.most_closed_steps)

    def legs(self, screw: int, target: int) -> list[int]:
        """Where the screw ends each leg of a move from ``screw`` to the position ``target``."""
        beyond = target - self.approach * self.size_steps
        if self.on_reversal and self.settled:
            towards = (target - self.position(screw)) * self.approach
            return [target if towards > 0 else beyond] if towards else []
        towards = (target - screw) * self.approach
        if towards >= 0 and self.least_closed_steps + towards >= self.size_steps:
            return [target] if towards else []
        return [leg for leg, before in ((beyond, screw), (target, beyond)) if leg != before]
