"""The lamp: source points fill the condenser evenly and suffice; random microscopes are sane."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.simulator.formation import Imaging, points_needed, source_points

GREEN = 1


class TestSourcePoints:
    @given(st.floats(0.05, 1.0), st.integers(1, 80), st.floats(-0.5, 0.5), st.floats(-0.5, 0.5))
    def test_fill_the_condenser_about_the_tilt(self, ratio: float, count: int, x: float, y: float) -> None:
        points = source_points(Imaging(condenser_ratio=ratio, tilt=(x, y)), count)
        assert points.shape == (count, 2)
        assert points.dtype == np.float32
        radius = np.hypot(points[:, 0] - x, points[:, 1] - y)
        assert radius.max() <= ratio + 1e-5
        # a uniform disc: equal areas have equal shares
        assert (radius**2).mean() == pytest.approx(ratio**2 / 2, rel=1e-3)

    def test_spread_evenly(self) -> None:
        points = source_points(Imaging(condenser_ratio=1.0, tilt=(0.0, 0.0)), 60).astype(float)
        distance = np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1)) + 9 * np.eye(60)
        assert distance.min() > 0.6 / math.sqrt(60)
        np.testing.assert_allclose(points.mean(axis=0), 0, atol=0.03)

    def test_are_turned_and_jittered_by_a_seed(self) -> None:
        imaging = Imaging()
        one, two, other = (source_points(imaging, 30, np.random.default_rng(seed)) for seed in (1, 1, 2))
        np.testing.assert_array_equal(one, two)
        assert np.abs(one - other).max() > 0.05
        assert np.hypot(*(one - np.asarray(imaging.tilt)).T).max() < imaging.condenser_ratio * 1.3


class TestPointsNeeded:
    @given(st.floats(0.05, 1.0), st.floats(0, 30), st.floats(0, 30))
    def test_grow_with_distance_alike_on_both_sides(self, ratio: float, near: float, far: float) -> None:
        near, far = sorted((near, far))
        imaging = Imaging(condenser_ratio=ratio)
        assert 9 <= points_needed(imaging, near) <= points_needed(imaging, far) <= 72
        assert points_needed(imaging, -far) == points_needed(imaging, far)

    def test_grow_with_the_condenser(self) -> None:
        counts = [points_needed(Imaging(condenser_ratio=ratio), 8.0) for ratio in (0.1, 0.4, 0.6, 1.0)]
        assert counts == sorted(set(counts))
        assert counts[0] == 10
        assert counts[-1] == 64


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
