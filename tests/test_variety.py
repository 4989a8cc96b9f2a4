"""Variety for training: as many specimens as one likes from a few photographs, each as sharp as they are."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from edge.simulator.specimens import Specimen, from_image, make
from train.variety import mosaic, restained, turned, varied

SHAPE = (96, 96)


def _rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def _checks(specimen: Specimen) -> None:
    assert specimen.od.shape == (3, *SHAPE)
    assert specimen.phase_rad.shape == specimen.upper_share.shape == SHAPE
    assert {a.dtype for a in (specimen.od, specimen.phase_rad, specimen.upper_share)} == {
        np.dtype(np.float32)
    }
    assert 0 <= specimen.od.min() <= specimen.od.max() <= 3
    assert 0 <= specimen.upper_share.min() <= specimen.upper_share.max() <= 1
    assert np.isfinite(specimen.phase_rad).all()
    assert not specimen.blank


class TestMosaic:
    def test_is_a_specimen(self) -> None:
        for seed in range(8):
            made = mosaic(SHAPE, _rng(seed))
            _checks(made)
            assert made.name == "mosaic"
            assert made.od.std() > 0.02, "something to see"

    def test_another_seed_is_another_field_and_the_same_one_the_same(self) -> None:
        assert np.array_equal(mosaic(SHAPE, _rng(1)).od, mosaic(SHAPE, _rng(1)).od)
        assert not np.array_equal(mosaic(SHAPE, _rng(1)).od, mosaic(SHAPE, _rng(2)).od)

    def test_its_edges_meet(self) -> None:
        seam, inner = [], []
        for seed in range(12):
            od = mosaic(SHAPE, _rng(seed)).od.sum(axis=0)
            for axis in (0, 1):
                step = np.abs(np.diff(od, axis=axis, append=np.take(od, [0], axis=axis))).mean(axis=1 - axis)
                seam.append(step[-1] / step.mean())
                inner.append(step[:-1].mean() / step.mean())
        assert np.mean(seam) < 1.5 * np.mean(inner)


class TestTurned:
    def test_keeps_size_and_type_and_turns(self) -> None:
        picture = np.zeros((80, 120, 3), np.uint8)
        picture[:, 40:80] = 200
        seen = turned(picture, _rng(3))
        assert seen.shape == picture.shape
        assert seen.dtype == np.uint8
        assert np.abs(seen.astype(int) - picture).mean() > 10
        assert abs(float(seen.mean()) - float(picture.mean())) < 40, "mirrored at its edges, not black"

    def test_shrunk_as_photographs_are_it_is_as_sharp_as_before(self) -> None:
        picture = ndimage.gaussian_filter(_rng(0).uniform(0, 255, (400, 400)), 1.0)
        picture = ((picture - picture.min()) / np.ptp(picture) * 255).astype(np.uint8)
        picture = np.repeat(picture[..., None], 3, axis=2)

        def fineness(image: np.ndarray) -> float:
            od = from_image(image, SHAPE, _rng(1), shrink=2.5).od[0]
            return float(np.abs(np.diff(od, axis=0)).mean() / od.std())

        before = fineness(picture)
        after = [fineness(turned(picture, _rng(seed))) for seed in range(6)]
        assert np.mean(after) == pytest.approx(before, rel=0.1)


class TestVaried:
    def test_is_a_specimen_of_the_same_name(self) -> None:
        for seed in range(12):
            made = varied(make("tissue", SHAPE, seed), _rng(seed), lambda: make("blood", SHAPE, 1))
            _checks(made)
            assert made.name == "tissue"

    def test_now_and_then_another_has_a_part_of_it(self) -> None:
        asked = []

        def other() -> Specimen:
            asked.append(1)
            return make("blood", SHAPE, 1)

        for seed in range(40):
            varied(make("tissue", SHAPE, 0), _rng(seed), other)
        assert 5 < len(asked) < 25

    def test_places_stay_where_they_were(self) -> None:
        original = make("tissue", SHAPE, 4).od
        for seed in range(8):
            stained = restained(original, _rng(seed))
            assert stained.shape == original.shape
            r = np.corrcoef(original.sum(axis=0).ravel(), stained.sum(axis=0).ravel())[0, 1]
            assert r > 0.6, "another colour and contrast, the same picture"
            assert not np.allclose(stained, original, atol=0.02)

    def test_glass_stays_clear(self) -> None:
        assert not restained(np.zeros((3, *SHAPE), np.float32), _rng(0)).any()
