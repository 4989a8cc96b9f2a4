"""The belief: always a distribution, which motion never sharpens, and which learns pitch and direction."""

from __future__ import annotations

import copy
import math
from itertools import pairwise

import numpy as np
import pytest
from focus_bench import BINS, log_normal
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student

from edge.belief import (
    CONTRAST_DOF,
    CONTRAST_FALL,
    CONTRAST_OUTLIERS,
    CONTRAST_SHARE,
    CONTRAST_SIGMA,
    CONTRAST_SPAN,
    KNOWN,
    LEARNED,
    UNKNOWN,
    Belief,
    Gains,
)
from edge.optics import Objective, Optics

ONE = Gains((1.0,), (1.0,))
FLAT = np.full(len(BINS), -math.log(len(BINS)))

positions = st.floats(-60, 60)
log_likelihoods = st.one_of(
    st.lists(st.floats(-300, 5), min_size=len(BINS), max_size=len(BINS)).map(np.array),
    st.floats(-15, 15).map(log_normal),
    st.integers(0, len(BINS) - 1).map(lambda k: np.where(np.arange(len(BINS)) == k, 0.0, -np.inf)),
)
steps = st.one_of(
    st.tuples(st.just("see"), positions, log_likelihoods),
    st.tuples(st.just("compare"), positions, positions, st.floats(-8, 8)),
    st.tuples(st.just("move"), st.floats(0, 30)),
    st.tuples(st.just("read"), positions, st.floats(0.05, 20), positions, positions),
)
beliefs = st.builds(
    lambda low, width, gains: Belief(low, low + width, gains),
    st.floats(-50, 50),
    st.one_of(st.floats(0.01, 5), st.floats(5, 400)),
    st.sampled_from([ONE, KNOWN, UNKNOWN]),
)


def entropy(belief: Belief) -> float:
    """Of the whole joint distribution, in nats."""
    mass = belief.mass[belief.mass > 0]
    return float(-(mass * np.log(mass)).sum())


def assert_is_distribution(belief: Belief) -> None:
    assert np.isfinite(belief.mass).all()
    assert belief.mass.min() >= 0
    assert belief.mass.sum() == pytest.approx(1, abs=1e-9)


class TestStaysADistribution:
    @given(beliefs, st.lists(steps, max_size=12))
    def test_under_any_sequence(self, belief: Belief, sequence: list[tuple]) -> None:  # type: ignore[type-arg]
        assert_is_distribution(belief)
        for name, *arguments in sequence:
            if name == "see":
                assert math.isfinite(belief.see(*arguments, BINS))
            elif name == "move":
                belief.move(*arguments)
            elif name == "compare":
                belief.compare(*arguments, blank=arguments[2] < -4)
            else:
                position, tolerance, low, high = arguments
                before = belief.mass.copy()
                reading = belief.read(position, tolerance, min(low, high), max(low, high))
                np.testing.assert_array_equal(belief.mass, before, err_msg="reading changed the belief")
                assert min(low, high) <= reading.target <= max(low, high)
                for share in (reading.within, reading.target_within, reading.second, reading.outermost):
                    assert -1e-9 <= share <= 1 + 1e-9
                assert reading.sigma >= 0
                assert math.isfinite(reading.defocus)
            assert_is_distribution(belief)

    def test_a_hundred_looks_that_contradict_each_other(self) -> None:
        belief = Belief(-40, 40)
        for k in range(100):
            belief.see(0.0, log_normal(-11.0 if k % 2 else 11.0, sigma=0.1), BINS)
            assert_is_distribution(belief)


class TestMove:
    @given(beliefs, st.lists(st.tuples(positions, log_likelihoods), max_size=4), st.floats(0, 20))
    def test_there_and_back_never_sharpens(
        self, belief: Belief, looks: list[tuple[float, np.ndarray]], sigma: float
    ) -> None:
        for position, log_likelihood in looks:
            belief.see(position, log_likelihood, BINS)
        before, top = entropy(belief), belief.mass.max()
        belief.move(sigma)
        belief.move(sigma)
        assert entropy(belief) >= before - 1e-9
        assert belief.mass.max() <= top + 1e-12

    def test_blurs_by_its_sigma(self) -> None:
        belief = Belief(-40, 40, ONE)
        belief.see(0.0, log_normal(3.0), BINS)
        belief.mass[:] = np.where(np.abs(belief.places + 3) < 0.01, 1.0, 0.0)
        belief.move(1.5)
        reading = belief.read(0.0, 1.0, -40, 40)
        assert reading.defocus == pytest.approx(3.0, abs=0.01)
        assert reading.sigma == pytest.approx(1.5, rel=0.02)

    def test_without_uncertainty_changes_nothing(self) -> None:
        belief = Belief(-10, 10)
        belief.see(1.0, log_normal(2.0), BINS)
        before = belief.mass.copy()
        belief.move(0.0)
        np.testing.assert_array_equal(belief.mass, before)

    def test_wider_than_the_range_leaves_nothing_known(self) -> None:
        belief = Belief(-2, 2, ONE)
        belief.see(0.0, log_normal(0.0), BINS)
        for _ in range(6):
            belief.move(1000.0)
        np.testing.assert_allclose(belief.mass, 1 / belief.mass.size, rtol=1e-3)

    @pytest.mark.parametrize("sigma", [-0.1, math.nan, math.inf])
    def test_sigmas_that_are_none(self, sigma: float) -> None:
        with pytest.raises(ValueError, match="sigma"):
            Belief(-1, 1).move(sigma)


