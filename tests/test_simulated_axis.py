"""The simulated axis' physics: backlash, missed steps, vibration, the past, and repeatability."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_iface.clock import VirtualClock
from firmware_iface.simulated import SimulatedAxis

STEADY: dict[str, Any] = {"vibration_amplitude_steps": 0.0, "seed": 0}


def make(clock: VirtualClock, **physics: Any) -> SimulatedAxis:
    """An enabled axis that does not ring unless told to."""
    axis = SimulatedAxis(clock, **{**STEADY, **physics})
    axis.enable()
    return axis


def go(axis: SimulatedAxis, clock: VirtualClock, steps: int) -> float:
    """Make a whole move; the true position after it."""
    clock.sleep_s(axis.start_move(steps) + 1e-6)
    assert not axis.moving
    return axis.true_position_steps()


# -- backlash ---------------------------------------------------------------------------------------------


def test_the_nut_waits_while_the_gap_is_crossed(clock: VirtualClock) -> None:
    axis = make(clock, backlash_steps=200, initial_slack=50)
    truths = [go(axis, clock, steps) for steps in (40, 30, -150, -100, 200, 1)]
    assert truths == [0, 20, 20, -30, -30, -29]


@given(st.lists(st.integers(-500, 500), max_size=6), st.floats(min_value=0.0, max_value=1.0))
def test_slack_is_what_a_motion_has_to_take_up(moves: list[int], part: float) -> None:
    clock = VirtualClock()
    axis = make(clock, backlash_steps=200, initial_slack=200 * part)
    for steps in moves:
        go(axis, clock, steps)
    up, down = axis.slack_steps()
    assert up + down == pytest.approx(200)
    before = axis.true_position_steps()
    assert go(axis, clock, 300) == pytest.approx(before + 300 - up)
    assert axis.slack_steps() == pytest.approx((0, 200))


def test_without_backlash_the_nut_is_where_the_count_is(clock: VirtualClock) -> None:
    axis = make(clock, backlash_steps=0)
    assert [go(axis, clock, steps) for steps in (10, -25, 3)] == [10, -15, -12]


def test_the_gap_at_the_start_comes_from_the_seed_and_shows_only_in_motion() -> None:
    lost = []
    for seed in range(20):
        clock = VirtualClock()
        axis = make(clock, backlash_steps=200, seed=seed)
        assert axis.true_position_steps() == 0.0
        lost.append(300 - go(axis, clock, 300))
    assert min(lost) >= 0.0
    assert max(lost) <= 200.0
    assert max(lost) - min(lost) > 100.0


@given(
    st.lists(st.integers(-500, 500), max_size=8), st.integers(0, 300), st.floats(min_value=0.0, max_value=1.0)
)
def test_the_nut_never_leaves_the_gap_and_moves_only_with_the_screw(
    moves: list[int], backlash: int, part: float
) -> None:
    clock = VirtualClock()
    slack = backlash * part
    axis = make(clock, backlash_steps=backlash, initial_slack=slack)
    before = 0.0
    for steps in moves:
        after = go(axis, clock, steps)
        assert -slack - 1e-9 <= after - axis.position_steps <= backlash - slack + 1e-9
        assert 0.0 <= (after - before) * math.copysign(1, steps) <= abs(steps) + 1e-9
        before = after


# -- missed steps -----------------------------------------------------------------------------------------


def test_missed_steps_are_counted_but_not_made(clock: VirtualClock) -> None:
    axis = make(clock, backlash_steps=0, missed_step_probability=0.1)
    truth = go(axis, clock, 10_000)
    assert axis.position_steps == 10_000
    assert 8_800 < truth < 9_200
    back = go(axis, clock, -10_000)
    assert axis.position_steps == 0
    assert back != 0.0


@pytest.mark.parametrize(("probability", "truth"), [(0.0, 500), (1.0, 0)])
def test_all_steps_or_none(clock: VirtualClock, probability: float, truth: int) -> None:
    axis = make(clock, backlash_steps=0, missed_step_probability=probability)
    assert go(axis, clock, 500) == truth


def test_a_stop_does_not_draw_other_missed_steps(clock: VirtualClock) -> None:
    """Which step is missed depends on its number in the move, not on when somebody looked or stopped."""
    stopped = make(clock, backlash_steps=0, missed_step_probability=0.3, seed=5)
    stopped.start_move(400)
    clock.sleep_s(0.2)
    stopped.stop()
    clock.sleep_s(1.0)
    whole_clock = VirtualClock()
    whole = make(whole_clock, backlash_steps=0, missed_step_probability=0.3, seed=5)
    whole.start_move(400)
    while whole.position_steps < stopped.position_steps:
        whole_clock.sleep_s(1e-4)
    assert whole.position_steps == stopped.position_steps < 400
    assert whole.true_position_steps() == stopped.true_position_steps()


# -- vibration --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", [1, -1])
def test_it_rings_after_a_motion_and_dies_away(clock: VirtualClock, direction: int) -> None:
    axis = make(
        clock, backlash_steps=0, vibration_amplitude_steps=4.0, vibration_hz=50.0, vibration_decay_s=0.02
    )
    end_s = axis.start_move(100 * direction)
    clock.sleep_s(end_s + 1.0)
    offsets = [axis.true_position_steps(end_s + k * 0.005) - 100 * direction for k in range(1, 5)]
    # A quarter period after the end it has swung on in the direction of travel; half a period later, back.
    assert offsets[0] == pytest.approx(direction * 4.0 * math.exp(-0.25))
    assert offsets[2] == pytest.approx(-direction * 4.0 * math.exp(-0.75))
    assert abs(offsets[1]) < 1e-9
    assert axis.true_position_steps() == 100 * direction


def test_it_rings_after_a_dead_stop_too(clock: VirtualClock) -> None:
    axis = make(
        clock,
        backlash_steps=0,
        start_rate_steps_s=1000.0,
        vibration_amplitude_steps=4.0,
        vibration_hz=50.0,
        vibration_decay_s=0.02,
    )
    axis.start_move(500)
    clock.sleep_s(0.1005)
    axis.stop()
    assert not axis.moving
    assert axis.true_position_steps() == axis.position_steps == 100
    clock.sleep_s(0.005)
    assert axis.true_position_steps() == pytest.approx(100 + 4.0 * math.exp(-0.25))


def test_it_is_quiet_before_and_during_the_first_motion(clock: VirtualClock) -> None:
    axis = make(clock, backlash_steps=0, vibration_amplitude_steps=4.0)
    assert axis.true_position_steps() == 0.0
    axis.start_move(100)
    clock.sleep_s(0.1)
    assert axis.true_position_steps() == axis.position_steps


# -- the past ---------------------------------------------------------------------------------------------


def test_the_past_stays_what_it_was(clock: VirtualClock) -> None:
    axis = make(
        clock, backlash_steps=100, missed_step_probability=0.05, vibration_amplitude_steps=3.0, seed=3
    )
    seen: dict[float, float] = {}

    def look_for(duration_s: float) -> None:
        until_s = clock.now_s() + duration_s
        while clock.now_s() < until_s:
            seen[clock.now_s()] = axis.true_position_steps()
            clock.sleep_s(0.003)

    look_for(0.02)
    for steps, until_stop_s in ((400, None), (-600, 0.25), (300, None), (-50, 0.0)):
        axis.start_move(steps)
        if until_stop_s is not None:
            look_for(until_stop_s)
            axis.stop()
        look_for(0.6)
    assert len(seen) > 500
    assert seen == {t_s: axis.true_position_steps(t_s) for t_s in seen}


def test_a_forgotten_past_is_an_error(clock: VirtualClock) -> None:
    axis = make(clock)
    clock.sleep_s(1.0)
    for _ in range(40):
        go(axis, clock, 1)
    with pytest.raises(ValueError, match=r"forgotten where it was at 0\.5 s"):
        axis.true_position_steps(0.5)


# -- repeatability and bad values -------------------------------------------------------------------------


def _history(seed: int, look_every_s: float) -> tuple[list[float], list[float]]:
    clock = VirtualClock()
    axis = make(clock, missed_step_probability=0.1, vibration_amplitude_steps=2.0, seed=seed)
    ends = []
    for steps in (300, -500, 120):
        end_s = clock.now_s() + axis.start_move(steps) + 0.01
        while clock.now_s() + look_every_s < end_s:
            axis.true_position_steps()
            clock.sleep_s(look_every_s)
        clock.sleep_s(end_s - clock.now_s())
        ends.append(axis.true_position_steps())
    return ends, [axis.true_position_steps(k * 0.01) for k in range(150)]


def test_the_same_seed_is_the_same_run_bit_for_bit() -> None:
    assert _history(7, 0.005) == _history(7, 0.005)
    assert _history(7, 0.005) != _history(8, 0.005)


def test_looking_more_often_changes_nothing() -> None:
    assert _history(7, 0.005)[0] == pytest.approx(_history(7, 0.0007)[0], abs=1e-6)


@pytest.mark.parametrize(
    ("physics", "complaint"),
    [
        ({"backlash_steps": -1}, "backlash_steps = -1"),
        ({"backlash_steps": math.nan}, "backlash_steps = nan"),
        ({"missed_step_probability": 1.1}, "missed_step_probability = 1.1"),
        ({"vibration_amplitude_steps": -1.0}, "vibration_amplitude_steps = -1.0"),
        ({"vibration_hz": math.inf}, "vibration_hz = inf"),
        ({"vibration_decay_s": 0.0}, "vibration_decay_s = 0.0"),
        ({"backlash_steps": 10, "initial_slack": 11}, "initial_slack = 11"),
        ({"max_rate_steps_s": 0.0}, "max_rate_steps_s = 0.0"),
    ],
)
def test_impossible_physics_is_refused(
    clock: VirtualClock, physics: dict[str, float], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        SimulatedAxis(clock, **{**STEADY, **physics})
