"""Holding the focus through slow drift, as a state machine without input or output.

Theory of operation
-------------------
Begun where a focus run has just ended focused. All positions are stage positions in depths of field. The
caller carries out the request that each event returns; `Look` is answered at once, `Wait` after an
interval, both with what is seen then:

    READY ──Begin──► REFERRING ──Seen, a few times──► HOLDING ◄── as expected, a few times ────── WAITING
                                                     │   ▲  └──── blank, black, a jump, another view ─►
                               sure of a drift: Move │   │ the reading followed
                                                     ▼   │
                                      MOVING ──Arrived──► PROVING ── it did not ──► RETURNING
                                                                                        │ Arrived
    not sure of anything, and blurred for long: STOPPED ◄───────────────────────────────┘
    the stage is not where it was left, or Cancelled: PAUSED until the next focus

The network errs on a field by half a depth of field or so, but in the same way at each look. So the focus
is held where it was proved: the first looks are the reference, and a *reading* is the network's mean
defocus less the reference's. `edge.drift` makes of readings how far the focus has gone. The stage moves
only when that is surely more than the dead band, by as much as is believed and no more.

A move is proved by looks after it: the reading must follow, and the sharpness come no farther from the
reference's. Compared with the reference and not with the sharpest seen, that holds for refracting specimens,
too, which are least sharp in focus. Where it does not hold, the stage goes back, once, and holding ends:
a field on which the network points the wrong way cannot be held.

A frame whose reading is far from what drift explains says that the view is another, or that a hand was at
the focus. Nothing moves then; holding goes on when the readings are as expected again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge.dialogue import Arrived, Begin, Cancelled, Look, Move, Seen
from edge.drift import Drift, Estimate
from edge.errors import FocusError
from edge.hold_dialogue import Event, Holding, HoldSettings, Request, Stopped, Unusable, Wait

#: Looks that make the reference, that prove a move, and that end a wait.
REFERENCE_LOOKS, PROOF_LOOKS, RESUME_LOOKS = 4, 2, 3
#: Looks at once, and moves, in one interval at the most.
MOST_LOOKS, MOST_MOVES = 2, 2
#: Noise of a reading, in dof, is no less than this: what a few looks repeat by chance.
LEAST_NOISE = 0.05
#: And grows by this share of the reading: the response is not quite straight.
CURVE_SHARE = 0.1
#: The network is not sure of anything where its spread is more than this, in dof.
MOST_SPREAD = 1.5
#: A probable drift is worth another look at once.
WORTH_A_LOOK = 0.5
#: A reading this many dof, and sigma, from the expected one is no drift; after a wait never more than that.
JUMP_DOF, JUMP_SIGMA, JUMP_MOST_DOF = 1.5, 4.0, 3.0
#: No move is longer than this, in dof.
MOST_MOVE = 3.0
#: Less sharp than the reference, and than before the move, by this factor is clearly less sharp.
CLEARLY = 1.6
#: A drift that contrast sees, too, is left alone up to this share of the dead band only.
BLURRED_BAND = 0.3
#: Less sharp than the reference by this factor for so many intervals, and no move in sight, is lost.
FAR_LESS, LOST_INTERVALS = 2.5, 10
#: Of the changes from interval to interval the latest counts this much; where one would be more than so many
#: dof, the next look comes sooner, down to this share of the interval.
LATEST, QUIET_DOF, SOONEST = 0.3, 0.15, 0.1
#: A field that answered with the wrong sign, this probably, is not held.
WRONG_WAY = 0.5
#: Uncertainty of a move in dof, and per dof of it.
MOVE_SIGMA, MOVE_SIGMA_SHARE = 0.05, 0.05


@dataclass(frozen=True)
class _Reference:
    """What the focus looks like: mean reading, its noise, the network's spread, and log of the sharpness."""

    reading: float
    noise: float
    spread: float
    log_sharpness: float


