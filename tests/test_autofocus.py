"""The focus loop: its table of states, and what it does on specimens of arithmetic."""

from __future__ import annotations

import itertools
import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
from focus_bench import BINS, Array, Bench, Network, blank, log_normal, oracle, peaked, refracting, unsure

from edge.autofocus import Autofocus
from edge.belief import UNKNOWN, Gains
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
    Request,
    Seen,
    Settings,
    State,
)
from edge.errors import FocusError

SETTINGS = Settings(-40.0, 40.0)
ASSUMED = Settings(-40.0, 40.0, assumed=True, gains=UNKNOWN)

#: What each state may be told; all else is illegal.
LEGAL: dict[State, set[type[Event]]] = {
    State.READY: {Begin, Cancelled},
    State.LOOKING: {Seen, Cancelled},
    State.MOVING: {Arrived, Cancelled},
    State.STEPPING: {Arrived, Cancelled},
    State.GLANCING: {Glanced, Cancelled},
    State.APPROACHING: {Arrived, Cancelled},
    State.CONFIRMING: {Seen, Cancelled},
    State.RETURNING: {Arrived, Cancelled},
    State.DONE: set(),
}
#: What a request of each kind leaves the loop waiting for.
ANSWERS: dict[type[Request], type[Event]] = {Look: Seen, Glance: Glanced, Move: Arrived}
EVENTS: tuple[Event, ...] = (
    Begin(0.0),
    Seen(0.0, 1e-4, log_normal(1.0), BINS),
    Glanced(0.0, 1e-4),
    Arrived(0.0),
    Cancelled("enough"),
)


def loop_in(state: State) -> Autofocus:
    """A loop that came to ``state`` by itself: a network that says nothing leads through all of them."""
    settings = Settings(-40.0, 40.0, max_looks=2)
    # A first frame that nothing comes near to has the loop refuse the peak of the sweep in the end.
    frames = itertools.count()
    bench = Bench(settings, unsure, lambda z: 1.0 if next(frames) == 0 else peaked(3.0)(z))
    loop = Autofocus(settings)
    if state is State.READY:
        return loop
    request = loop.send(Begin(0.0))
    while loop.state is not state:
        assert not isinstance(request, Done), f"never came by {state}"
        request = loop.send(bench.answer(request))
    return loop


class TestTable:
    @pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
    @pytest.mark.parametrize("state", State)
    def test_every_pair(self, state: State, event: Event) -> None:
        loop = loop_in(state)
        before = pickle.dumps(vars(loop))
        if type(event) in LEGAL[state]:
            loop.send(event)
            assert pickle.dumps(vars(loop)) != before
            return
        with pytest.raises(FocusError) as caught:
            loop.send(event)
        assert type(event).__name__ in str(caught.value)
        assert state.value in str(caught.value)
        assert pickle.dumps(vars(loop)) == before, "an illegal event changed the loop"

    @pytest.mark.parametrize("state", [s for s in State if s is not State.DONE])
    def test_a_request_leaves_one_thing_to_wait_for(self, state: State) -> None:
        """Whatever was asked for last, its answer and nothing else (but a stop) is legal."""
        loop = Autofocus(SETTINGS)
        bench = Bench(SETTINGS, unsure, peaked(3.0))
        request = loop.send(Begin(0.0))
        while not isinstance(request, Done):
            assert LEGAL[loop.state] == {ANSWERS[type(request)], Cancelled}
            request = loop.send(bench.answer(request))
        assert loop.state is State.DONE

    @pytest.mark.parametrize("start", [-40.001, 41.0, math.nan, math.inf])
    def test_a_start_outside_the_limits(self, start: float) -> None:
        loop = Autofocus(SETTINGS)
        before = pickle.dumps(vars(loop))
        with pytest.raises(FocusError, match="outside"):
            loop.send(Begin(start))
        assert pickle.dumps(vars(loop)) == before
        assert isinstance(loop.send(Begin(40.0)), Look)


class TestCancel:
    @pytest.mark.parametrize("state", [s for s in State if s is not State.DONE])
    def test_at_any_point(self, state: State) -> None:
        loop = loop_in(state)
        done = loop.send(Cancelled("the lamp went out"))
        assert isinstance(done, Done)
        assert (done.result, done.reason) == ("failed", "the lamp went out")
        assert loop.state is State.DONE

    def test_in_mid_move_counts_from_where_it_stopped(self) -> None:
        loop = Autofocus(SETTINGS)
        loop.send(Begin(8.0))
        assert isinstance(loop.send(Seen(8.0, 1e-5, log_normal(8.0), BINS)), Move)
        done = loop.send(Cancelled("stopped", 5.0))
        assert isinstance(done, Done)
        assert done.defocus == pytest.approx(5.0, abs=0.6)


