"""Slack, drift, scale, direction and settling from looks whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from focus_bench import BINS, log_normal

from edge.calibration_fit import SETTLED_DOF, Pass, fit_curve, fit_scale, fit_settling

DOF_PER_STEP = 0.02
SLACK, FOCUS = 130.0, 1000.0


def passes(slack: float = SLACK, creep: float = 0.0, noise: float = 0.005) -> tuple[list[Pass], np.ndarray]:
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
    return out, np.concatenate(said)


class TestCurve:
    @pytest.mark.parametrize("slack", [0.0, 3.0, 130.0, 900.0])
    @pytest.mark.parametrize("creep_dof_s", [-0.05, 0.0, 0.05])
    def test_slack_and_drift(self, slack: float, creep_dof_s: float) -> None:
        looks, said = passes(slack, creep_dof_s / DOF_PER_STEP)
        curve = fit_curve(looks, said, DOF_PER_STEP, slack=slack + 60)
        assert curve.slack == pytest.approx(slack, abs=0.03 / DOF_PER_STEP)
        assert curve.creep * DOF_PER_STEP == pytest.approx(creep_dof_s, abs=0.002)
        assert curve.slack_sigma < 0.05 / DOF_PER_STEP
        assert curve.noise < 0.03

    def test_a_guess_that_is_far_off_is_put_right_by_what_the_network_says(self) -> None:
        looks, said = passes()
        curve = fit_curve(looks, said, 0.8 * DOF_PER_STEP, slack=SLACK + 4 / DOF_PER_STEP)
        assert curve.slack == pytest.approx(SLACK, abs=2)

    def test_the_uncertainty_grows_with_the_noise(self) -> None:
        quiet, loud = (fit_curve(*passes(noise=noise), DOF_PER_STEP, slack=SLACK) for noise in (0.002, 0.1))
        assert loud.slack_sigma > 3 * quiet.slack_sigma

    def test_passes_in_one_direction_say_nothing(self) -> None:
        looks, said = passes()
        with pytest.raises(ValueError, match="both directions"):
            fit_curve([looks[0], looks[2]], said, DOF_PER_STEP, slack=0)

    def test_passes_that_share_no_place_have_endless_noise(self) -> None:
        looks, said = passes()
        assert fit_curve(looks, np.full(len(said), math.nan), DOF_PER_STEP, slack=5000).noise == math.inf


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


class TestSettling:
    @pytest.mark.parametrize("settle_s", [0.03, 0.1, 0.3])
    @pytest.mark.parametrize("ring_dof", [0.5, 2.0])
    def test_a_ringing_stage(self, settle_s: float, ring_dof: float) -> None:
        rng = np.random.default_rng(1)
        since_s = np.concatenate([np.arange(phase, 0.7, 1 / 30) for phase in np.linspace(0.002, 0.03, 6)])
        decay_s = settle_s / math.log(ring_dof / SETTLED_DOF)
        swing = ring_dof * np.exp(-since_s / decay_s) * np.sin(2 * math.pi * 37 * since_s)
        found = fit_settling(since_s, swing + 0.01 * rng.standard_normal(len(since_s)))
        assert found.settle_s == pytest.approx(settle_s, rel=0.3)
        assert found.sigma_s < 0.3 * settle_s

    def test_a_stage_that_does_not_ring_has_settled_at_once(self) -> None:
        since_s = np.tile(np.arange(0.01, 0.7, 1 / 30), 6)
        noise = 0.01 * np.random.default_rng(2).standard_normal(len(since_s))
        assert fit_settling(since_s, noise).settle_s < 0.02
