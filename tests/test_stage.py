"""The stage: limits before motion, one-sided approach, stops and errors that leave a known position."""

from __future__ import annotations

import math
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_iface.clock import VirtualClock
from firmware_iface.errors import LimitError, MotorError, MoveCancelled
from firmware_iface.simulated import SimulatedAxis
from firmware_iface.stage import POLL_S, Stage

UM_PER_STEP = 0.0625
LOW, HIGH = -2000, 2000
BACKLASH = 200


class WatchedClock(VirtualClock):
    """A virtual clock that notes, at every sleep, where the axis is and for how long it will not be seen."""

    axis: SimulatedAxis | None = None

    def __init__(self) -> None:
        super().__init__()
        self.seen_steps: list[int] = []
        self.moving_sleeps_s: list[float] = []
        self.at_sleep: Callable[[], None] | None = None

    def sleep_s(self, dt: float) -> None:
        if self.axis is not None:
            self.seen_steps.append(self.axis.position_steps)
            if self.axis.moving:
                self.moving_sleeps_s.append(dt)
        if self.at_sleep is not None:
            self.at_sleep()
        super().sleep_s(dt)


class Bench:
    """A stage on a simulated axis that writes down every leg it is told to go."""

    def __init__(self, *, start: int = 0, slack: float = 120.0, gap: int = BACKLASH, **wishes: Any) -> None:
        self.legs: list[tuple[int, int]] = []
        bench = self

        class WrittenDown(SimulatedAxis):
            def start_move(self, steps: int) -> float:
                bench.legs.append((self.position_steps, self.position_steps + steps))
                return super().start_move(steps)

        self.clock = WatchedClock()
        self.axis = WrittenDown(
            self.clock, backlash_steps=gap, initial_slack=slack, vibration_amplitude_steps=0.0, seed=0
        )
        self.axis.enable()
        if start:
            self.clock.sleep_s(self.axis.start_move(start) + 1e-6)
            self.legs.clear()
        self.clock.axis = self.axis
        wishes = {"limits_steps": (LOW, HIGH), "backlash_steps": gap, **wishes}
        self.stage = Stage(self.axis, self.clock, um_per_step=UM_PER_STEP, **wishes)

    @property
    def offset_steps(self) -> float:
        """Count minus true position: constant as long as backlash is compensated."""
        return self.axis.position_steps - self.axis.true_position_steps()


# -- limits -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target_um", [125.1, -125.1, 1e12, -1e12, math.inf, -math.inf, math.nan])
def test_out_of_range_is_refused_before_the_first_step(target_um: float) -> None:
    bench = Bench()
    with pytest.raises(LimitError, match=r"^z: asked for .* um.*; allowed is -125 to 125 um$") as caught:
        bench.stage.move_to_um(target_um)
    assert bench.legs == []
    assert bench.stage.moves == 0
    assert caught.value.allowed == (-125.0, 125.0)
    assert isinstance(caught.value, ValueError)


def test_a_target_whose_overshoot_does_not_fit_is_refused() -> None:
    bench = Bench()
    with pytest.raises(
        LimitError, match=r"-124 um \(soft limit, with an overshoot to -136.5 um\); allowed is -125 to 125"
    ):
        bench.stage.move_to_um(-124.0)
    assert bench.legs == []


@pytest.mark.parametrize(("approach", "reachable_um"), [(+1, (-112.5, 125.0)), (-1, (-125.0, 112.5))])
def test_all_that_is_called_reachable_can_be_reached(
    approach: int, reachable_um: tuple[float, float]
) -> None:
    bench = Bench(approach=approach)
    assert bench.stage.limits_um == (-125.0, 125.0)
    assert bench.stage.reachable_um == reachable_um
    for target_um in (*reachable_um, *reversed(reachable_um), 0.0):
        bench.stage.move_to_um(target_um)
        assert bench.stage.position_um == target_um


def test_the_far_limit_is_allowed_when_no_overshoot_is_needed() -> None:
    bench = Bench(start=-2000)
    bench.stage.move_to_steps(-1800)
    bench.stage.move_to_steps(-1750)
    assert bench.legs == [(-2000, -1800), (-1800, -1750)]


def test_a_stage_outside_its_limits_may_come_back() -> None:
    bench = Bench(start=-2500)
    bench.stage.move_to_steps(0)
    assert bench.legs == [(-2500, 0)]


targets = st.one_of(st.integers(LOW, HIGH), st.sampled_from([LOW, HIGH]), st.integers(2 * LOW, 2 * HIGH))
journeys = st.lists(
    st.tuples(targets, st.one_of(st.none(), st.floats(min_value=0.0, max_value=2.0))), min_size=1, max_size=6
)


