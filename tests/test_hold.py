"""Holding the focus: its table of states, what it does about drift, and what it never does."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from focus_bench import BINS, log_normal, peaked
from hypothesis import given
from hypothesis import strategies as st

from edge.dialogue import Arrived, Begin, Cancelled, Glanced, Look, Move, Seen
from edge.drift import Drift
from edge.errors import FocusError
from edge.hold import BLURRED_BAND, MOST_LOOKS, MOST_MOVES, REFERENCE_LOOKS, RESUME_LOOKS, Hold
from edge.hold_dialogue import Event, Holding, HoldSettings, Request, Stopped, Unusable, Wait

SETTINGS = HoldSettings(-40.0, 40.0)
ABSORBING = peaked(0.0)


def seen(position: float, reading: float | None, sharpness: float = 1e-4) -> Seen:
    """A look at ``position`` that reads ``reading``; None: a blank one."""
    return Seen(position, sharpness, None if reading is None else log_normal(reading), BINS)


@dataclass
class Bench:
    """A stage of ``step`` dof over a focus that drifts by hand, and a network with an error of its own."""

    settings: HoldSettings = SETTINGS
    reads: Callable[[float], float | None] = lambda x: x
    contrast: Callable[[float], float] = ABSORBING
    step: float = 0.01
    position: float = 0.0
    focus: float = 0.0
    moves: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.hold = Hold(self.settings)
        self.request: Request = self.hold.send(Begin(self.position))
        self.interval()

    @property
    def defocus(self) -> float:
        return self.position - self.focus

    def look(self) -> Seen:
        return seen(self.position, self.reads(self.defocus), self.contrast(self.defocus))

    def interval(self, event: Event | None = None) -> Request:
        """Answer until it waits or ends; ``event`` instead of the first look."""
        for _ in range(3 * (MOST_LOOKS + REFERENCE_LOOKS)):
            if isinstance(self.request, Stopped):
                break
            if isinstance(self.request, Move):
                self.moves.append(self.request.to)
                self.position = round(self.request.to / self.step) * self.step
                self.request = self.hold.send(Arrived(self.position))
                continue
            self.request = self.hold.send(self.look() if event is None else event)
            event = None
            if isinstance(self.request, Wait):
                self.shares.append(self.request.share)
                break
        else:
            raise AssertionError("one interval does not end")
        return self.request

    def drift(self, by: float, intervals: int) -> list[float]:
        """Drift evenly; the true defocus after each interval."""
        out = []
        for _ in range(intervals):
            self.focus += by / intervals
            self.interval()
            out.append(self.defocus)
        return out


# The table ---------------------------------------------------------------------------------------------

LEGAL: dict[Holding, set[type[Event]]] = {
    Holding.READY: {Begin, Cancelled},
    Holding.REFERRING: {Seen, Unusable, Cancelled},
    Holding.HOLDING: {Seen, Unusable, Cancelled},
    Holding.WAITING: {Seen, Unusable, Cancelled},
    Holding.MOVING: {Arrived, Cancelled},
    Holding.PROVING: {Seen, Unusable, Cancelled},
    Holding.RETURNING: {Arrived, Cancelled},
    Holding.PAUSED: set(),
    Holding.STOPPED: set(),
}
EVENTS: list[Event] = [
    Begin(0.0),
    seen(0.0, 0.0),
    Unusable(0.0, "the frame is black"),
    Arrived(0.0),
    Cancelled(),
]


def hold_in(state: Holding) -> Hold:
    """One that stands in ``state``."""
    hold = Hold(SETTINGS)
    if state is Holding.READY:
        return hold
    hold.send(Begin(0.0))
    if state is Holding.REFERRING:
        return hold
    if state is Holding.PAUSED:
        hold.send(Cancelled())
        return hold
    for _ in range(REFERENCE_LOOKS):
        request = hold.send(seen(0.0, 0.0))
    if state is Holding.WAITING:
        while hold.state is not state:
            hold.send(seen(0.0, None))
        return hold
    position = 0.0
    while hold.state is not state:
        assert not isinstance(request, Stopped), state
        if isinstance(request, Move):
            position = request.to
            request = hold.send(Arrived(position))
        else:
            request = hold.send(
                seen(position, 1.4 * math.copysign(1, position or 1) * (1 + 2 * abs(position)))
            )
            if state is Holding.HOLDING:
                break
    return hold


@pytest.mark.parametrize("state", [s for s in Holding if s not in (Holding.RETURNING, Holding.STOPPED)])
def test_the_table_of_states(state: Holding) -> None:
    for event in EVENTS:
        hold = hold_in(state)
        if isinstance(event, Seen | Unusable):
            others = [getattr(event, name) for name in type(event).__match_args__[1:]]
            event = type(event)(hold._position, *others)
        if type(event) in LEGAL[state]:
            hold.send(event)
            continue
        before = (hold.state, hold.reason, hold.looks, hold.moves, hold.estimate)
        with pytest.raises(FocusError, match=f"{type(event).__name__} is not allowed while {state.value}"):
            hold.send(event)
        assert (hold.state, hold.reason, hold.looks, hold.moves, hold.estimate) == before


def test_an_event_of_another_loop() -> None:
    with pytest.raises(FocusError, match="Glanced"):
        Hold(SETTINGS).send(Glanced(0.0, 1.0))  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [{"low": 1.0, "high": 0.0}, {"low": math.nan}, {"drift": 0.0},
                                   {"dead_band": math.inf}, {"confidence": 0.4}, {"confidence": 1.0},
                                   {"least_move": -1.0}])  # fmt: skip
def test_settings_that_are_none(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"needed|allowed"):
        HoldSettings(**{"low": -1.0, "high": 1.0, **wrong})


@pytest.mark.parametrize(
    "event",
    [
        seen(math.nan, 0.0),
        seen(0.0, 0.0, math.nan),
        seen(0.0, 0.0, -1.0),
        Seen(0.0, 1.0, np.full(49, np.nan), BINS),
        Seen(0.0, 1.0, np.zeros(3), BINS),
    ],
)
def test_looks_that_are_none(event: Seen) -> None:
    hold = hold_in(Holding.HOLDING)
    looks = hold.looks
    with pytest.raises(FocusError, match="a look needs"):
        hold.send(event)
    assert (hold.state, hold.looks) == (Holding.HOLDING, looks)


def test_a_beginning_outside_the_limits() -> None:
    hold = Hold(SETTINGS)
    with pytest.raises(FocusError, match="outside"):
        hold.send(Begin(41.0))
    assert hold.state is Holding.READY


# Drift -------------------------------------------------------------------------------------------------


class TestDrift:
    def test_without_any_nothing_moves(self) -> None:
        bench = Bench()
        for _ in range(300):
            bench.interval()
        assert bench.moves == []
        assert bench.shares[-1] == 1.0, "all is quiet"
        assert bench.shares[0] < 0.2, "at first it may warm up"
        assert (bench.hold.state, bench.hold.reason) == (Holding.HOLDING, "")

    @pytest.mark.parametrize("by", [30.0, -30.0])
    @pytest.mark.parametrize("response", [0.5, 1.0, 2.0])
    def test_is_followed(self, by: float, response: float) -> None:
        """Whatever the error of the network on this field, and however it answers to defocus."""
        for error in (0.0, 0.8, -0.6):
            bench = Bench(reads=lambda x, error=error: response * x + error)  # type: ignore[misc]
            assert max(map(abs, bench.drift(by, 500))) < 1.0
            assert bench.hold.drifted == pytest.approx(by, abs=0.6)
            assert 20 < len(bench.moves) < 120

    def test_no_move_is_longer_than_the_drift(self) -> None:
        bench = Bench()
        places = [0.0]
        for _ in range(100):
            bench.drift(0.1, 1)
            places += bench.moves[len(places) - 1 :]
        steps = np.diff(places)
        assert steps.min() > -0.3
        assert steps.max() < 0.8

    def test_a_fast_one_is_looked_at_more_often(self) -> None:
        bench = Bench()
        bench.drift(0.0, 100)
        bench.drift(3.0, 10)
        assert bench.shares[-1] < 0.6
        bench.drift(0.0, 100)
        assert bench.shares[-1] == 1.0

    def test_less_contrast_makes_a_smaller_drift_sure(self) -> None:
        dull = Bench(contrast=lambda x: 1e-4)
        dull.drift(0.2, 30)
        assert dull.moves == []
        keen = Bench(contrast=peaked(0.0, width=0.1))
        keen.drift(0.2, 30)
        assert keen.moves

    def test_steps_that_are_coarse(self) -> None:
        bench = Bench(HoldSettings(-40.0, 40.0, least_move=0.5), step=0.5)
        assert max(map(abs, bench.drift(6.0, 200))) < 1.0
        assert all(abs(place / 0.5) >= 0.9 for place in bench.moves)


class TestLimits:
    def test_nothing_is_asked_for_beyond_them(self) -> None:
        bench = Bench(HoldSettings(-1.0, 1.5))
        bench.drift(3.0, 100)
        assert max(bench.moves) <= 1.5
        assert "beyond where the stage may go" in bench.hold.reason
        assert bench.hold.state in (Holding.HOLDING, Holding.WAITING)

    def test_a_stage_that_can_go_nowhere(self) -> None:
        bench = Bench(HoldSettings(0.0, 0.0))
        bench.drift(1.0, 100)
        assert bench.moves == []


# What is no drift --------------------------------------------------------------------------------------


class TestAnotherView:
    @pytest.mark.parametrize("event", [None, Unusable(0.0, "the frame is black"), seen(0.0, 6.0)])
    def test_waits_and_goes_on(self, event: Event | None) -> None:
        bench = Bench()
        bench.drift(0.0, 30)
        event = event or seen(0.0, None)
        for _ in range(20):
            bench.request = bench.hold.send(event)
        assert bench.hold.state is Holding.WAITING
        assert any(word in bench.hold.reason for word in ("nothing to focus on", "black", "jumped by +6.0"))
        for _ in range(RESUME_LOOKS - 1):
            bench.interval()
            assert bench.hold.state is Holding.WAITING
        bench.interval()
        assert (bench.hold.state, bench.hold.reason) == (Holding.HOLDING, "")
        assert bench.moves == []

    def test_one_odd_frame_is_no_other_view(self) -> None:
        bench = Bench()
        bench.interval(seen(0.0, 6.0))
        assert (bench.hold.state, bench.moves) == (Holding.HOLDING, [])

    def test_right_after_a_move(self) -> None:
        bench = Bench()
        hold = hold_in(Holding.PROVING)
        assert isinstance(hold.send(Unusable(hold._position, "the frame is black")), Wait)
        assert (hold.state, hold.reason) == (Holding.WAITING, "the frame is black")
        assert bench.moves == []

    def test_nothing_to_refer_to(self) -> None:
        bench = Bench(reads=lambda x: None)
        assert bench.request == Stopped("there is nothing in view to hold on to: ask for a focus")
        assert bench.hold.over

    def test_a_network_that_is_not_sure(self) -> None:
        hold = Hold(SETTINGS)
        hold.send(Begin(0.0))
        for _ in range(REFERENCE_LOOKS):
            request = hold.send(Seen(0.0, 1e-4, log_normal(0.0, sigma=3.0), BINS))
        assert isinstance(request, Stopped)
        assert "not sure of this field" in request.reason


class TestTheUser:
    @pytest.mark.parametrize("state", [Holding.HOLDING, Holding.WAITING, Holding.PROVING, Holding.REFERRING])
    def test_a_stage_found_elsewhere_pauses(self, state: Holding) -> None:
        hold = hold_in(state)
        request = hold.send(seen(hold._position + 0.02, 0.0))
        assert isinstance(request, Stopped)
        assert hold.state is Holding.PAUSED
        assert "moved by others" in hold.reason
        assert hold.over

    def test_a_move_that_was_stopped_pauses(self) -> None:
        hold = hold_in(Holding.MOVING)
        assert hold.send(Cancelled("stopped at 3 um")) == Stopped(hold.reason)
        assert hold.state is Holding.PAUSED
        assert hold.reason.startswith("stopped at 3 um")


class TestAWrongNetwork:
    @pytest.mark.parametrize("way", [1.0, -1.0])
    def test_that_points_the_wrong_way(self, way: float) -> None:
        """One step the wrong way, one back, and the end."""
        bench = Bench(reads=lambda x: -x)
        bench.drift(3.0 * way, 60)
        assert bench.hold.state is Holding.STOPPED
        assert "does not follow" in bench.hold.reason
        assert "ask for a focus" in bench.hold.reason
        assert len(bench.moves) == 2
        assert bench.position == pytest.approx(0.0, abs=bench.step), "back where it was"

    def test_that_contrast_contradicts(self) -> None:
        """The reading follows the stage, and has nothing to do with the specimen."""
        bench = Bench()
        bench.contrast = lambda x: 1e-4 if abs(bench.position) < 0.1 else 1e-6
        bench.drift(2.0, 60)
        assert bench.hold.state is Holding.STOPPED
        assert "less sharp" in bench.hold.reason
        assert bench.position == pytest.approx(0.0, abs=bench.step)

    def test_that_says_nothing_while_the_picture_blurs(self) -> None:
        bench = Bench(reads=lambda x: 0.0)
        bench.drift(6.0, 100)
        assert bench.hold.state is Holding.STOPPED
        assert "does not say which way" in bench.hold.reason
        assert bench.moves == []


class TestResponse:
    def test_is_learned_from_a_move(self) -> None:
        for response in (0.5, 1.0, 2.0):
            drift = Drift()
            drift.wait(1.0)
            drift.see(response, 0.05)
            drift.move(-0.5, 0.01)
            drift.see(response * 0.5, 0.05, moved=-0.5)
            assert drift.estimate().defocus == pytest.approx(0.5, abs=0.2), response

    def test_is_not_learned_from_quiet(self) -> None:
        drift = Drift()
        before = drift.beyond(0.0)
        for _ in range(1000):
            drift.wait(0.5)
            drift.see(0.01, 0.05)
        assert drift.wrong_way == pytest.approx(0.02)
        assert abs(drift.estimate().defocus) < 0.05
        assert max(before) <= 1.0

    def test_of_the_wrong_sign(self) -> None:
        drift = Drift()
        drift.wait(1.0)
        drift.see(0.8, 0.05)
        drift.move(-0.8, 0.01)
        drift.see(1.6, 0.05, moved=-0.8)
        assert drift.wrong_way > 0.9


# Whatever it is told -----------------------------------------------------------------------------------

readings = st.one_of(st.none(), st.floats(-14, 14), st.floats(-1, 1), st.floats(-0.4, 0.4))


@given(
    st.lists(st.tuples(readings, st.floats(1e-7, 1e-3), st.floats(0.3, 2.0)), min_size=10, max_size=120),
    st.floats(-3, 0),
    st.floats(0, 3),
    st.sampled_from([0.0, 0.02, 0.12]),
)
def test_never_outside_never_unsure_never_twice_blind(
    looks: list[tuple[float | None, float, float]], low: float, high: float, step: float
) -> None:
    hold = Hold(HoldSettings(low, high))
    position, looked, in_a_row = 0.0, True, 0
    request = hold.send(Begin(position))
    for reading, sharpness, spread in looks:
        while isinstance(request, Move):
            assert low <= request.to <= high, "outside the limits"
            assert looked, "two moves without a look between"
            looked = False
            if hold.state is Holding.MOVING:
                in_a_row += 1
                assert hold.sure >= hold.settings.confidence, "not sure"
                band = hold.settings.dead_band * BLURRED_BAND
                assert max(hold._drift.beyond(band)) >= hold.settings.confidence
                assert abs(request.to - position) <= 3.0
            assert in_a_row <= MOST_MOVES
            position = request.to if step == 0 else min(max(round(request.to / step) * step, low), high)
            request = hold.send(Arrived(position))
        if isinstance(request, Stopped):
            assert hold.over
            assert hold.reason == request.reason != ""
            return
        if isinstance(request, Wait):
            in_a_row = 0
            assert 0 < request.share <= 1
        else:
            assert isinstance(request, Look)
        log_p = None if reading is None else log_normal(reading, sigma=spread)
        request = hold.send(Seen(position, sharpness, log_p, BINS))
        looked = True
        assert math.isfinite(hold.drifted)