class TestOracle:
    @pytest.mark.parametrize("specimen", [peaked, refracting])
    @pytest.mark.parametrize("focus", [-9.5, 0.0, 6.2])
    @pytest.mark.parametrize("away", [-10.0, -6.0, -2.0, -1.0, 0.0, 0.4, 1.5, 4.0, 11.0])
    def test_at_most_three_looks(self, specimen: type, focus: float, away: float) -> None:
        bench = Bench(SETTINGS, oracle(focus), specimen(focus))
        done = bench.run(focus + away)
        assert (done.result, done.method) == ("focused", "network"), done.reason
        assert bench.position == pytest.approx(focus, abs=1.0)
        assert len(bench.frames) <= 3
        assert done.confidence is not None
        assert done.confidence >= SETTINGS.confidence
        assert done.defocus == pytest.approx(0.0, abs=0.5)

    @pytest.mark.parametrize("start", [-40.0, -15.0, 20.0, 40.0])
    def test_from_beyond_what_the_network_reads(self, start: float) -> None:
        bench = Bench(SETTINGS, oracle(2.0), peaked(2.0))
        assert bench.run(start).result == "focused"
        assert bench.position == pytest.approx(2.0, abs=1.0)
        assert bench.looks <= SETTINGS.max_looks + 1

    @pytest.mark.parametrize("assumed", [False, True])
    @pytest.mark.parametrize("gain", [-1.0, 0.7, 1.4])
    @pytest.mark.parametrize("start", [-8.0, 3.0, 9.0])
    def test_a_lying_one(self, gain: float, assumed: bool, start: float) -> None:
        bench = Bench(ASSUMED if assumed else SETTINGS, oracle(0.0, gain=gain), peaked(0.0))
        done = bench.run(start)
        assert done.result == "focused"
        assert bench.position == pytest.approx(0.0, abs=1.0)

    @pytest.mark.parametrize("gain", [-2.5, 0.4, 2.5])
    def test_a_microscope_of_which_nothing_is_known(self, gain: float) -> None:
        bench = Bench(ASSUMED, oracle(0.0, gain=gain), peaked(0.0, width=1 / abs(gain)))
        assert bench.run(2.0 / abs(gain)).result == "focused"
        assert bench.position == pytest.approx(0.0, abs=1.0)

    def test_what_was_assumed_is_bracketed(self) -> None:
        bench = Bench(ASSUMED, oracle(0.0), peaked(0.0))
        done = bench.run(6.0)
        assert (done.result, done.method) == ("focused", "network")
        glanced = [place for kind, place in bench.frames if kind == "glance"]
        assert min(glanced) < bench.position < max(glanced)
        assert bench.frames[-1][0] == "look"


class TestTheLastLook:
    def test_one_more_where_the_belief_is_sure_of_another_place(self) -> None:
        """Broad looks far from focus and one sharp one beside it: that one is the last allowed."""
        settings = Settings(-40, 40, max_looks=2, absorbing=True)
        bench = Bench(settings, lambda z: log_normal(z + (1.2 if z > 3 else 0), sigma=0.5), peaked(0.0))
        done = bench.run(6.0)
        assert (done.result, done.method) == ("focused", "network")
        assert bench.looks == 3
        assert abs(bench.position) < 0.6
        assert len(bench.frames) <= bench.loop.budget

    def test_but_one_only(self) -> None:
        """A network that is always sure of a place three dof farther on."""
        settings = Settings(-40, 40, max_looks=2)
        bench = Bench(settings, lambda z: log_normal(-3.0, sigma=0.2), peaked(20.0))
        assert bench.run(0.0).method == "sweep"
        assert [kind for kind, _ in bench.frames[:4]].count("look") <= 3


def far_off_by(dof: float) -> Network:
    """Broad looks, ``dof`` short of the truth, beyond 3 dof; sharp and true ones within."""
    return lambda z: log_normal(z, sigma=0.4) if abs(z) < 3 else log_normal(z - dof, sigma=1.5)


