"""Settling, from frames behind a motion."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.interpolate import make_interp_spline

from edge.calibration_fit import Curve
from edge.settling import SETTLED_DOF, Flank, fit_settling, settling_of

DOF_PER_STEP = 0.02


def curve(mirrored: bool) -> Curve:
    """A peak at 0 with a shoulder on one side."""
    places = np.linspace(-250, 250, 60)
    x = DOF_PER_STEP * places * (-1 if mirrored else 1)
    spline = make_interp_spline(places, np.log(1 / (1 + x**2) + 0.25 / (1 + 9 * (x - 2) ** 2)), 3)
    return Curve(0.0, 0.0, 0.0, 0.0, 0.0, 3.0, spline, -250.0, 250.0, 0.0)


class TestFlank:
    @pytest.mark.parametrize("mirrored", [False, True])
    def test_the_smooth_side_is_taken(self, mirrored: bool) -> None:
        flank = Flank(curve(mirrored), 0.0, DOF_PER_STEP)
        assert 20 < flank.place * (1 if mirrored else -1) < 100

    def test_a_curve_that_lies_elsewhere_has_none(self) -> None:
        with pytest.raises(ValueError, match="both sides"):
            Flank(curve(False), 400.0, DOF_PER_STEP)

    def test_a_sharpness_tells_the_place_and_beyond_the_flank_its_end(self) -> None:
        of = curve(False)
        flank = Flank(of, 0.0, DOF_PER_STEP)
        near = flank.place + np.linspace(-15, 15, 7)
        assert flank.places(of.spline(near)) == pytest.approx(near, abs=1.0)
        high, low = flank.places(np.array([9.0, -9.0]))
        assert low < near[0]
        assert near[-1] < high < 10

    @pytest.mark.parametrize("mirrored", [False, True])
    @pytest.mark.parametrize("steeper", [0.5, 1.7])
    def test_motions_that_end_beside_each_other_tell_how_steep_it_really_is(
        self, mirrored: bool, steeper: float
    ) -> None:
        """The spline through a few looks is off where the curve bends."""
        of, creep, rng = curve(mirrored), 0.5, np.random.default_rng(3)
        flank = Flank(of, 0.0, DOF_PER_STEP)
        ends = (np.arange(6) - 2.5) * 8
        at_s = [np.arange(phase, 0.7, 1 / 30) - 0.03 for phase in np.linspace(0.002, 0.03, 6)]
        swing = [10 * np.exp(-at / 0.1) * np.sin(2 * math.pi * 37 * at) for at in at_s]

        def log_sharpness(places: np.ndarray) -> np.ndarray:
            far = flank.place + steeper * (places - flank.place)
            return np.asarray(of.spline(far) + 0.003 * rng.standard_normal(len(places)))

        seen = [
            log_sharpness(flank.place + end + beside + creep * at)
            for end, beside, at in zip(ends, swing, at_s, strict=True)
        ]
        found_s, found = flank.deviations(ends, at_s, seen, creep, 0.35)
        after = [at > 0 for at in at_s]
        assert found_s == pytest.approx(np.concatenate([at[k] for at, k in zip(at_s, after, strict=True)]))
        truth = np.concatenate([one[k] for one, k in zip(swing, after, strict=True)])
        assert float(np.polyfit(truth, found, 1)[0]) == pytest.approx(1.0, abs=0.15)
        assert float(np.sqrt(np.mean((found - truth) ** 2))) < 1.0

    def test_drift_of_single_motions_is_no_ringing(self) -> None:
        of = curve(False)
        flank = Flank(of, 0.0, DOF_PER_STEP)
        ends, at = (np.arange(6) - 2.5) * 8, np.arange(0.01, 0.7, 1 / 30)
        drift = [3.0, -3.0, 2.0, -2.0, 3.0, -3.0]  # steps/s that the creep does not know
        seen = [
            np.asarray(of.spline(flank.place + end + rate * (at - at[-1])))
            for end, rate in zip(ends, drift, strict=True)
        ]
        _, found = flank.deviations(ends, [at] * 6, seen, 0.0, 0.35)
        assert float(np.abs(found).max()) < 0.5, "up to 2 steps with the drift"

    def test_noise_of_two_neighbours_leaves_the_flank(self) -> None:
        """The third motion came to rest where it looked sharper than the fourth, which is nearer to focus."""
        of = curve(False)
        flank = Flank(of, 0.0, DOF_PER_STEP)
        ends, at = (np.arange(6) - 2.5) * 2, np.arange(0.01, 0.7, 1 / 30)
        swing = 12 * np.exp(-at / 0.05) * np.sin(2 * math.pi * 21 * at)
        rest = of.spline(flank.place + ends)
        noise = np.array([0, 0, 1, -1, 0, 0]) * 0.6 * (rest[3] - rest[2])
        seen = [
            np.asarray(of.spline(flank.place + end + swing)) + off
            for end, off in zip(ends, noise, strict=True)
        ]
        _, found = flank.deviations(ends, [at] * 6, seen, 0.0, 0.35)
        assert float(np.polyfit(np.tile(swing, 6), found, 1)[0]) == pytest.approx(1.0, abs=0.2)

    def test_where_all_is_noise_no_flank_is_taken(self) -> None:
        """A faint peak; to one side it falls steeply to where nothing is left of it."""
        places = np.linspace(-250, 250, 60)
        x = DOF_PER_STEP * places
        values = 2e-5 / (1 + x**2) ** np.where(x < 0, 1, 3) + 1e-7
        of = Curve(0, 0, 0, 0, 0, 3.0, make_interp_spline(places, np.log(values), 3), -250.0, 250.0, 0.0)
        assert float(of.spline(Flank(of, 0.0, DOF_PER_STEP).place)) > math.log(4e-6)


class TestSettling:
    @pytest.mark.parametrize("settle_s", [0.03, 0.1, 0.3])
    @pytest.mark.parametrize("ring_dof", [0.5, 2.0])
    def test_a_ringing_stage(self, settle_s: float, ring_dof: float) -> None:
        rng = np.random.default_rng(1)
        since_s = np.concatenate([np.arange(phase, 0.7, 1 / 30) for phase in np.linspace(0.002, 0.03, 6)])
        decay_s = settle_s / math.log(ring_dof / SETTLED_DOF)
        swing = ring_dof * np.exp(-since_s / decay_s) * np.sin(2 * math.pi * 37 * since_s)
        found = fit_settling(since_s, swing + 0.01 * rng.standard_normal(len(since_s)), 6, 0.35)
        assert found.settle_s == pytest.approx(settle_s, rel=0.3)
        assert found.sigma_s < 0.3 * settle_s

    def test_a_stage_that_swings_alike_each_time(self) -> None:
        """All frames lie on one damped sine: taken for chance, they tell it half as well."""
        since_s = np.concatenate([np.arange(phase, 0.7, 1 / 30) for phase in np.linspace(0.002, 0.03, 6)])
        off = []
        for seed in range(12):
            rng = np.random.default_rng(seed)
            swing = 0.7 * np.exp(-since_s / 0.05) * np.sin(2 * math.pi * rng.uniform(15, 60) * since_s)
            found = fit_settling(since_s, swing + 0.04 * rng.standard_normal(len(since_s)), 6, 0.35)
            off.append(found.settle_s / (0.05 * math.log(7)) - 1)
        assert math.sqrt(np.mean(np.square(off))) < 0.1

    def test_a_stage_that_swings_otherwise_each_time(self) -> None:
        rng = np.random.default_rng(3)
        at_s = [np.arange(first, 0.7, 1 / 30) for first in np.linspace(0.002, 0.03, 6)]
        begins = rng.uniform(0, 2 * math.pi, 6)
        since_s = np.concatenate(at_s)
        swing = np.concatenate(
            [
                np.exp(-at / 0.05) * np.sin(2 * math.pi * 37 * at + begin)
                for at, begin in zip(at_s, begins, strict=True)
            ]
        )
        found = fit_settling(since_s, swing + 0.02 * rng.standard_normal(len(since_s)), 6, 0.35)
        assert found.settle_s == pytest.approx(0.05 * math.log(10), rel=0.3)

    @pytest.mark.parametrize("seed", range(4))
    def test_the_error_of_the_line_is_no_ringing(self, seed: int) -> None:
        """Of a noisy picture: a line through few frames errs at the first ones."""
        of, rng, ends = curve(False), np.random.default_rng(seed), (np.arange(6) - 2.5) * 8
        flank = Flank(of, 0.0, DOF_PER_STEP)
        at_s = [np.arange(phase, 0.7, 1 / 30) for phase in np.linspace(0.002, 0.03, 6)]
        seen = [
            np.asarray(of.spline(flank.place + end + rng.normal(0, 0.03 / DOF_PER_STEP, len(at)) + swing))
            for end, at in zip(ends, at_s, strict=True)
            for swing in [0.7 / DOF_PER_STEP * np.exp(-at / 0.011) * np.sin(2 * math.pi * 58 * at)]
        ]
        found, _ = settling_of(flank, ends, at_s, seen, 0.0, DOF_PER_STEP)
        assert found.settle_s == pytest.approx(0.011 * math.log(7), abs=0.01)

    def test_a_stage_that_does_not_ring_has_settled_at_once(self) -> None:
        since_s = np.tile(np.arange(0.01, 0.7, 1 / 30), 6)
        noise = 0.01 * np.random.default_rng(2).standard_normal(len(since_s))
        assert fit_settling(since_s, noise, 6, 0.35).settle_s < 0.02
