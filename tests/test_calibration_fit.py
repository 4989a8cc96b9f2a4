"""Slack, drift, scale and direction from looks whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from focus_bench import BINS, log_normal

from edge.calibration_fit import (
    OFFSET_FEWEST,
    OFFSET_SHARE,
    OFFSET_SIGMA,
    Fingerprints,
    Pass,
    fit_curve,
    fit_offset,
    fit_scale,
)

DOF_PER_STEP = 0.02
SLACK, FOCUS = 130.0, 1000.0


Passes = tuple[list[Pass], list[np.ndarray]]


def passes(slack: float = SLACK, creep: float = 0.0, noise: float = 0.005) -> Passes:
    """Passes on, back, on, back over a peaked, lopsided curve; and what a network says of their looks."""
    rng = np.random.default_rng(0)
    out, said, now_s = [], [], 0.0
    for back in (False, True, False, True):
        screw = FOCUS + np.arange(-300, 301, 25.0) - slack * back
        screw = screw[::-1] if back else screw
        time_s = now_s + 0.5 * np.arange(len(screw))
        now_s = float(time_s[-1]) + 3.0
        x = DOF_PER_STEP * (screw + slack * back + creep * (time_s - 25.0) - FOCUS)
        log_sharpness = np.log(1 / (1 + x**2) + 0.1 / (1 + (x - 2) ** 2)) + noise * rng.standard_normal(
            len(x)
        )
        out.append(Pass(screw, time_s, log_sharpness, back))
        said.append(x + 0.2 * rng.standard_normal(len(x)))
    return out, said


def recognised(looks: list[Pass], said: list[np.ndarray], slack: float) -> tuple[float, float]:
    """Slack and creep from looks known again by those of the first pass."""
    seen = Fingerprints(looks[0], said[0], DOF_PER_STEP)
    places = [
        seen.place(float(reading), float(value))
        for one, told in zip(looks, said, strict=True)
        for reading, value in zip(told, one.log_sharpness, strict=True)
    ]
    return seen.slack_and_creep(looks, np.array(places), slack)


class TestCurve:
    @pytest.mark.parametrize("slack", [0.0, 3.0, 130.0, 900.0])
    @pytest.mark.parametrize("creep_dof_s", [-0.05, 0.0, 0.05])
    def test_slack_and_drift(self, slack: float, creep_dof_s: float) -> None:
        looks, said = passes(slack, creep_dof_s / DOF_PER_STEP)
        about, creep = recognised(looks, said, slack + 60)
        assert about == pytest.approx(slack, abs=0.5 / DOF_PER_STEP)
        curve = fit_curve(looks, DOF_PER_STEP, slack=about, creep=creep)
        assert curve.slack == pytest.approx(slack, abs=0.03 / DOF_PER_STEP)
        assert curve.creep * DOF_PER_STEP == pytest.approx(creep_dof_s, abs=0.002)
        assert curve.slack_sigma < 0.05 / DOF_PER_STEP
        assert curve.noise < 0.03

    def test_a_network_that_is_wrong_on_one_side_is_recognised_all_the_same(self) -> None:
        looks, said = passes(creep=1.0)
        wrong = [np.where(one > 1.5, -one, one) for one in said]
        about, creep = recognised(looks, wrong, SLACK + 200)
        assert fit_curve(looks, DOF_PER_STEP, slack=about, creep=creep).slack == pytest.approx(SLACK, abs=2)

    def test_the_uncertainty_grows_with_the_noise(self) -> None:
        quiet, loud = (fit_curve(passes(noise=noise)[0], DOF_PER_STEP, slack=SLACK) for noise in (0.002, 0.1))
        assert loud.slack_sigma > 3 * quiet.slack_sigma

    def test_passes_in_one_direction_say_nothing(self) -> None:
        looks, _ = passes()
        with pytest.raises(ValueError, match="both directions"):
            fit_curve([looks[0], looks[2]], DOF_PER_STEP, slack=0)

    def test_passes_that_share_no_place_have_endless_noise(self) -> None:
        assert fit_curve(passes()[0], DOF_PER_STEP, slack=5000).noise == math.inf


class TestFingerprints:
    def test_a_look_is_known_again(self) -> None:
        looks, said = passes(noise=0.0)
        seen = Fingerprints(looks[0], said[0], DOF_PER_STEP)
        for k in range(0, 25, 3):
            place = seen.place(float(said[0][k]), float(looks[0].log_sharpness[k]))
            assert place == pytest.approx(looks[0].screw[k], abs=15)

    def test_a_blank_look_is_like_the_blank_ones(self) -> None:
        looks, said = passes()
        said[0][:4] = math.nan
        seen = Fingerprints(looks[0], said[0], DOF_PER_STEP)
        assert seen.place(math.nan, float(looks[0].log_sharpness[1])) < looks[0].screw[4]

    def test_looks_from_elsewhere_leave_the_guess(self) -> None:
        looks, said = passes()
        seen = Fingerprints(looks[0], said[0], DOF_PER_STEP)
        assert seen.slack_and_creep(looks, np.full(100, looks[0].screw[0]), 77.0) == (77.0, 0.0)


class TestScale:
    @pytest.mark.parametrize("scale", [0.02, -0.02, 0.05, -0.009])
    def test_scale_direction_and_focus(self, scale: float) -> None:
        places = np.arange(-200, 201, 10.0)
        says = [log_normal(scale * (z - 31.0)) for z in places]
        found = fit_scale(places, says, BINS, guess=0.02)
        assert found.scale == pytest.approx(scale, rel=0.03)
        assert found.focus == pytest.approx(31.0, abs=0.1 / abs(scale))
        assert found.odds > 30
        assert found.changes > 30
        assert 0 < found.sigma < 0.2 * abs(scale)

    def test_looks_that_are_alike_on_both_sides_tell_no_direction(self) -> None:
        places = np.arange(-200, 201, 10.0)
        says = [np.logaddexp(log_normal(0.02 * z), log_normal(-0.02 * z)) for z in places]
        assert fit_scale(places, says, BINS, guess=0.02).odds < 1e-6

    def test_a_picture_that_does_not_change(self) -> None:
        says = [log_normal(2.0)] * 41
        found = fit_scale(np.arange(-200, 201, 10.0), says, BINS, guess=0.02)
        assert found.changes < 5

    def test_blank_looks_do_not_count(self) -> None:
        places = np.arange(-200, 201, 10.0)
        says = [None if k % 2 else log_normal(0.02 * z) for k, z in enumerate(places)]
        assert fit_scale(places, says, BINS, guess=0.03).scale == pytest.approx(0.02, rel=0.03)
        with pytest.raises(ValueError, match="three"):
            fit_scale(places[:4], says[:4], BINS, guess=0.03)


class TestOffset:
    DEFOCUS = np.arange(-6, 6.1, 0.5)

    def test_it_is_what_is_said_in_focus(self) -> None:
        """Whatever the network's scale is, and what it says far out; blank and odd looks do little."""
        says = 0.6 + 1.2 * self.DEFOCUS
        says[np.abs(self.DEFOCUS) > 2] *= -1
        says[11], says[13] = math.nan, 5.0
        found = fit_offset(self.DEFOCUS, says)
        assert found is not None
        assert found.dof == pytest.approx(OFFSET_SHARE * 0.6, abs=0.1)
        assert found.sigma > OFFSET_SIGMA

    def test_it_is_surer_of_looks_that_agree(self) -> None:
        rng = np.random.default_rng(0)
        places = np.repeat(self.DEFOCUS, 4)
        noisy, clear = (fit_offset(places, places + s * rng.standard_normal(len(places))) for s in (1.5, 0.1))
        assert noisy is not None
        assert clear is not None
        assert clear.sigma < noisy.sigma

    def test_a_few_looks_are_not_enough(self) -> None:
        near = np.linspace(-1.4, 1.4, OFFSET_FEWEST)
        assert fit_offset(near, near) is not None
        assert fit_offset(near[1:], near[1:]) is None
        assert fit_offset(near, np.r_[math.nan, near[1:]]) is None

    def test_what_is_far_from_focus_is_no_offset(self) -> None:
        assert fit_offset(self.DEFOCUS, self.DEFOCUS + 3) is None
