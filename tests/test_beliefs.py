"""Beliefs held against the truth, on beliefs made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from edge.belief import Belief
from train import beliefs, evaluate
from train.beliefs import Held, held, wrong_direction

GRID = np.arange(-10, 10.01, 0.1)


def gauss(centre: float, sigma: float = 0.5) -> np.ndarray:
    p = np.exp(-0.5 * ((GRID - centre) / sigma) ** 2)
    return p / p.sum()


class TestHeld:
    def test_one_peak(self) -> None:
        found = held(GRID, gauss(3.0), 3.2)
        assert found.estimate == pytest.approx(3.0, abs=0.01)
        assert found.confidence == pytest.approx(0.957, abs=0.02), (
            "two sigmas to either side, and half a cell"
        )
        assert found.likelier == pytest.approx(0.31, abs=0.08), "0.4 sigmas"
        assert found.right
        assert found.in_interval

    def test_the_mass_is_that_about_the_estimate(self) -> None:
        """The most probable window holds both peaks; their mean is too far from one of them."""
        p = 0.9 * (np.abs(GRID + 0.9) < 0.04) + 0.1 * (np.abs(GRID - 0.9) < 0.04)
        found = held(GRID, p, 0.9)
        assert found.estimate == pytest.approx(-0.72, abs=0.01)
        assert found.confidence == pytest.approx(0.9, abs=0.01)
        assert not found.right

    def test_either_order_of_places(self) -> None:
        p = 0.7 * gauss(3.0) + 0.3 * gauss(-2.0)
        # To rounding: what order a sum is made in is the processor's affair.
        assert vars(held(GRID[::-1], p[::-1], -2.0)) == pytest.approx(vars(held(GRID, p, -2.0)), rel=1e-12)

    def test_two_peaks_give_one_of_them(self) -> None:
        found = held(GRID, 0.7 * gauss(3.0) + 0.3 * gauss(-2.0), -2.0)
        assert found.estimate == pytest.approx(3.0, abs=0.05)
        assert not found.right
        assert found.in_interval, "the second peak is in the region that holds 90 %"

    def test_outside_the_interval(self) -> None:
        found = held(GRID, gauss(3.0), -4.0)
        assert not found.in_interval
        assert found.likelier == pytest.approx(1.0)

    def test_a_true_belief_holds_the_truth_nine_times_of_ten(self) -> None:
        rng = np.random.default_rng(0)
        inside = [held(GRID, gauss(0.0, 2.0), float(x)).in_interval for x in rng.normal(0, 2.0, 2000)]
        assert np.mean(inside) == pytest.approx(0.9, abs=0.02)


class TestDirection:
    def test_of_the_first_look(self) -> None:
        assert wrong_direction(Held(2, 0.9, -2, 1), Held(2, 0.9, -2, 1))
        assert not wrong_direction(Held(2, 0.9, 5, 1), Held(2, 0.9, 5, 1))

    def test_after_a_move_it_is_the_start_that_counts(self) -> None:
        """From -4 the stage went the wrong way, to -9; now the belief knows that focus is 9 dof ahead."""
        start, later = Held(5, 0.6, -4, 0.95, position=0), Held(-9, 0.9, -9, 0.1, position=-5)
        assert wrong_direction(start, start)
        assert not wrong_direction(start, later)


class TestFigures:
    def test_by_hand(self) -> None:
        right, wrong = Held(4, 0.9, 4.2, 0.2), Held(4, 0.9, -4, 0.95)
        near, mended = Held(0.5, 0.5, -0.5, 0.5), Held(-4, 0.9, -4, 0.2)
        runs = [[right], [wrong, mended], [near]]
        assert beliefs.figures(runs, 1) == pytest.approx(
            {"wrong_direction": 0.5, "far": 2, "ece": (0.8 + 0.5) / 3, "interval_90": 2 / 3}
        )
        assert beliefs.figures(runs, 2)["wrong_direction"] == 0
        assert beliefs.figures(runs, 2)["interval_90"] == 1
        assert beliefs.figures([[near]], 1)["wrong_direction"] == 0

    def test_likelier_mass_is_that_of_the_belief(self) -> None:
        """What `evaluate` says of a frame is what the belief says after it, but for the prior's shape."""
        centres = np.linspace(-12, 12, 49)
        log_p = np.log(0.6 * np.exp(-0.5 * ((centres - 3) / 0.8) ** 2) + 1e-4)[None]
        log_p -= np.log(np.exp(log_p).sum())
        belief = Belief(-12, 12)
        belief.gains, belief.mass = np.array([1.0]), np.full((1, len(belief.places)), 1 / len(belief.places))
        belief.see(0.0, log_p[0], centres)
        for truth in (-7.0, 2.0, 3.0, 4.6):
            expected = held(*belief.defocus_histogram(0.0), truth).likelier
            [found] = evaluate.likelier(log_p, centres, np.array([truth]))
            assert found == pytest.approx(expected, abs=0.03)