class TestTheFirstMove:
    """From where the belief is broad, so that a second move is likely."""

    @pytest.mark.parametrize(
        ("onward", "start", "short"), [(None, 6.0, 0), (0, 6.0, 1), (0, -6.0, -1), (1, 6.0, -1), (-1, 6.0, 1)]
    )
    def test_ends_short_so_that_the_next_crosses_no_slack(
        self, onward: int | None, start: float, short: int
    ) -> None:
        settings = replace(SETTINGS, onward=onward)
        broad = Bench(settings, lambda z: log_normal(z, sigma=1.2), peaked(0.0))
        broad.run(start)
        arrived = broad.frames[1][1]
        if short:
            assert 0.2 < arrived * short <= 1.0
        else:
            assert abs(arrived) < 0.3

    @pytest.mark.parametrize("onward", [None, 0, 1, -1])
    def test_is_straight_where_the_belief_is_sure(self, onward: int | None) -> None:
        settings = replace(SETTINGS, onward=onward, gains=Gains((1.0,), (1.0,)))
        bench = Bench(settings, oracle(0.0, sigma=0.3), peaked(0.0))
        bench.run(6.0)
        assert abs(bench.frames[1][1]) < 0.1


class TestTheLastMove:
    def test_to_the_middle_of_the_belief_without_a_look(self) -> None:
        """The network reads all of a large defocus but for 0.4 dof, and is right near focus."""
        bench = Bench(SETTINGS, lambda z: log_normal(z if abs(z) < 2 else z - 0.4), peaked(0.0))
        done = bench.run(6.0)
        assert (done.result, done.method) == ("focused", "network")
        last = bench.frames[-1][1]
        assert abs(last) > 0.2, "the last look was beside the focus"
        assert abs(bench.position) < abs(last) - 0.15
        assert done.confidence is not None
        assert done.confidence >= SETTINGS.confidence

    @pytest.mark.parametrize("absorbing", [False, True])
    def test_farther_where_the_belief_is_very_sure(self, absorbing: bool) -> None:
        """The first look reads 0.7 dof too little: the second tells how much is missing."""
        settings = replace(SETTINGS, absorbing=absorbing)
        bench = Bench(settings, far_off_by(0.7), peaked(0.0))
        done = bench.run(6.0)
        assert (done.result, done.method) == ("focused", "network")
        assert abs(bench.position) < 0.5
        last = abs(bench.frames[-1][1])
        # Where contrast is known to be highest in focus, it is asked.
        assert (last < 0.4) if absorbing else (0.6 < last <= 1.0)

    def test_not_as_far_as_that(self) -> None:
        bench = Bench(SETTINGS, far_off_by(2.0), peaked(0.0))
        assert bench.run(8.0).result == "focused"
        assert abs(bench.frames[-1][1]) < 1.0

    def test_not_for_less_than_is_worth_it(self) -> None:
        bench = Bench(SETTINGS, lambda z: log_normal(z if abs(z) < 2 else z - 0.1), peaked(0.0))
        assert bench.run(6.0).result == "focused"
        assert bench.position == bench.frames[-1][1]

    @pytest.mark.parametrize(
        ("onward", "heading", "way", "worth"),
        [
            (None, -1.0, 0.3, True),
            (0, 1.0, 0.3, True),
            (0, -1.0, 0.3, False),
            (0, -1.0, -0.3, True),
            (0, -1.0, 0.5, True),
            (0, 0.0, 0.3, False),
            (1, -1.0, 0.3, True),
            (1, 1.0, -0.3, False),
            (-1, 1.0, -0.3, True),
            (None, 1.0, 0.1, False),
        ],
    )
    def test_through_slack_it_must_be_worth_more(
        self, onward: int | None, heading: float, way: float, worth: bool
    ) -> None:
        loop = Autofocus(replace(SETTINGS, onward=onward))
        loop.send(Begin(0.0))
        loop._informative, loop._heading = [4.0, 0.0], heading
        loop.belief.mass = np.zeros_like(loop.belief.mass)
        loop.belief.mass[0, int(np.abs(loop.belief.places - way).argmin())] = 1.0
        assert isinstance(loop._accept("proved"), Move if worth else Done)

    def test_cancelled_before_it_began(self) -> None:
        done = Autofocus(SETTINGS).send(Cancelled("enough", 3.0))
        assert isinstance(done, Done)
        assert (done.result, done.reason) == ("failed", "enough")

    def test_the_direction_is_that_of_the_last_move(self) -> None:
        loop = Autofocus(SETTINGS)
        loop.send(Begin(0.0))
        for position, heading in ((2.0, 1.0), (1.5, -1.0), (1.5, -1.0), (1.6, 1.0)):
            loop._travel(position)
            assert loop._heading == heading

    def test_not_after_a_single_look(self) -> None:
        bench = Bench(Settings(-40, 40, tolerance=2.0), lambda z: log_normal(z, sigma=0.4), peaked(0.0))
        assert bench.run(0.45).result == "focused"
        assert [place for _, place in bench.frames] == [0.45]
        assert bench.position == 0.45

    def test_nor_over_more_than_a_look_errs(self) -> None:
        wide = Settings(-40, 40, tolerance=5.0)
        bench = Bench(wide, lambda z: log_normal(z if abs(z) < 5 else z - 2.4), peaked(0.0, width=9.0))
        assert bench.run(9.0).result == "focused"
        assert abs(bench.position) > 1.5
        assert bench.position == bench.frames[-1][1]

    def test_not_to_where_the_belief_is_less_sure(self) -> None:
        """The mean about the best place can hold less than the place where the stage stands."""
        loop = Autofocus(Settings(-40.0, 40.0, confidence=0.95))
        loop.send(Begin(0.0))
        belief, loop._informative = loop.belief, [4.0, 0.0]
        belief.mass = np.zeros_like(belief.mass)
        for place, mass in ((-0.45, 0.92), (0.85, 0.06), (-8.0, 0.02)):
            belief.mass[0, int(np.abs(belief.places - place).argmin())] = mass
        assert 0.2 < abs(loop._read().target) < 0.5, "else there is nothing to refuse"
        assert isinstance(loop._accept("proved"), Done)

    def test_within_the_limits(self) -> None:
        """What the belief has beyond a limit is not gone to."""
        bench = Bench(Settings(-10.0, 0.3), oracle(0.6), peaked(0.3))
        assert bench.run(-5.0).result == "focused"
        assert bench.position <= 0.3
        assert all(place <= 0.3 for place in bench.asked)

    def test_stopped_on_the_way(self) -> None:
        bench = Bench(SETTINGS, lambda z: log_normal(z if abs(z) < 2 else z - 0.4), peaked(0.0))
        loop, bench.position = Autofocus(SETTINGS), 6.0
        request = loop.send(Begin(6.0))
        while loop.state is not State.RETURNING:
            request = loop.send(bench.answer(request))
        done = loop.send(Cancelled("enough"))
        assert isinstance(done, Done)
        assert (done.result, done.reason) == ("failed", "enough")