class Hold:
    """One time of holding. ``send(event)`` gives the next request; an illegal one raises FocusError, changing
    nothing. ``reason`` says why it stands where it stands; ``sure``: the latest probability of a drift worth
    a move.
    """

    def __init__(self, settings: HoldSettings) -> None:
        self.settings = settings
        self.state = Holding.READY
        self.reason = ""
        self.moves = self.looks = 0
        self.sure = 0.0
        self._drift = Drift()
        self._reference: _Reference | None = None
        self._first: list[tuple[float, float, float]] = []
        self._begun = self._position = self._before = 0.0
        self._contrast: list[float] = []
        self._contrast_before = 0.0
        self._moved = 0.0
        self._fresh = True
        self._share, self._rate, self._drifted = SOONEST, QUIET_DOF / SOONEST, 0.0
        self._blurred = 0.0
        self._looks_now = self._moves_now = self._odd = self._expected = 0

    def send(self, event: Event) -> Request:
        """Take ``event`` in and say what to do next."""
        over = self.state in (Holding.PAUSED, Holding.STOPPED)
        if isinstance(event, Cancelled) and not over:
            return self._end(Holding.PAUSED, f"{event.reason}: holding goes on after the next focus")
        handler = _TABLE.get((self.state, type(event)))
        if handler is None:
            raise FocusError(f"hold: {type(event).__name__} is not allowed while {self.state.value}")
        if isinstance(event, Seen | Unusable):
            _check(event)
            if event.position != self._position:
                why = "the stage was moved by others: holding goes on after the next focus"
                return self._end(Holding.PAUSED, why)
            self.looks += 1
        return handler(self, event)

    @property
    def over(self) -> bool:
        """Paused or stopped: nothing but a new focus, and a new `Hold`, goes on from here."""
        return self.state in (Holding.PAUSED, Holding.STOPPED)

    @property
    def estimate(self) -> Estimate:
        """Defocus against the reference, as believed now."""
        return self._drift.estimate()

    @property
    def drifted(self) -> float:
        """How far the focus has gone since the reference, in dof along the stage."""
        return self._position - self._begun - self.estimate.defocus

    def _begin(self, event: Begin) -> Request:
        s = self.settings
        if not s.low <= event.position <= s.high:
            raise FocusError(f"hold: {event.position:.3f} dof is outside {s.low:.3f} to {s.high:.3f}")
        self._begun = self._position = event.position
        return self._to(Holding.REFERRING, "", Look())

    def _referred(self, event: Seen | Unusable) -> Request:
        """One of the first looks; the reference when there are enough."""
        if isinstance(event, Seen) and event.log_likelihood is not None:
            self._first.append((*_mean_and_spread(event), math.log(event.sharpness + 1e-12)))
        elif self.looks >= 2 * REFERENCE_LOOKS:
            return self._end(Holding.STOPPED, "there is nothing in view to hold on to: ask for a focus")
        if len(self._first) < REFERENCE_LOOKS:
            return Look()
        reading, spread, log_sharpness = (float(x) for x in np.mean(self._first, axis=0))
        if spread > MOST_SPREAD:
            return self._end(Holding.STOPPED, "the network is not sure of this field: it cannot be held")
        noise = max(LEAST_NOISE, float(np.std([first[0] for first in self._first], ddof=1)))
        self._reference = _Reference(reading, noise, spread, log_sharpness)
        self._drift.see(0.0, noise)
        return self._rest()

    def _held(self, event: Seen | Unusable) -> Request:
        """A look while all is well."""
        self._pass_time()
        why = self._odd_one(event)
        if why is not None:
            self._odd += 1
            if self._odd < 2:
                return Look()
            self._expected = 0
            return self._to(Holding.WAITING, why, self._rested())
        self._odd = 0
        self._take(event)
        return self._decide()

    def _waited(self, event: Seen | Unusable) -> Request:
        """A look while the view is not what it was."""
        self._pass_time()
        why = self._odd_one(event)
        if why is not None:
            self._expected = 0
            self.reason = why
            return self._rested()
        self._expected += 1
        if self._expected < RESUME_LOOKS:
            return self._rested()
        self._odd = 0
        self._take(event)
        return self._rest()

    def _arrived(self, event: Arrived) -> Request:
        self._moved = event.position - self._position
        self._position = event.position
        self._drift.move(self._moved, math.hypot(MOVE_SIGMA, MOVE_SIGMA_SHARE * self._moved))
        self._contrast = []
        return self._to(Holding.PROVING, self.reason, Look())

    def _proved(self, event: Seen | Unusable) -> Request:
        """A look after a move: has the reading followed?"""
        if isinstance(event, Unusable) or event.log_likelihood is None:
            self._expected = 0
            return self._to(Holding.WAITING, self._odd_one(event) or "", self._rested())
        self._take(event, moved=self._moved)
        self._moved = 0.0
        if len(self._contrast) < PROOF_LOOKS:
            return Look()
        if self._drift.wrong_way > WRONG_WAY:
            return self._go_back("the network does not follow the stage on this field")
        blurred = self._unlike() < min(0.0, self._contrast_before) - math.log(FAR_LESS)
        if blurred and max(self._drift.beyond(self.settings.dead_band)) < self.settings.confidence:
            return self._go_back("the network says in focus, and the picture became clearly less sharp")
        self.state = Holding.HOLDING
        return self._decide()

    def _returned(self, event: Arrived) -> Request:
        return self._end(Holding.STOPPED, self.reason)

    def _decide(self) -> Request:
        """Move where a drift is sure, look again where it is likely, else wait."""
        s = self.settings
        blurred = self._unlike() < -math.log(CLEARLY)
        # Contrast says that there is a drift: then only its direction is in question.
        band = s.dead_band * BLURRED_BAND if blurred else s.dead_band
        sure = self.sure = max(self._drift.beyond(band))
        if self._moves_now >= MOST_MOVES or sure <= WORTH_A_LOOK:
            return self._rest()
        if sure < s.confidence:
            return Look() if self._looks_now < MOST_LOOKS else self._rest()
        wanted = min(max(-self.estimate.defocus, -MOST_MOVE), MOST_MOVE)
        if abs(wanted) < s.least_move:
            return self._rest()
        target = min(max(self._position + wanted, s.low), s.high)
        if abs(target - self._position) < abs(wanted) / 2:
            return self._to(Holding.HOLDING, "the focus lies beyond where the stage may go", self._rested())
        self._before, self._contrast_before, self._blurred = self._position, self._unlike(), 0.0
        self.moves += 1
        self._moves_now += 1
        return self._to(Holding.MOVING, f"drifted by {-wanted:+.2f} depths of field", Move(target))

    def _rest(self) -> Request:
        """All is well; unless the picture is far less sharp for long, and nothing said which way to move."""
        far = bool(self._contrast) and self._unlike() < -math.log(FAR_LESS)
        self._blurred = self._blurred + self._share if far else 0.0
        if self._blurred >= LOST_INTERVALS:
            return self._end(
                Holding.STOPPED, "blurred, and the network does not say which way: ask for a focus"
            )
        return self._to(Holding.HOLDING, "", self._rested())

    def _odd_one(self, event: Seen | Unusable) -> str | None:
        """Why a frame is nothing that drift explains; None where it does."""
        if isinstance(event, Unusable):
            return event.reason
        if event.log_likelihood is None:
            return "there is nothing to focus on in view"
        reading, _ = self._reading(event)
        expected = self.estimate
        off = reading - expected.reading
        most = min(max(JUMP_DOF, JUMP_SIGMA * expected.reading_sigma), JUMP_MOST_DOF)
        if abs(off) > most:
            return f"the reading jumped by {off:+.1f} depths of field: if it stays so, ask for a focus"
        return None

    def _take(self, event: Seen | Unusable, *, moved: float = 0.0) -> None:
        assert isinstance(event, Seen)
        reading, sigma = self._reading(event)
        self._drift.see(reading, sigma, moved=moved)
        self._contrast.append(math.log(event.sharpness + 1e-12))

    def _reading(self, event: Seen) -> tuple[float, float]:
        """Defocus against the reference and its noise: more where the network is less sure than there."""
        ref = self._reference
        assert ref is not None
        mean, spread = _mean_and_spread(event)
        reading, doubt = mean - ref.reading, math.sqrt(max(0.0, spread**2 - ref.spread**2))
        return reading, math.hypot(ref.noise, CURVE_SHARE * reading, doubt / 2)

    def _unlike(self) -> float:
        """Log of how much sharper the latest looks were than the reference."""
        assert self._reference is not None
        return float(np.mean(self._contrast)) - self._reference.log_sharpness

    def _pass_time(self) -> None:
        """Before the first look of an interval the focus has wandered."""
        if self._fresh:
            self._drift.wait(self.settings.drift * self._share)
            self._contrast = []
            self._fresh = False
        self._looks_now += 1

    def _rested(self) -> Wait:
        """A wait; the shorter, the faster the focus drifts."""
        if self.looks > REFERENCE_LOOKS and self.state is not Holding.WAITING:
            rate = abs(self.drifted - self._drifted) / self._share
            self._rate += LATEST * self._share**0.5 * (rate - self._rate)
        self._drifted = self.drifted
        self._share = min(1.0, max(SOONEST, QUIET_DOF / max(self._rate, 1e-9)))
        self._fresh, self._looks_now, self._moves_now = True, 0, 0
        return Wait(self._share)

    def _go_back(self, reason: str) -> Request:
        return self._to(Holding.RETURNING, f"{reason}: ask for a focus", Move(self._before))

    def _end(self, state: Holding, reason: str) -> Request:
        return self._to(state, reason, Stopped(reason))

    def _to(self, state: Holding, reason: str, request: Request) -> Request:
        self.state, self.reason = state, reason
        return request