@given(journeys, st.sampled_from([-1, 1]), st.sampled_from([0, 30, BACKLASH]), st.floats(0.0, 1.0))
def test_whatever_is_asked(
    journey: list[tuple[int, float | None]], approach: int, gap: int, part: float
) -> None:
    """Random targets, in and out of range, some cancelled after a while: the promises that always hold."""
    bench = Bench(approach=approach, gap=gap, slack=gap * part, settle_s=0.01)
    stage, clock = bench.stage, bench.clock
    offset_steps: float | None = None
    for target, patience_s in journey:
        legs_before, begun_s = len(bench.legs), clock.now_s()
        cancel = None if patience_s is None else lambda s=patience_s, b=begun_s: clock.now_s() - b >= s
        try:
            stage.move_to_steps(target, cancel=cancel)
        except LimitError:
            assert len(bench.legs) == legs_before
        except MoveCancelled:
            assert patience_s is not None
        else:
            assert stage.position_steps == target
            # The nut's distance from the count is fixed by the first whole move, for good.
            offset_steps = bench.offset_steps if offset_steps is None else offset_steps
            assert bench.offset_steps == pytest.approx(offset_steps, abs=1e-6)
            new_legs = bench.legs[legs_before:]
            if new_legs and gap:
                begin, end = new_legs[-1]
                assert (end - begin) * approach > 0
        assert not bench.axis.moving
    assert all(LOW <= end <= HIGH for _, end in bench.legs)
    assert all(LOW <= steps <= HIGH for steps in clock.seen_steps)
    assert all(dt <= POLL_S for dt in clock.moving_sleeps_s)


# -- approach and bookkeeping -----------------------------------------------------------------------------


def test_legs_by_hand() -> None:
    bench = Bench()
    stage = bench.stage
    stage.move_to_steps(100)  # nobody knows how the nut lies: by way of one backlash below
    stage.move_to_steps(150)  # gap known to be closed, same direction
    stage.move_to_steps(150)  # already there
    stage.move_to_steps(50)
    assert bench.legs == [(0, -100), (-100, 100), (100, 150), (150, -150), (-150, 50)]
    assert stage.moves == 3
    assert stage.travel_steps == 100 + 200 + 50 + 300 + 200


def test_approach_from_above_is_the_mirror() -> None:
    bench = Bench(approach=-1)
    bench.stage.move_to_steps(-100)
    bench.stage.move_to_steps(-50)
    assert bench.legs == [(0, 100), (100, -100), (-100, 150), (150, -50)]


def test_a_move_to_where_it_stands_closes_the_gap_once() -> None:
    bench = Bench()
    bench.stage.move_by_um(0.0)
    bench.stage.move_by_um(0.0)
    assert bench.legs == [(0, -200), (-200, 0)]


def test_micrometres_are_rounded_to_the_nearest_step() -> None:
    bench = Bench(gap=0, slack=0)
    bench.stage.move_to_um(1.0)
    bench.stage.move_by_um(-0.34)
    assert bench.stage.position_steps == 11
    assert bench.stage.position_um == 11 * UM_PER_STEP


def test_times_of_motion_and_settling() -> None:
    bench = Bench(gap=0, slack=0, settle_s=0.25)
    bench.stage.move_to_steps(1000)
    assert bench.stage.last_motion_ended_s == pytest.approx(bench.clock.now_s() - 0.25)
    assert bench.stage.last_motion_ended_s == pytest.approx(0.32 + 0.808, abs=0.002)


# -- stops and errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize("after_s", [0.0, 0.1, 0.45, 0.8])
def test_cancel_leaves_a_known_position_and_the_next_move_is_right(after_s: float) -> None:
    bench = Bench()
    bench.stage.move_to_steps(300)
    offset = bench.offset_steps
    begun_s = bench.clock.now_s()
    with pytest.raises(MoveCancelled, match=r"^z: stopped at .* um$"):
        bench.stage.move_to_steps(100, cancel=lambda: bench.clock.now_s() - begun_s >= after_s)
    assert not bench.axis.moving
    assert bench.clock.now_s() - begun_s <= after_s + 0.18, "it did not stop as fast as it could"
    assert bench.stage.last_motion_ended_s <= bench.clock.now_s()
    assert bench.stage.position_steps == bench.axis.position_steps
    bench.stage.move_to_steps(100)
    assert bench.stage.position_steps == 100
    assert bench.offset_steps == offset


def test_a_little_way_back_opens_the_gap_however_far_it_came() -> None:
    bench = Bench()
    bench.stage.move_to_steps(1500)
    offset, begun_s = bench.offset_steps, bench.clock.now_s()
    with pytest.raises(MoveCancelled):
        bench.stage.move_to_steps(500, cancel=lambda: bench.clock.now_s() - begun_s >= 0.05)
    assert 1500 - BACKLASH < bench.stage.position_steps < 1500
    bench.stage.move_by_um(2 * UM_PER_STEP)
    assert bench.offset_steps == offset


def test_cancelled_before_the_start_nothing_moves() -> None:
    bench = Bench()
    with pytest.raises(MoveCancelled):
        bench.stage.move_to_steps(100, cancel=lambda: True)
    assert bench.legs == []
    assert bench.stage.moves == 0


