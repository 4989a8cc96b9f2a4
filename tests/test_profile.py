"""The motion profile: exact step counts, rates and accelerations within bounds, symmetry, stops."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from firmware_iface.profile import Profile, plan

counts = st.integers(min_value=-3000, max_value=3000)
rates = st.floats(min_value=1.0, max_value=5000.0)
accelerations = st.floats(min_value=1.0, max_value=1e6)


@st.composite
def profiles(draw: st.DrawFn) -> Profile:
    start, top = sorted((draw(rates), draw(rates)))
    return plan(
        draw(counts),
        start_rate_steps_s=start,
        max_rate_steps_s=top,
        acceleration_steps_s2=draw(accelerations),
    )


@st.composite
def moments(draw: st.DrawFn) -> tuple[Profile, float]:
    """A profile that has steps, and a time from a little before its start to a little after its end."""
    profile = draw(profiles())
    assume(profile.steps != 0)
    return profile, draw(st.floats(min_value=-0.1, max_value=1.1)) * profile.duration_s


def openflexure(steps: int) -> Profile:
    return plan(steps, start_rate_steps_s=200.0, max_rate_steps_s=1000.0, acceleration_steps_s2=5000.0)


def check_rates_and_accelerations(profile: Profile) -> None:
    """No interval is shorter than the top rate allows; no change of rate quicker than the acceleration.

    The mean rates of two neighbouring intervals are rates at instants that are half of both apart on
    average, and |dv/dt| <= a: so they differ by at most a times that.
    """
    intervals_s = np.diff(profile.step_times())
    assert (intervals_s > 0.0).all()
    rate = 1.0 / intervals_s
    assert (rate <= profile.peak_rate_steps_s * (1.0 + 1e-6)).all()
    apart_s = (intervals_s[1:] + intervals_s[:-1]) / 2.0
    slack = 1e-6 * profile.peak_rate_steps_s
    assert (np.abs(np.diff(rate)) <= profile.acceleration_steps_s2 * apart_s * (1.0 + 1e-6) + slack).all()


# -- worked by hand ---------------------------------------------------------------------------------------


def test_trapezoid_by_hand() -> None:
    # A ramp from 200 to 1000 steps/s takes 800 / 5000 = 0.16 s and (1e6 - 4e4) / 1e4 = 96 steps.
    profile = openflexure(1192)
    assert profile.peak_rate_steps_s == 1000.0
    assert profile.duration_s == pytest.approx(0.16 + 1.0 + 0.16)
    assert profile.steps_at(0.16 + 1e-9) == 96
    assert profile.steps_at(0.66 + 1e-9) == 596
    assert profile.time_of_step(1096) == pytest.approx(1.16)
    assert profile.rate_at(0.08) == pytest.approx(600.0)
    assert profile.rate_at(0.66) == 1000.0
    assert profile.rate_at(1.24) == pytest.approx(600.0)


def test_triangle_by_hand() -> None:
    # 96 steps: the peak is sqrt(4e4 + 5000 * 96) = 721.1 steps/s, reached after 521.1 / 5000 s.
    profile = openflexure(96)
    peak = math.sqrt(520_000.0)
    assert profile.peak_rate_steps_s == pytest.approx(peak)
    assert profile.duration_s == pytest.approx(2 * (peak - 200.0) / 5000.0)
    assert profile.rate_at(profile.duration_s / 2) == pytest.approx(peak)


def test_a_single_step_is_made_at_the_end() -> None:
    profile = openflexure(-1)
    assert profile.step_times() == pytest.approx([profile.duration_s])
    assert profile.steps_at(profile.duration_s * 0.999) == 0
    assert profile.steps_at(profile.duration_s) == -1


def test_no_steps_take_no_time() -> None:
    profile = openflexure(0)
    assert profile.duration_s == 0.0
    assert profile.step_times().shape == (0,)
    assert [profile.steps_at(t) for t in (-1.0, 0.0, 1.0)] == [0, 0, 0]
    assert profile.rate_at(0.0) == 0.0
    assert profile.stopping(0.0).steps == 0


def test_the_start_rate_alone_is_a_constant_rate() -> None:
    profile = plan(10, start_rate_steps_s=100.0, max_rate_steps_s=100.0, acceleration_steps_s2=1.0)
    assert profile.step_times() == pytest.approx(np.arange(1, 11) / 100.0)


def test_a_stop_by_hand() -> None:
    # Cruising at 1000 steps/s, 250.5 steps into the motion: 96 steps of ramp end between two steps.
    profile = openflexure(1192)
    when_s = 0.16 + 0.1545
    rest = profile.stopping(when_s)
    assert profile.steps_at(when_s) == 250
    assert rest.steps == 97
    assert rest.duration_s == pytest.approx(0.0005 + 0.16)
    assert rest.time_of_step(1) == pytest.approx(0.0005)


@pytest.mark.parametrize(
    ("start", "top", "acceleration", "complaint"),
    [
        (0.0, 100.0, 100.0, "start_rate_steps_s = 0.0: need"),
        (-1.0, 100.0, 100.0, "start_rate_steps_s = -1.0: need"),
        (math.nan, 100.0, 100.0, "start_rate_steps_s = nan: need"),
        (10.0, math.inf, 100.0, "max_rate_steps_s = inf: need"),
        (10.0, 100.0, 0.0, "acceleration_steps_s2 = 0.0: need"),
        (200.0, 100.0, 100.0, "start_rate_steps_s = 200.0 is above max_rate_steps_s = 100.0"),
    ],
)
def test_impossible_plans_are_refused(start: float, top: float, acceleration: float, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        plan(10, start_rate_steps_s=start, max_rate_steps_s=top, acceleration_steps_s2=acceleration)


def test_half_steps_of_a_count_do_not_exist() -> None:
    with pytest.raises(TypeError):
        openflexure(1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="has no step 0"):
        openflexure(3).time_of_step(0)
    with pytest.raises(ValueError, match="has no step 4"):
        openflexure(3).time_of_step(4)


def test_a_profile_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        openflexure(3).steps = 4  # type: ignore[misc]


# -- for all profiles -------------------------------------------------------------------------------------


@given(profiles())
def test_every_step_is_made_once_and_in_order(profile: Profile) -> None:
    times = profile.step_times()
    assert times.shape == (abs(profile.steps),)
    assert times.dtype == np.float64
    assert (np.diff(times) > 0.0).all()
    assert profile.steps_at(0.0) == 0
    assert profile.steps_at(profile.duration_s) == profile.steps
    if profile.steps:
        assert times[0] > 0.0
        assert times[-1] == pytest.approx(profile.duration_s, rel=1e-9)


@given(profiles(), st.data())
def test_the_count_changes_exactly_at_a_steps_time(profile: Profile, data: st.DataObject) -> None:
    assume(profile.steps != 0)
    k = data.draw(st.integers(1, abs(profile.steps)))
    sign = int(math.copysign(1, profile.steps))
    due_s = profile.time_of_step(k)
    assert profile.steps_at(due_s) == sign * k
    assert profile.steps_at(math.nextafter(due_s, 0.0)) == sign * (k - 1)


@given(profiles())
def test_rates_and_accelerations_keep_within_bounds(profile: Profile) -> None:
    check_rates_and_accelerations(profile)


@given(moments(), st.floats(min_value=0.0, max_value=1.0))
def test_the_count_is_monotone(moment: tuple[Profile, float], part: float) -> None:
    profile, later_s = moment
    earlier_s = later_s * part if later_s > 0.0 else later_s - part
    counts_seen = [0, abs(profile.steps_at(earlier_s)), abs(profile.steps_at(later_s)), abs(profile.steps)]
    assert counts_seen == sorted(counts_seen)


@given(moments())
def test_down_is_the_mirror_of_up(moment: tuple[Profile, float]) -> None:
    profile, t_s = moment
    mirror = plan(
        -profile.steps,
        start_rate_steps_s=profile.entry_rate_steps_s,
        max_rate_steps_s=profile.peak_rate_steps_s,
        acceleration_steps_s2=profile.acceleration_steps_s2,
    )
    assert mirror.steps_at(t_s) == -profile.steps_at(t_s)
    assert mirror.rate_at(t_s) == pytest.approx(profile.rate_at(t_s))
    assert mirror.stopping(t_s).steps == -profile.stopping(t_s).steps


@given(profiles())
def test_slowing_down_is_speeding_up_backwards(profile: Profile) -> None:
    assume(profile.steps != 0)
    times = np.concatenate(([0.0], profile.step_times()))
    np.testing.assert_allclose(
        times + times[::-1], profile.duration_s, rtol=1e-6, atol=1e-6 * profile.duration_s
    )


@given(moments())
def test_a_stop_ends_between_here_and_the_target(moment: tuple[Profile, float]) -> None:
    profile, t_s = moment
    rest = profile.stopping(t_s)
    done = profile.steps_at(t_s)
    ends = [0, abs(done), abs(done + rest.steps), abs(profile.steps)]
    assert ends == sorted(ends)
    assert rest.steps * profile.steps >= 0
    assert rest.entry_rate_steps_s <= profile.peak_rate_steps_s * (1.0 + 1e-9)
    assert rest.exit_rate_steps_s == profile.exit_rate_steps_s


@given(moments())
def test_a_stop_brakes_as_hard_as_it_may_and_no_harder(moment: tuple[Profile, float]) -> None:
    profile, t_s = moment
    rest = profile.stopping(t_s)
    if rest.steps == 0:
        over = profile.rate_at(t_s) ** 2 - profile.exit_rate_steps_s**2
        assert over / (2.0 * profile.acceleration_steps_s2) <= 1e-6, (
            "it stopped dead from above the exit rate"
        )
        return
    check_rates_and_accelerations(rest)
    first_s = rest.time_of_step(1)
    assert 0.0 <= first_s <= 1.0 / profile.exit_rate_steps_s
    # The ramp alone would take ramp_s; the whole step at its end costs at most one more step.
    rate = profile.rate_at(t_s)
    ramp_s = (rate - profile.exit_rate_steps_s) / profile.acceleration_steps_s2
    assert ramp_s * (1.0 - 1e-6) - 1e-9 <= rest.duration_s <= ramp_s * (1.0 + 1e-6) + 1.0 / rate + 1e-9


@given(profiles(), st.floats(min_value=0.0, max_value=0.999))
def test_a_stop_while_slowing_down_changes_nothing(profile: Profile, part: float) -> None:
    ramp_s = (profile.peak_rate_steps_s - profile.exit_rate_steps_s) / profile.acceleration_steps_s2
    assume(ramp_s > 0.0)
    t_s = profile.duration_s - ramp_s * (1.0 - part)
    rest = profile.stopping(t_s)
    assume(rest.steps != 0)
    assert profile.steps_at(t_s) + rest.steps == profile.steps
    np.testing.assert_allclose(
        t_s + rest.step_times(), profile.step_times()[-abs(rest.steps) :], rtol=1e-6, atol=1e-6 * ramp_s
    )


@given(moments(), st.floats(min_value=0.0, max_value=1.0))
def test_a_second_stop_changes_nothing(moment: tuple[Profile, float], part: float) -> None:
    profile, t_s = moment
    rest = profile.stopping(t_s)
    again_s = rest.duration_s * part
    rest_of_rest = rest.stopping(again_s)
    remaining = abs(rest.steps - rest.steps_at(again_s))
    assert abs(rest_of_rest.steps) <= remaining
    assert remaining - abs(rest_of_rest.steps) <= 1