def _check(event: Seen | Unusable) -> None:
    """Raise FocusError for what is no look: numbers that are none, or a likelihood without its bins."""
    sound = math.isfinite(event.position)
    if isinstance(event, Seen):
        sound &= math.isfinite(event.sharpness) and event.sharpness >= 0
        if event.log_likelihood is not None:
            sound &= event.log_likelihood.shape == event.bin_centres.shape
            sound &= math.isfinite(float(event.log_likelihood.max()))
    if not sound:
        raise FocusError(
            "hold: a look needs a position, a sharpness of 0 or more and a likelihood of its bins"
        )


def _mean_and_spread(event: Seen) -> tuple[float, float]:
    """Of the network's probabilities over defocus, in dof."""
    assert event.log_likelihood is not None
    p = np.exp(event.log_likelihood - event.log_likelihood.max())
    p /= p.sum()
    mean = float(p @ event.bin_centres)
    return mean, math.sqrt(float(p @ (event.bin_centres - mean) ** 2))


_TABLE: dict[tuple[Holding, type[Event]], Callable[[Hold, Any], Request]] = {
    (Holding.READY, Begin): Hold._begin,
    (Holding.REFERRING, Seen): Hold._referred,
    (Holding.REFERRING, Unusable): Hold._referred,
    (Holding.HOLDING, Seen): Hold._held,
    (Holding.HOLDING, Unusable): Hold._held,
    (Holding.WAITING, Seen): Hold._waited,
    (Holding.WAITING, Unusable): Hold._waited,
    (Holding.MOVING, Arrived): Hold._arrived,
    (Holding.PROVING, Seen): Hold._proved,
    (Holding.PROVING, Unusable): Hold._proved,
    (Holding.RETURNING, Arrived): Hold._returned,
}