def test_stop_from_another_thread_ends_the_move_and_no_leg_follows() -> None:
    bench = Bench()
    sleeps = []

    def stop_once() -> None:
        sleeps.append(None)
        if len(sleeps) == 10:
            other = threading.Thread(target=bench.stage.stop)
            other.start()
            other.join()

    bench.clock.at_sleep = stop_once
    with pytest.raises(MoveCancelled):
        bench.stage.move_to_steps(-500)
    assert len(bench.legs) == 1
    assert -700 < bench.stage.position_steps < 0
    bench.stage.move_to_steps(0)
    assert bench.stage.position_steps == 0


def test_an_interrupt_stops_the_motor_before_it_goes_on_up() -> None:
    bench = Bench()

    def interrupt() -> None:
        if len(bench.clock.seen_steps) == 30:
            raise KeyboardInterrupt

    bench.clock.at_sleep = interrupt
    with pytest.raises(KeyboardInterrupt):
        bench.stage.move_to_steps(1000)
    assert not bench.axis.moving
    assert bench.stage.travel_steps == abs(bench.stage.position_steps) > 0


def test_an_axis_that_ends_elsewhere_is_an_error() -> None:
    bench = Bench(gap=0, slack=0)

    def limit_switch() -> None:
        if bench.axis.position_steps > 300:
            bench.axis.stop()

    bench.clock.at_sleep = limit_switch
    with pytest.raises(MotorError, match=r"z: the axis stands at 39\d steps and should be at 1000"):
        bench.stage.move_to_steps(1000)
    assert bench.stage.travel_steps == bench.stage.position_steps


def test_an_axis_that_never_comes_to_rest_is_an_error() -> None:
    class Runaway(SimulatedAxis):
        @property
        def moving(self) -> bool:
            return True

        def start_move(self, steps: int) -> float:
            return 2.0

    clock = VirtualClock()
    stage = Stage(Runaway(clock, seed=0), clock, um_per_step=1.0, limits_steps=(-10, 10))
    with pytest.raises(MotorError, match=r"z: still moving after \d\.\d s; 2\.0 s were planned"):
        stage.move_to_steps(5)
    assert clock.now_s() < 10.0


def test_with_enables_and_releases() -> None:
    clock = VirtualClock()
    axis = SimulatedAxis(clock, seed=0)
    with Stage(axis, clock, um_per_step=1.0, limits_steps=(-500, 500)) as stage:
        assert axis.enabled
        stage.move_to_steps(10)
    assert not axis.enabled
    with pytest.raises(MotorError, match="closed"):
        stage.move_to_steps(20)
    assert stage.position_steps == 10


@pytest.mark.parametrize(
    ("wishes", "complaint"),
    [
        ({"um_per_step": 0.0}, "um_per_step = 0.0"),
        ({"um_per_step": -0.1}, "um_per_step = -0.1"),
        ({"um_per_step": math.nan}, "um_per_step = nan"),
        ({"settle_s": -1.0}, "settle_s = -1.0"),
        ({"approach": 0}, "approach = 0"),
        ({"backlash_steps": -1}, "backlash_steps = -1"),
        ({"compensation": "none"}, "compensation = 'none'"),
        ({"focus_travel_steps": 0}, "focus_travel_steps = 0: need at least 1"),
        ({"uncertain_travel_steps": 0}, "uncertain_travel_steps = 0: need at least 1"),
        ({"limits_steps": (5, 5)}, "limits 5 to 5 steps leave no room"),
        ({"limits_steps": (0, 199), "backlash_steps": 200}, "no room for 200 of backlash"),
    ],
)
def test_impossible_stages_are_refused(clock: VirtualClock, wishes: dict[str, Any], complaint: str) -> None:
    axis = SimulatedAxis(clock, seed=0)
    with pytest.raises(ValueError, match=complaint):
        Stage(axis, clock, **{"um_per_step": 0.1, "limits_steps": (-10, 10), **wishes})


def test_a_limit_error_survives_a_process_boundary() -> None:
    error = LimitError("z", 3.0, (-1.0, 1.0), "um", "why")
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.asked, copy.allowed) == (str(error), 3.0, (-1.0, 1.0))


@pytest.mark.parametrize("approach", [1, -1])
def test_the_screw_is_turned_straight_and_slack_is_left_as_it_is(approach: int) -> None:
    bench = Bench(approach=approach)
    with bench.stage:
        for target in (300, -250, -250, 100):
            bench.stage.turn_screw_to(target)
            assert bench.stage.screw_steps == target
        assert bench.legs == [(0, 300), (300, -250), (-250, 100)]
        with pytest.raises(LimitError):
            bench.stage.turn_screw_to(HIGH + 1)
        assert bench.legs[-1] == (-250, 100), "nothing moved"
        bench.stage.move_to_steps(0)
        assert bench.stage.position_steps == 0
        assert len(bench.legs) == 5, "the gap was not known to be closed: an overshoot"