class TestSweep:
    # A wrong network from beyond its focus and the true one would be believed: contrast rises on the way.
    @pytest.mark.parametrize(
        ("network", "start"),
        [(unsure, -35.0), (unsure, 0.0), (unsure, 12.0)]
        + [(oracle(-20.0), at) for at in (-10.0, 0.0, 12.0, 35.0)],
    )
    def test_settles_what_the_network_cannot(self, network: object, start: float) -> None:
        bench = Bench(SETTINGS, network, peaked(10.0))  # type: ignore[arg-type]
        done = bench.run(start)
        assert (done.result, done.method) == ("focused", "sweep")
        assert bench.position == pytest.approx(10.0, abs=0.5)
        assert len(bench.frames) <= bench.loop.budget

    def test_begins_where_the_network_has_it_though_unsure(self) -> None:
        """A broad belief never reaches the confidence asked for, but tells where a sweep need not go."""
        found = {}
        for name, network in (("broad", oracle(10.0, sigma=2.5)), ("none", unsure)):
            bench = Bench(Settings(-40, 40, confidence=0.999), network, peaked(10.0))
            done = bench.run(0.0)
            assert (done.result, done.method) == ("focused", "sweep")
            assert bench.position == pytest.approx(10.0, abs=0.5)
            found[name] = [place for kind, place in bench.frames if kind == "glance"]
        assert len(found["broad"]) < 0.65 * len(found["none"])
        assert min(found["broad"]) > 4

    def test_a_blank_look_leaves_the_belief_behind(self) -> None:
        """The network sends the stage off the specimen: the sweep begins about the start."""
        bench = Bench(SETTINGS, lambda z: None if z > 4 else log_normal(-5.0), peaked(-2.0))
        assert bench.run(0.0).method == "sweep"
        glanced = [place for kind, place in bench.frames if kind == "glance"]
        assert min(glanced) == pytest.approx(-12, abs=0.6)
        assert bench.position == pytest.approx(-2.0, abs=0.5)

    def test_goes_on_where_the_network_was_wrong(self) -> None:
        bench = Bench(Settings(-40, 40, confidence=0.999), oracle(-20.0, sigma=2.5), peaked(10.0))
        assert bench.run(-18.0).result == "focused"
        assert bench.position == pytest.approx(10.0, abs=0.5)
        glanced = [place for kind, place in bench.frames if kind == "glance"]
        assert all(-26 < place < -14 for place in glanced[:8]), "first about the network's estimate"

    @pytest.mark.parametrize("step", [1.0, 2.5, 4.0])
    @pytest.mark.parametrize("gain", [0.25, -0.4, 1.0, 2.5])
    def test_a_window_about_the_belief_never_costs_the_whole_range(self, gain: float, step: float) -> None:
        """Of unknown pitch, and however coarse the sweep: at most what a sweep about the start takes."""
        settings = Settings(-100, 100, gains=UNKNOWN, confidence=0.9999, sweep_step=step, assumed=True)
        frames = {}
        for name, network in (("broad", oracle(0.0, gain=gain, sigma=2.5)), ("none", unsure)):
            bench = Bench(settings, network, lambda z: peaked(0.0)(gain * z))
            assert bench.run(8.0).result == "focused"
            frames[name] = len(bench.frames)
        assert frames["broad"] <= 1.2 * frames["none"] + 4

    def test_where_contrast_disagrees(self) -> None:
        """The network is sure of a place that is much less sharp than one seen on the way."""
        bench = Bench(SETTINGS, oracle(0.0), peaked(9.0))
        done = bench.run(9.0)
        assert done.method == "sweep"
        assert bench.position == pytest.approx(9.0, abs=0.5)

    def test_where_the_neighbourhood_disagrees(self) -> None:
        bench = Bench(ASSUMED, oracle(0.0), peaked(9.0))
        done = bench.run(9.0)
        assert (done.result, done.method) == ("focused", "sweep")
        assert bench.position == pytest.approx(9.0, abs=0.5)

    def test_of_two_places_in_focus_the_sharper_is_kept(self) -> None:
        """The start was in focus already, and a refracting specimen is sharper there than in the middle."""
        bench = Bench(SETTINGS, oracle(0.0), peaked(0.4, width=0.3))
        done = bench.run(0.4)
        assert (done.result, done.method) == ("focused", "network")
        assert bench.position == 0.4
        assert min(abs(place) for _, place in bench.frames) < 0.1, "it has been in the middle"

    def test_a_peak_that_fades_is_looked_for_again(self) -> None:
        """The frame at the peak of the bracket is not as sharp as the bracket said: then by a whole sweep."""
        steady = peaked(0.0)
        bench = Bench(ASSUMED, oracle(0.0), steady)

        def fading(position: float) -> float:
            kinds = [kind for kind, _ in bench.frames]
            confirming = kinds[-2:] == ["glance", "look"] and kinds.count("look") == looks_before_bracket + 1
            return steady(position) * (0.3 if confirming else 1.0)

        bench.run(6.0)
        looks_before_bracket = bench.looks - 1
        bench = Bench(ASSUMED, oracle(0.0), fading)
        done = bench.run(6.0)
        assert (done.result, done.method) == ("focused", "sweep")

    def test_a_place_that_contrast_found_is_not_the_networks(self) -> None:
        """The network says 0, the bracket finds the peak more than a tolerance beside it."""
        bench = Bench(ASSUMED, oracle(0.0), peaked(1.2, width=0.3))
        done = bench.run(6.0)
        assert (done.result, done.method) == ("focused", "sweep")
        assert abs(bench.position - 1.2) < 0.3

    def test_a_refracting_specimen_is_believed(self) -> None:
        for start in (2.0, -2.0, 7.0):
            bench = Bench(SETTINGS, oracle(0.0), refracting(0.0))
            assert bench.run(start).method == "network"
            assert bench.position == pytest.approx(0.0, abs=1.0)

    def test_but_not_one_that_is_known_to_absorb(self) -> None:
        bench = Bench(Settings(-40, 40, absorbing=True), oracle(0.0), refracting(0.0))
        assert bench.run(2.0).method == "sweep"

    def test_of_a_phase_specimen_contrast_is_no_guard(self) -> None:
        bench = Bench(Settings(-40, 40, phase=True), oracle(0.0), refracting(0.0, beside=9.0))
        assert bench.run(9.0).method == "network"
        assert bench.position == pytest.approx(0.0, abs=1.0)

    def test_stays_within_its_range(self) -> None:
        bench = Bench(Settings(-40, 40, sweep_low=-5.0, sweep_high=7.5, max_looks=1), unsure, peaked(3.0))
        assert bench.run(0.0).result == "focused"
        assert bench.asked
        assert all(-5.0 <= place <= 7.5 for place in bench.asked)

    def test_may_be_switched_off(self) -> None:
        bench = Bench(Settings(-40, 40, sweep=False), unsure, peaked(3.0))
        done = bench.run(0.0)
        assert done.result == "failed"
        assert "switched off" in done.reason
        assert all(kind == "look" for kind, _ in bench.frames)

    def test_a_peak_that_is_not_found_again(self) -> None:
        bench = Bench(SETTINGS, unsure, peaked(5.0))
        bench.contrast = lambda z: peaked(5.0)(z) * (0.1 if bench.loop.state is State.CONFIRMING else 1)
        done = bench.run(0.0)
        assert done.result == "failed"
        assert "not found again" in done.reason


