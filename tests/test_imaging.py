"""The lamp: source points fill the condenser evenly and suffice; random microscopes are sane."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.simulator.formation import Imaging, lamp, source_points

GREEN = 1


class TestSourcePoints:
    @given(st.floats(0.05, 1.0), st.integers(2, 130), st.floats(-0.5, 0.5), st.floats(-0.5, 0.5))
    def test_fill_the_condenser_about_the_tilt(self, ratio: float, least: int, x: float, y: float) -> None:
        points = source_points(Imaging(condenser_ratio=ratio, tilt=(x, y)), least)
        assert len(points) >= least
        assert points.dtype == np.float32
        from_tilt = points.astype(float) - (x, y)
        np.testing.assert_allclose(from_tilt.mean(axis=0), 0, atol=1e-6)
        assert np.hypot(*from_tilt.T).max() <= ratio + 1e-5
        # a uniform disc, alike along every axis
        np.testing.assert_allclose(from_tilt.T @ from_tilt / len(points), np.eye(2) * ratio**2 / 4, atol=1e-5)

    @pytest.mark.parametrize(
        ("least", "count"),
        [(1, 1), (2, 7), (7, 7), (8, 19), (19, 19), (20, 37), (37, 37), (38, 61), (91, 91)],
    )
    def test_are_whole_rings(self, least: int, count: int) -> None:
        assert source_points(Imaging(), least).shape == (count, 2)

    def test_one_is_the_middle_of_the_lamp(self) -> None:
        points = source_points(Imaging(tilt=(0.2, -0.1)), 1)
        np.testing.assert_allclose(points, [[0.2, -0.1]], atol=1e-6)

    def test_spread_evenly(self) -> None:
        points = source_points(Imaging(condenser_ratio=1.0, tilt=(0.0, 0.0)), 61).astype(float)
        distance = np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1)) + 9 * np.eye(61)
        assert distance.min() > 1.2 / math.sqrt(61)
        assert distance.min(axis=0).max() < 2.2 / math.sqrt(61)

    def test_are_turned_by_a_seed(self) -> None:
        imaging = Imaging()
        one, two, other = (source_points(imaging, 30, np.random.default_rng(seed)) for seed in (1, 1, 2))
        np.testing.assert_array_equal(one, two)
        assert np.abs(one - other).max() > 0.05
        radii = [np.hypot(*(points - np.asarray(imaging.tilt)).T) for points in (one, other)]
        np.testing.assert_allclose(radii[0], radii[1], atol=1e-6)


class TestLamp:
    @given(st.floats(0.05, 1.0), st.floats(0, 30), st.floats(0, 30))
    def test_has_more_points_for_more_distance_alike_on_both_sides(
        self, ratio: float, near: float, far: float
    ) -> None:
        near, far = sorted((near, far))
        imaging = Imaging(condenser_ratio=ratio)
        assert 19 <= len(lamp(imaging, near)[0]) <= len(lamp(imaging, far)[0]) <= 61
        np.testing.assert_array_equal(lamp(imaging, -far)[0], lamp(imaging, far)[0])

    def test_has_more_points_for_a_larger_condenser(self) -> None:
        counts = [len(lamp(Imaging(condenser_ratio=ratio), 8.0)[0]) for ratio in (0.1, 0.4, 0.8)]
        assert counts == [19, 37, 61]

    def test_its_discs_cover_the_condenser(self) -> None:
        imaging = Imaging(condenser_ratio=0.5, na_over_n=0.05)
        points, disc = lamp(imaging, 8.0)
        assert disc**2 * len(points) == pytest.approx(0.5**2, rel=0.01)

    def test_its_discs_are_larger_where_light_comes_in_steeply(self) -> None:
        """Between the first order's spread along the tilt, and the largest at the rim of the lamp."""
        flat, steep = (
            lamp(Imaging(condenser_ratio=0.6, tilt=(0, 0), na_over_n=s), 8.0)[1] for s in (0.05, 0.8)
        )
        assert 1 < steep / flat < 1 / (1 - (0.8 * 0.6) ** 2)


class TestRandomMicroscopes:
    def test_a_seed_gives_the_same_microscope(self) -> None:
        one, two, other = (Imaging.random(np.random.default_rng(seed)) for seed in (3, 3, 4))
        assert one == two
        assert one != other

    def test_stay_within_what_is_physical(self) -> None:
        drawn = [Imaging.random(np.random.default_rng(seed)) for seed in range(300)]
        assert all(0.05 <= imaging.condenser_ratio <= 1 for imaging in drawn)
        assert all(0 < imaging.na_over_n < 1 for imaging in drawn)
        assert all(imaging.thickness_dof >= 0 for imaging in drawn)
        assert all(imaging.chromatic_dof[GREEN] == 0 for imaging in drawn)
        assert {imaging.thickness_dof == 0 for imaging in drawn} == {True, False}
        # the lamp may lean any way, so that no network learns one
        angles = np.arctan2([i.tilt[1] for i in drawn], [i.tilt[0] for i in drawn])
        assert abs(np.exp(1j * angles).mean()) < 0.15
