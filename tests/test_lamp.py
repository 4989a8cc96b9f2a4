"""Rings of source points: even, whole, and as a disc transforms."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edge.lamp import disc, rings, smear


class TestRings:
    @pytest.mark.parametrize("at_least", [1, 2, 7, 8, 30, 61, 200])
    def test_no_more_than_the_next_whole_ring(self, at_least: int) -> None:
        whole = [1 + 3 * k * (k + 1) for k in range(20)]
        assert len(rings(at_least, 0.0)) == min(count for count in whole if count >= at_least)

    def test_a_turn_turns_them(self) -> None:
        plain, turned = rings(19, 0.0), rings(19, 0.4)
        rotation = np.array([[math.cos(0.4), -math.sin(0.4)], [math.sin(0.4), math.cos(0.4)]])
        np.testing.assert_allclose(turned, plain @ rotation.T, atol=1e-12)

    def test_integrate_polynomials_as_the_disc_does(self) -> None:
        """Means over the unit disc: x² 1/4, x² y² 1/24, x⁴ 1/8, and 0 for what is odd."""
        x, y = rings(91, 0.3).T
        assert np.mean(x * x) == pytest.approx(1 / 4)
        assert np.mean(x * x * y * y) == pytest.approx(1 / 24, rel=0.02)
        assert np.mean(x**4) == pytest.approx(1 / 8, rel=0.02)
        assert np.mean(x**3) == pytest.approx(0, abs=1e-9)


class TestDisc:
    def test_has_its_share_of_the_lamp_where_angles_are_small(self) -> None:
        points = 0.6 * rings(37, 0.0)
        assert math.pi * disc(0.6, points, 1e-3) ** 2 * 37 == pytest.approx(math.pi * 0.6**2, rel=1e-3)

    def test_grows_with_the_angle_to_what_the_lamp_is_spread_over(self) -> None:
        """Against the sideways shift of a plane wave at angle, ``tan``, and its area over that of ``sin``."""
        points = np.array([[0.5, 0.0]])
        sine = 0.8 * 0.5
        radial = (1 - sine**2) ** -1.5  # d tan / d sin
        around = (1 - sine**2) ** -0.5  # tan / sin
        assert disc(0.1, points, 0.8) == pytest.approx(0.1 * math.sqrt(radial * around))

    def test_of_a_lamp_beyond_the_pupil_is_finite(self) -> None:
        assert math.isfinite(disc(0.3, np.array([[1.5, 0.0]]), 0.9))


class TestSmear:
    def test_is_the_mean_over_a_disc_of_shifts(self) -> None:
        points = 1.3 * rings(2000, 0.0)
        for frequency in (0.0, 0.1, 0.35, 0.6):
            mean = np.exp(2j * math.pi * frequency * points[:, 0]).mean()
            assert smear(frequency, 1.3) == pytest.approx(mean.real, abs=2e-3)

    def test_of_arrays(self) -> None:
        out = smear(np.array([[0.0], [0.2]]), np.array([0.0, 1.0, 2.0]))
        assert out.shape == (2, 3)
        np.testing.assert_allclose(out[0], 1.0)
        assert (np.diff(out[1]) < 0).all()
