"""The focus loop as a state machine without input or output: observations in; look, move, done or failed out.

Theory of operation
-------------------
All positions are stage positions in depths of field. The caller carries out the request that each event
returns:

    READY ──Begin──► LOOKING ──Seen──► sure and proved? ──────────────────────► DONE focused
                        ▲                  │ not yet
                        └──Arrived──────MOVING
                                           │ too many looks, contrast disagrees, or an estimate to bracket
                                           ▼
                                       STEPPING ──Arrived──► GLANCING ──Glanced──► the next place: STEPPING
                                                                 │ or the peak
                                                                 ▼
                                                            APPROACHING ──Arrived──► CONFIRMING
                                                                                         │ Seen
                                                                                         ▼
    nothing helped, an empty field, or focus a little way off: RETURNING ──Arrived──► DONE, whichever it is
    Cancelled, from anywhere but DONE: DONE failed

*Proved* is: the belief has the confidence asked for within the tolerance, on at least two looks from
different places (one, when it is very sure and pitch and optics are known), and contrast agrees: no look
was sharper, or the sharper one was so near that a refracting specimen explains it (its contrast is lowest
in focus and peaks to both sides) and the last look said just what was expected. Where pitch or optics were
assumed, the estimate is bracketed by a short sweep instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from edge.belief import Belief, Reading
from edge.dialogue import (
    Arrived,
    Begin,
    Cancelled,
    Done,
    Event,
    Glance,
    Glanced,
    Look,
    Move,
    Outcome,
    Request,
    Seen,
    Settings,
    State,
)
from edge.errors import FocusError
from edge.proof import beside_the_peak, next_place, proved, worth_a_last_move
from edge.sweep import Sweep

#: Places nearer to the focus than this share of the tolerance are as good as it.
AS_GOOD = 0.5
#: Sharpness may be this share of the best seen, for frame to frame variation.
NO_WORSE = 0.93
#: A refracting specimen is sharpest this many dof beside its focus at the most.
REFRACTION_DOF = 4.0
#: Where an empty-looking field is looked at again, to either side.
PROBE_DOF = 8.0
#: First window of a sweep: about its start, or the estimate, where so much belief and the best seen are near.
WINDOW_DOF, ABOUT_DOF, ABOUT_MASS = 12.0, 5.0, 0.8
_SAYS_NOTHING = 1e-6  # a log-likelihood that spans less over all bins prefers none of them
#: A bracket reaches this many tolerances to either side, in steps of a third of one.
BRACKET_REACH, BRACKET_STEP = 1.5, 0.5


@dataclass
class Autofocus:
    """One run. ``send(event)`` gives the next request; an illegal one raises FocusError, changing nothing."""

    settings: Settings
    state: State = State.READY
    reading: Reading | None = None
    surprise: float = 0.0
    looks: int = 0

    def __post_init__(self) -> None:
        self._seen: list[tuple[float, float]] = []
        self._informative: list[float] = []
        self._contrast: tuple[float, float] | None = None
        self._told = False
        self._probes: list[float] = []
        self._start = self._position = self._heading = 0.0
        self._sweep: Sweep | None = None
        self._bracketed: float | None = None
        self._reason = ""
        self._method: Literal["network", "sweep"] = "network"
        self._pending: tuple[Outcome, str] = ("failed", "not run")

    def send(self, event: Event) -> Request:
        """Take ``event`` in and say what to do next."""
        if isinstance(event, Cancelled) and self.state is not State.DONE:
            if event.position is not None:
                self._travel(event.position)
            return self._finish("failed", event.reason)
        handler = _TABLE.get((self.state, type(event)))
        if handler is None:
            raise FocusError(f"focus loop: {type(event).__name__} is not allowed while {self.state.value}")
        return handler(self, event)

    @cached_property
    def belief(self) -> Belief:
        """Where the focus is: every place as likely, until the run begins somewhere."""
        return Belief(self.settings.low, self.settings.high, self.settings.gains)

    @property
    def budget(self) -> int:
        """The most frames a run can take."""
        s = self.settings
        coarse = math.ceil((s.high - s.low) / s.sweep_step) + 12
        bracket = math.ceil(2 * BRACKET_REACH / BRACKET_STEP) + 12 if s.assumed else 0
        return s.max_looks + 3 + bracket + (coarse + 2 if s.sweep else 0)

    def _begin(self, event: Begin) -> Request:
        s = self.settings
        if not s.low <= event.position <= s.high:
            raise FocusError(
                f"focus loop: start {event.position:.3f} dof is outside {s.low:.3f} to {s.high:.3f}"
            )
        self._start = self._position = event.position
        self.belief = Belief(s.low, s.high, s.gains, start=event.position)
        return self._to(State.LOOKING, Look())

    def _arrived(self, event: Arrived) -> Request:
        self._travel(event.position)
        return self._to(State.LOOKING, Look())

    def _looked(self, event: Seen) -> Request:
        self.looks += 1
        self._note(event.position, event.sharpness)
        if event.log_likelihood is None:
            return self._blank(event)
        self._informative.append(event.position)
        self._told |= float(np.ptp(event.log_likelihood)) > _SAYS_NOTHING
        self.surprise = self.belief.see(event.position, event.log_likelihood, event.bin_centres)
        self._compare(event)
        self.reading = self._read()
        # What no look has told anything is the prior; with a wide tolerance that, too, may hold enough.
        s = self.settings
        last = self.looks >= s.max_looks
        if self._told and proved(self.reading, self._position, self._informative, s, last=last):
            return self._settle(event.sharpness)
        # Sure of another place than this: one look more, to prove it, is far less than a sweep.
        there = self._told and self.reading.target_within >= s.confidence
        if last and not (there and self.looks == s.max_looks):
            return self._fall_back("the network did not settle within the looks allowed")
        if last:
            return self._move_to(self.reading.target)
        first = self.looks == 1
        return self._move_to(next_place(self.belief, self.reading, self._position, s, first=first))

    def _settle(self, sharpness: float) -> Request:
        """The belief is sure: accept, bracket, or fall back where contrast contradicts it."""
        if self.settings.assumed:
            return self._start_bracket()
        sharpest, where = max((value, place) for place, value in self._seen)
        if sharpness >= NO_WORSE * sharpest or self.settings.phase:
            return self._accept("the belief is sure and contrast agrees")
        refracting = (
            abs(where - self._position) <= REFRACTION_DOF
            and self.surprise <= 0
            and len(self._informative) > 1
        )
        if not refracting or self.settings.absorbing:
            return self._fall_back("contrast disagrees with the network")
        self._reason = "the belief is sure; a refracting specimen, sharpest beside its focus"
        if self.reading is not None and abs(where - self.reading.target) <= AS_GOOD * self.settings.tolerance:
            return self._to(State.APPROACHING, Move(where))  # in focus both here and there: the sharper one
        return self._accept(self._reason)

    def _accept(self, reason: str) -> Request:
        """In focus here, or a little way off, where the belief has its middle and is no less sure."""
        here, tolerance = self._read(), self.settings.tolerance
        worth = worth_a_last_move(here.target - self._position, self._heading, self.settings)
        if worth and len(self._informative) > 1 and self.belief.near(here.target, tolerance) >= here.within:
            return self._return("focused", reason, here.target)
        return self._finish("focused", reason)

    def _compare(self, event: Seen) -> bool:
        """Take in how contrast changed since the last look that showed anything; False: it tells nothing."""
        before, told = self._contrast, math.isfinite(event.contrast) and not self.settings.phase
        blank = event.log_likelihood is None
        if told and not blank:
            self._contrast = event.position, event.contrast
        if before is None or not told:
            return False
        place, contrast = before
        self.belief.compare(place, event.position, event.contrast - contrast, blank=blank)
        return True

    def _blank(self, event: Seen) -> Request:
        """An uninformative frame: look to either side before the field is called empty."""
        if self._informative:
            if self._compare(event) and self.looks < self.settings.max_looks:
                self.reading = self._read()
                if abs(self.reading.target - self._position) > self.settings.tolerance:
                    return self._move_to(self.reading.target)
            return self._fall_back("the view went blank on the way")
        if self.looks == 1:
            wanted = (self._start + PROBE_DOF, self._start - PROBE_DOF)
            self._probes = [z for z in map(self._allowed, wanted) if z != self._start]
        if self._probes:
            return self._move_to(self._probes.pop(0))
        return self._return("no_specimen", "nothing to focus on here or to either side", self._start)

    def _start_bracket(self) -> Request:
        s = self.settings
        half = BRACKET_REACH * s.tolerance
        low, high = max(s.low, self._position - half), min(s.high, self._position + half)
        self._bracketed = self._position
        self._reason = "the belief is sure and the neighbourhood is less sharp"
        start = min(max(self._position, low), high)
        self._sweep = Sweep(low, high, BRACKET_STEP * s.tolerance, start, falling=s.onward == -1)
        return self._step(self._sweep)

    def _fall_back(self, reason: str) -> Request:
        s = self.settings
        if not s.sweep:
            return self._give_up(reason + ", and the sweep is switched off")
        low, high = max(s.low, s.sweep_low), min(s.high, s.sweep_high)
        self._bracketed, self._method = None, "sweep"
        self._reason = "the sharpest place of a sweep"
        where, window = self._first_window()
        start = min(max(where, low), high)
        self._sweep = Sweep(low, high, s.sweep_step, start, window=window, falling=s.onward == -1)
        return self._step(self._sweep)

    def _first_window(self) -> tuple[float, float]:
        """Where a sweep begins, middle and half width: about the belief, if contrast is of its mind."""
        target = self._read().target
        _, sharpest = max((value, place) for place, value in self._seen)
        # As the network counts depths of field; and never fewer places than settle a window.
        half = max(ABOUT_DOF / abs(self.belief.gain()), 3 * self.settings.sweep_step)
        agreed = abs(sharpest - target) < half <= WINDOW_DOF and self.looks == len(self._informative) > 1
        agreed &= self._told and self.belief.near(target, ABOUT_DOF) >= ABOUT_MASS
        return (target, half) if agreed else (self._start, WINDOW_DOF)

    def _step(self, sweep: Sweep) -> Request:
        place = sweep.next_position()
        if place is not None:
            return self._to(State.STEPPING, Move(self._allowed(place)))
        peak = sweep.peak()
        if peak.clear:
            return self._to(State.APPROACHING, Move(self._allowed(peak.position)))
        if self._bracketed is not None:
            return self._fall_back("the neighbourhood does not confirm the network: " + peak.reason)
        return self._give_up(peak.reason)

    def _stepped(self, event: Arrived) -> Request:
        self._travel(event.position)
        return self._to(State.GLANCING, Glance())

    def _glanced(self, event: Glanced) -> Request:
        self._note(event.position, event.sharpness)
        if self._sweep is None:
            raise FocusError("focus loop: a glance without a sweep")
        self._sweep.record(event.position, event.sharpness)
        return self._step(self._sweep)

    def _at_peak(self, event: Arrived) -> Request:
        self._travel(event.position)
        return self._to(State.CONFIRMING, Look())

    def _confirmed(self, event: Seen) -> Request:
        """A frame at the peak of a sweep: it must be as sharp as the peak was."""
        sharpest = max(value for _, value in self._seen)
        self._note(event.position, event.sharpness)
        if event.log_likelihood is not None:
            self.surprise = self.belief.see(event.position, event.log_likelihood, event.bin_centres)
            self.reading = self._read()
        _, started = self._seen[0]
        if event.sharpness < max(0.8 * sharpest, NO_WORSE * started):
            if self._method == "network":
                return self._fall_back("contrast disagrees with the network")
            return self._give_up("the peak of the sweep was not found again")
        if self._bracketed is not None and not self._agreed(self._bracketed):
            # Contrast, not the network, found this place.
            self._method, self._reason = "sweep", "the sharpest place near the network's estimate"
        place = beside_the_peak(event, self.settings) if self._bracketed is None else None
        if place is not None:
            return self._return(
                "focused", self._reason + ", and from there where the network sees focus", place
            )
        return self._finish("focused", self._reason)

    def _agreed(self, estimate: float) -> bool:
        """The network's ``estimate`` was within the tolerance of here, and the belief is still sure."""
        near = abs(self._position - estimate) <= self.settings.tolerance
        return near and self.reading is not None and self._read().within >= self.settings.confidence

    def _give_up(self, reason: str) -> Request:
        """Back to the sharpest place seen; where nothing was sharper, to the start."""
        _, started = self._seen[0]
        sharpest, place = max((value, place) for place, value in self._seen)
        return self._return("failed", reason, place if sharpest > started else self._start)

    def _return(self, result: Outcome, reason: str, place: float) -> Request:
        self._pending = (result, reason)
        return self._to(State.RETURNING, Move(self._allowed(place)))

    def _returned(self, event: Arrived) -> Request:
        self._travel(event.position)
        return self._finish(*self._pending)

    def _finish(self, result: Outcome, reason: str) -> Request:
        """Done, with what is believed here: the last look may have been elsewhere."""
        if self.reading is None:
            return self._to(State.DONE, Done(result, reason, self._method, None, None))
        self.reading = self._read()
        done = Done(result, reason, self._method, self.reading.within, self.reading.defocus)
        return self._to(State.DONE, done)

    def _move_to(self, target: float) -> Request:
        return self._to(State.MOVING, Move(self._allowed(target)))

    def _allowed(self, target: float) -> float:
        """Within the limits: where the stage really stood was rounded to its steps."""
        return min(max(target, self.settings.low), self.settings.high)

    def _travel(self, position: float) -> None:
        distance = abs(position - self._position)
        self._heading = math.copysign(1.0, position - self._position) if distance else self._heading
        self.belief.move(math.hypot(self.settings.move_sigma, self.settings.move_sigma_share * distance))
        self._position = position

    def _read(self) -> Reading:
        return self.belief.read(
            self._position, self.settings.tolerance, self.settings.low, self.settings.high
        )

    def _note(self, position: float, sharpness: float) -> None:
        self._position = position
        self._seen.append((position, sharpness))

    def _to(self, state: State, request: Request) -> Request:
        self.state = state
        return request


_TABLE: dict[tuple[State, type[Event]], Callable[[Autofocus, Any], Request]] = {
    (State.READY, Begin): Autofocus._begin,
    (State.LOOKING, Seen): Autofocus._looked,
    (State.MOVING, Arrived): Autofocus._arrived,
    (State.STEPPING, Arrived): Autofocus._stepped,
    (State.GLANCING, Glanced): Autofocus._glanced,
    (State.APPROACHING, Arrived): Autofocus._at_peak,
    (State.CONFIRMING, Seen): Autofocus._confirmed,
    (State.RETURNING, Arrived): Autofocus._returned,
}