class TestBesideThePeak:
    """Where a sweep ends, one look says how far beside its sharpest place a specimen is in focus."""

    SETTINGS = Settings(-40.0, 40.0, max_looks=1)
    SURE = staticmethod(oracle(0.0, sigma=0.4))

    def _ended_at(self, settings: Settings, network: Network, peak: float) -> float:
        bench = Bench(settings, unsure, peaked(peak))
        bench.network = lambda z: (network if bench.loop.state is State.CONFIRMING else unsure)(z)
        done = bench.run(5.0)
        assert (done.result, done.method) == ("focused", "sweep")
        return bench.position

    @pytest.mark.parametrize("peak", [-1.7, 0.6, 1.5])
    def test_there(self, peak: float) -> None:
        assert self._ended_at(self.SETTINGS, self.SURE, peak) == pytest.approx(0.0, abs=0.2)

    def test_whatever_the_looks_before_it_said(self) -> None:
        bench = Bench(SETTINGS, oracle(-20.0), peaked(1.4))
        bench.network = lambda z: (self.SURE if bench.loop.state is State.CONFIRMING else oracle(-20.0))(z)
        assert bench.run(3.0).method == "sweep"
        assert bench.position == pytest.approx(0.0, abs=0.2)

    @pytest.mark.parametrize(
        ("settings", "network", "peak"),
        [
            (SETTINGS, SURE, 2.4),
            (SETTINGS, oracle(0.0, sigma=1.5), 1.5),
            (SETTINGS, blank, 1.5),
            (replace(SETTINGS, absorbing=True), SURE, 1.5),
            (replace(SETTINGS, assumed=True), SURE, 1.5),
        ],
        ids=["farther", "unsure", "blank", "absorbing", "assumed"],
    )
    def test_at_the_peak_all_the_same(self, settings: Settings, network: Network, peak: float) -> None:
        assert self._ended_at(settings, network, peak) == pytest.approx(peak, abs=0.3)

    def test_within_the_limits(self) -> None:
        assert 0.2 <= self._ended_at(replace(self.SETTINGS, low=0.2), self.SURE, 1.5) < 0.6