class TestSee:
    @given(st.floats(-10, 10), st.floats(-20, 20))
    def test_finds_the_focus(self, defocus: float, position: float) -> None:
        belief = Belief(-40, 40)
        belief.see(position, log_normal(defocus), BINS)
        reading = belief.read(position, 1.0, -40, 40)
        assert reading.target == pytest.approx(position - defocus, abs=0.3)
        assert reading.target_within > 0.6
        assert belief.gain() == 1.0

    def test_shifts_exactly_with_the_stage(self) -> None:
        belief = Belief(-40, 40, ONE)
        belief.see(0.0, log_normal(5.0), BINS)
        here, there = belief.read(0.0, 1.0, -40, 40), belief.read(-7.3, 1.0, -40, 40)
        assert there.defocus == pytest.approx(here.defocus - 7.3)
        assert there.sigma == pytest.approx(here.sigma)
        assert there.target == pytest.approx(here.target)

    @pytest.mark.parametrize("defocus", [-8.0, -0.4, 0.0, 3.0])
    def test_surprise(self, defocus: float) -> None:
        belief = Belief(-40, 40)
        belief.see(0.0, log_normal(defocus), BINS)
        told = copy.deepcopy(belief)
        assert told.see(2.0, log_normal(defocus + 2.0), BINS) < 0, "it was just what was expected"
        told = copy.deepcopy(belief)
        assert told.see(2.0, log_normal(defocus - 3.0), BINS) > 0, "it contradicts the first look"
        assert belief.see(2.0, FLAT, BINS) == pytest.approx(0), "it says nothing"

    def test_what_says_nothing_changes_nothing(self) -> None:
        belief = Belief(-40, 40)
        belief.see(0.0, log_normal(4.0), BINS)
        before = belief.mass.copy()
        belief.see(1.0, FLAT, BINS)
        np.testing.assert_allclose(belief.mass, before, atol=1e-12)

    def test_one_lie_does_not_settle_it(self) -> None:
        belief = Belief(-40, 40)
        for position in (0.0, 2.0):
            belief.see(position, log_normal(position - 6.0), BINS)
        belief.see(4.0, log_normal(9.0, sigma=0.1), BINS)
        assert belief.read(4.0, 1.0, -40, 40).target == pytest.approx(6.0, abs=0.3)

    def test_bins_in_micrometres(self) -> None:
        # The 41 classes of the paper behind 20x/0.75: in dof they are what the optics make of them.
        optics = Optics(Objective(20, 0.75), 0.33)
        bins = np.linspace(-12.5, 12.5, 41) / optics.dof_um
        belief = Belief(-30, 30)
        belief.see(0.0, log_normal(optics.dof_from_um(4.0), bins=bins), bins)
        assert belief.read(0.0, 1.0, -30, 30).target == pytest.approx(-optics.dof_from_um(4.0), abs=0.3)

    def test_uneven_and_one_sided_bins(self) -> None:
        bins = np.array([-1.0, -0.5, 0.0, 3.0, 9.0])
        belief = Belief(-20, 20, ONE)
        belief.see(0.0, np.log([0.001, 0.001, 0.001, 0.996, 0.001]), bins)
        assert belief.read(0.0, 1.0, -20, 20).target == pytest.approx(-3.0, abs=1.0)

    @pytest.mark.parametrize(
        "log_likelihood", [FLAT[:-1], np.full(len(BINS), np.nan), np.full(len(BINS), -np.inf), FLAT + np.inf]
    )
    def test_likelihoods_that_are_none(self, log_likelihood: np.ndarray) -> None:
        belief = Belief(-5, 5)
        before = belief.mass.copy()
        with pytest.raises(ValueError, match="likelihood"):
            belief.see(0.0, log_likelihood, BINS)
        np.testing.assert_array_equal(belief.mass, before)