class TestFailure:
    @pytest.mark.parametrize("start", [-40.0, 0.0, 39.5, 40.0])
    def test_a_blank_field_goes_back_to_where_it_began(self, start: float) -> None:
        bench = Bench(SETTINGS, blank, lambda _: 0.0)
        done = bench.run(start)
        assert done.result == "no_specimen"
        assert (done.confidence, done.defocus) == (None, None)
        assert bench.position == start
        assert 2 <= len(bench.frames) <= 3
        assert len({place for _, place in bench.frames}) == len(bench.frames), "looked twice at one place"

    def test_a_field_that_only_looks_empty_from_here(self) -> None:
        bench = Bench(
            SETTINGS, lambda z: None if abs(z - 14.0) > 9 else oracle(14.0)(z), peaked(14.0, width=3.0)
        )
        assert bench.run(0.0).result == "focused"
        assert bench.position == pytest.approx(14.0, abs=1.0)

    def test_a_view_that_goes_blank_on_the_way(self) -> None:
        bench = Bench(SETTINGS, lambda z: None if z < 4 else oracle(0.0)(z), peaked(0.0))
        assert bench.run(8.0).method == "sweep"
        assert bench.position == pytest.approx(0.0, abs=0.5)

    def test_a_view_that_goes_blank_on_the_wrong_side(self) -> None:
        """Blank after a look that showed something: the focus is on the other side; no sweep is needed."""

        def network(z: float) -> Array | None:
            if abs(z) > 9:
                return None
            # Beyond 5 dof it hardly knows which side, and prefers the wrong one.
            both = np.logaddexp(log_normal(z), log_normal(-z) + 0.7)
            return both if abs(z) > 5 else log_normal(z)

        def seen(z: float) -> float:
            return -math.log1p((z / 4.5) ** 2)

        for start in (-8.0, 8.0):
            for told in (True, False):
                bench = Bench(SETTINGS, network, peaked(0.0), seen=seen if told else None)
                done = bench.run(start)
                assert (done.result, done.method) == ("focused", "network" if told else "sweep")
                assert bench.position == pytest.approx(0.0, abs=0.5)

    def test_contrast_that_falls_tells_the_direction(self) -> None:
        """To the network both sides look alike, also after the move; a phase specimen says nothing."""

        def network(z: float) -> Array:
            return np.logaddexp(log_normal(z), log_normal(-z))

        def seen(z: float) -> float:
            return -math.log1p((z / 4.5) ** 2)

        belief = []
        for settings in (SETTINGS, replace(SETTINGS, phase=True)):
            loop = Autofocus(settings)
            loop.send(Begin(0.0))
            for place in (0.0, 3.0):
                loop.send(Seen(place, 1e-4, network(place - 6.0), BINS, seen(place - 6.0)))
                if place == 0.0:
                    loop.send(Arrived(3.0))
            belief.append(loop.belief.near(6.0, 1.0) / loop.belief.near(-6.0, 1.0))
        assert belief[0] > 3 * belief[1]

    @pytest.mark.parametrize("contrast", [0.0, 1e-9, 1e-4])
    def test_a_flat_field(self, contrast: float) -> None:
        bench = Bench(SETTINGS, unsure, lambda _: contrast)
        done = bench.run(4.0)
        assert done.result == "failed"
        assert done.reason
        assert bench.position == 4.0

    def test_ends_at_the_sharpest_place_that_was_seen(self) -> None:
        """A slope without a peak: the focus lies beyond the limits."""
        bench = Bench(SETTINGS, unsure, peaked(60.0, width=20.0))
        done = bench.run(0.0)
        assert done.result == "failed"
        assert "end of the range" in done.reason
        assert bench.position == pytest.approx(40.0)

    def test_reports_what_is_believed_where_it_ends(self) -> None:
        bench = Bench(
            Settings(-40, 40, sweep=False, max_looks=2), oracle(0.0), lambda z: 1e-4 * (1.1 + z / 50)
        )
        done = bench.run(9.0)
        assert done.result == "failed", "contrast disagrees"
        assert bench.position == 9.0
        assert done.defocus == pytest.approx(9.0, abs=0.7)
        assert done.confidence is not None
        assert done.confidence < 0.1


@pytest.mark.parametrize(
    "wrong",
    [
        {"low": 1.0, "high": 1.0},
        {"low": math.nan, "high": 1.0},
        {"low": 0.0, "high": math.inf},
        {"low": 0.0, "high": 5.0, "sweep_low": 6.0},
        {"low": 0.0, "high": 5.0, "sweep_low": 3.0, "sweep_high": 2.0},
        {"low": 0.0, "high": 5.0, "tolerance": 0.0},
        {"low": 0.0, "high": 5.0, "sweep_step": 0.0},
        {"low": 0.0, "high": 5.0, "max_looks": 0},
        {"low": 0.0, "high": 5.0, "confidence": 1.0},
    ],
)
def test_settings_that_are_none(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"allowed|limits|needed"):
        Settings(**wrong)  # type: ignore[arg-type]


def test_the_smallest_range() -> None:
    bench = Bench(Settings(0.0, 0.018), oracle(0.0), peaked(0.0), step=0.018)
    done = bench.run(0.0)
    assert done.result in ("focused", "failed")
    assert np.isin(bench.position, (0.0, 0.018))