class TestCompare:
    @pytest.mark.parametrize("blank", [False, True])
    def test_contrast_that_fell_has_the_focus_behind(self, blank: bool) -> None:
        belief = Belief(-40, 40, ONE)
        belief.see(0.0, np.logaddexp(log_normal(6.0), log_normal(-6.0)), BINS)
        belief.compare(0.0, 4.0, -0.8, blank=blank)
        assert_is_distribution(belief)
        behind, ahead = belief.near(-6.0, 1.0), belief.near(6.0, 1.0)
        assert 3 * ahead < behind < 40 * ahead, "much is told, but no proof is in it"

    def test_contrast_that_rose_has_it_ahead(self) -> None:
        belief = Belief(-40, 40, ONE)
        belief.see(0.0, np.logaddexp(log_normal(6.0), log_normal(-6.0)), BINS)
        belief.compare(0.0, 4.0, 0.8)
        assert belief.near(6.0, 1.0) > 3 * belief.near(-6.0, 1.0)

    @pytest.mark.parametrize("blank", [False, True])
    def test_is_students_distribution(self, blank: bool) -> None:
        belief, change = Belief(-20, 20, ONE), -0.7
        before = belief.mass[0].copy()
        belief.compare(1.0, 3.0, change, blank=blank)
        expected = np.log1p(((1.0 - belief.places) / CONTRAST_DOF) ** 4)
        expected = CONTRAST_FALL * (expected - np.log1p(((3.0 - belief.places) / CONTRAST_DOF) ** 4))
        sigma = CONTRAST_SIGMA + CONTRAST_SHARE * np.abs(expected)
        if blank:
            likely, chance = student.cdf((change - expected) / sigma, 3), 0.5
        else:
            likely, chance = student.pdf((change - expected) / sigma, 3) / sigma, 1 / CONTRAST_SPAN
        wanted = before * ((1 - CONTRAST_OUTLIERS) * likely + CONTRAST_OUTLIERS * chance)
        np.testing.assert_allclose(belief.mass[0], wanted / wanted.sum(), rtol=1e-9)

    def test_dirt_on_the_camera_costs_little(self) -> None:
        """Contrast that never changes is against the truth, but cannot outweigh two sure looks."""
        belief = Belief(-40, 40, ONE)
        for place in (0.0, 7.0):
            belief.see(place, log_normal(place - 8.0), BINS)
        belief.compare(0.0, 7.0, 0.0)
        assert belief.near(8.0, 1.0) > 0.8


class TestGain:
    @pytest.mark.parametrize("gain", UNKNOWN.values)
    @pytest.mark.parametrize("defocus", [-2.5, 0.0, 2.0])
    def test_two_looks_tell_pitch_and_direction(self, gain: float, defocus: float) -> None:
        focus, belief = -defocus / gain, Belief(-60, 60, UNKNOWN)
        for place in (0.0, 5.0 / abs(gain)):
            belief.see(place, log_normal(gain * (place - focus)), BINS)
            belief.move(0.02)
        assert belief.gain() == gain
        assert belief.read(0.0, 1.0, -60, 60).target == pytest.approx(focus, abs=1 / abs(gain))

    @pytest.mark.parametrize("gain", LEARNED.values)
    def test_an_uncalibrated_microscope_is_learned_from_three_looks(self, gain: float) -> None:
        belief = Belief(-60, 60, LEARNED)
        for place in (0.0, 5.0 / abs(gain), 9.0 / abs(gain)):
            belief.see(place, log_normal(gain * (place - 2.0)), BINS)
        weights = dict(zip(LEARNED.values, belief.gain_weights(), strict=True))
        assert sum(weights.values()) == pytest.approx(1)
        assert max(weights, key=lambda value: weights[value]) == gain
        assert sum(weight for value, weight in weights.items() if value * gain > 0) > 0.97

    @pytest.mark.parametrize(("gain", "start"), [(-1.0, 5.0), (-1.0, -8.0), (0.7, 9.0), (1.4, -7.0)])
    def test_little_doubt_is_enough(self, gain: float, start: float) -> None:
        belief, place = Belief(-40, 40, KNOWN), start
        for _ in range(3):
            belief.see(place, log_normal(gain * place), BINS)
            place = belief.read(place, 1.0, -40, 40).target
        assert belief.gain() == gain
        assert place == pytest.approx(0.0, abs=1.0)

    @pytest.mark.parametrize(
        ("values", "weights"),
        [((), ()), ((1.0,), (1.0, 2.0)), ((0.0,), (1.0,)), ((math.inf,), (1.0,)), ((1.0,), (0.0,))],
    )
    def test_gains_that_are_none(self, values: tuple[float, ...], weights: tuple[float, ...]) -> None:
        with pytest.raises(ValueError, match="gains"):
            Gains(values, weights)

    def test_prior_weights_hold_before_the_first_look(self) -> None:
        np.testing.assert_allclose(
            Belief(-5, 5, Gains((1.0, -1.0), (3.0, 1.0))).mass.sum(axis=1), [0.75, 0.25]
        )


class TestRead:
    def test_at_least_this_far_that_way(self) -> None:
        belief = Belief(-40, 40)
        assert belief.read(0.0, 1.0, -40, 40).outermost == 0, "before the first look nothing is at an end"
        belief.see(10.0, log_normal(30.0), BINS)
        reading = belief.read(10.0, 1.0, -40, 40)
        assert reading.outermost > 0.8
        # The next look goes where it says most: the nearest place from which the bins reach back to here.
        assert -40 < reading.target < 10 - 12

    def test_the_next_look_is_not_so_far_that_a_pale_view_is_blank(self) -> None:
        belief = Belief(-40, 40, start=10.0)
        belief.see(10.0, log_normal(30.0), BINS)
        assert 10 - 12 - 5 < belief.read(10.0, 1.0, -40, 40).target < 10 - 12

    def test_could_be_either_side(self) -> None:
        belief = Belief(-40, 40, ONE)
        belief.see(0.0, np.logaddexp(log_normal(5.0), log_normal(-5.0)), BINS)
        reading = belief.read(0.0, 1.0, -40, 40)
        assert reading.defocus == pytest.approx(0.0, abs=0.1)
        assert reading.sigma > 4
        assert reading.within < 0.1
        assert reading.second == pytest.approx(reading.target_within, rel=0.05)
        assert abs(reading.target) == pytest.approx(5.0, abs=0.3)

    def test_target_is_the_best_of_what_is_allowed(self) -> None:
        belief = Belief(-40, 40)
        belief.see(0.0, log_normal(10.0), BINS)
        assert belief.read(0.0, 1.0, -40, 40).target == pytest.approx(-10, abs=0.3)
        assert belief.read(0.0, 1.0, -3, 40).target >= -3
        assert belief.read(0.0, 1.0, 100.0, 120.0).target == 100.0, "outside of what is believed in"

    @given(beliefs, log_likelihoods, positions)
    def test_more_is_within_a_larger_tolerance(
        self, belief: Belief, log_likelihood: np.ndarray, position: float
    ) -> None:
        belief.see(position, log_likelihood, BINS)
        within = [belief.read(position, t, -50, 50).within for t in (0.01, 0.05, 0.3, 1.0, 5.0, 2e4)]
        assert all(a <= b + 1e-9 for a, b in pairwise(within))
        assert within[-1] == pytest.approx(1)

    def test_a_tolerance_finer_than_the_grid(self) -> None:
        belief = Belief(-100, 100, UNKNOWN)
        belief.see(0.03, log_normal(0.0, sigma=0.05), BINS)
        fine, finer = (belief.read(0.03, t, -100, 100).within for t in (0.05, 0.025))
        assert fine == pytest.approx(2 * finer, rel=0.2)
        assert finer > 0

    @pytest.mark.parametrize("tolerance", [0.02, 0.33, 1.0, 100.0])
    def test_around_is_the_mass_about_each_place(self, tolerance: float) -> None:
        belief = Belief(-20, 20, UNKNOWN)
        belief.see(3.0, log_normal(5.0), BINS)
        around = belief.around(tolerance)
        for k in (0, 57, 180, len(around) - 1):
            alone = belief.read(float(belief.places[k]), tolerance, -20, 20).within
            assert around[k] == pytest.approx(alone, abs=1e-9)
        assert around.max() > 0.003

    def test_between_two_places_a_cell_counts_in_part(self) -> None:
        belief = Belief(-1, 1, Gains((1.0,), (1.0,)))
        belief.mass = np.zeros_like(belief.mass)
        belief.mass[0, 10] = 1.0  # from -0.05 to 0.05
        assert [belief.near(z, 0.2) for z in (0.0, 0.15, 0.18, 0.2, 0.24, 0.26)] == pytest.approx(
            [1.0, 1.0, 0.7, 0.5, 0.1, 0.0]
        )
        assert belief.near(0.02, 0.01) == pytest.approx(0.2)

    def test_histogram(self) -> None:
        belief = Belief(-20, 20)
        belief.see(2.0, log_normal(6.0), BINS)
        defocus, probability = belief.defocus_histogram(2.0)
        assert probability.sum() == pytest.approx(1)
        assert defocus[int(probability.argmax())] == pytest.approx(6.0, abs=0.3)


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (2.0, 1.0), (math.nan, 1.0), (0.0, math.inf)])
def test_ranges_that_are_none(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="rises"):
        Belief(low, high)


def test_a_huge_range_stays_small_in_memory() -> None:
    belief = Belief(-1e5, 1e5, UNKNOWN)
    assert belief.mass.size < 50_000
    assert belief.step > 0
