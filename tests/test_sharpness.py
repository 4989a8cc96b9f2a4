"""The focus measure: highest in focus, deaf to noise, exposure and white balance, and at home at any size."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.sharpness import light, sharpness
from edge.sweep import FLAT_SHARPNESS

Image = np.ndarray


def scene(seed: int = 0, size: int = 192) -> Image:
    """``(size, size, 3)`` float32: dark spots of many sizes on a field of 1."""
    rng = np.random.default_rng(seed)
    image = np.ones((size, size), np.float32)
    for _ in range(60):
        x, y = rng.integers(0, size, 2).tolist()
        cv2.circle(image, (x, y), int(rng.integers(2, 9)), float(rng.uniform(0.3, 0.8)), -1, cv2.LINE_AA)
    return np.repeat(image[:, :, None], 3, axis=2)


def blurred(image: Image, sigma_px: float) -> Image:
    return image if sigma_px == 0 else cv2.GaussianBlur(image, (0, 0), sigma_px)


def exposed(
    image: Image, level: float = 200.0, noise: float = 0.0, gains: tuple[float, ...] = (1, 1, 1)
) -> Image:
    rng = np.random.default_rng(1)
    counts = image * level * np.asarray(gains, np.float32) + rng.normal(0, noise or 1e-9, image.shape)
    return np.clip(np.rint(counts), 0, 255).astype(np.uint8)


class TestMeasure:
    @pytest.mark.parametrize("noise", [0.0, 2.0])
    def test_fall_with_blur(self, noise: float) -> None:
        values = [sharpness(exposed(blurred(scene(), s), noise=noise)) for s in (0, 1, 2, 4)]
        assert all(a > 1.2 * b for a, b in pairwise(values)), values

    def test_do_not_depend_on_the_exposure(self) -> None:
        image = blurred(scene(), 1)
        bright = sharpness(exposed(image, 220))
        assert sharpness(exposed(image, 110)) == pytest.approx(bright, rel=0.05)
        assert sharpness(exposed(image, 220, gains=(0.7, 1.0, 0.8))) == pytest.approx(bright, rel=0.05)

    def test_turn_with_the_frame(self) -> None:
        frame = exposed(blurred(scene(), 1))
        for turned in (np.rot90(frame), frame[::-1], frame[:, ::-1]):
            assert sharpness(np.ascontiguousarray(turned)) == pytest.approx(sharpness(frame), rel=0.02)

    @pytest.mark.parametrize("shape", [(1, 1), (3, 40), (16, 16), (17, 300)])
    def test_small_frames(self, shape: tuple[int, int]) -> None:
        frame = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
        assert np.isfinite(sharpness(frame))
        assert sharpness(frame) >= 0

    @given(st.integers(0, 255))
    def test_a_flat_frame(self, level: int) -> None:
        assert sharpness(np.full((64, 64, 3), level, np.uint8)) == 0

    def test_of_a_frame_at_another_sampling(self) -> None:
        """Twice the pixels for the same thing, at half the scale: about the same measure."""
        image = blurred(scene(size=384), 3)
        half = cv2.resize(image, (192, 192), interpolation=cv2.INTER_AREA)
        assert sharpness(exposed(image), 0.5) == pytest.approx(sharpness(exposed(half), 1.0), rel=0.1)


class TestNoise:
    @pytest.mark.parametrize("noise", [1.0, 3.0, 8.0])
    def test_alone_is_not_sharp(self, noise: float) -> None:
        frame = exposed(np.ones((384, 384, 3), np.float32), noise=noise)
        specimen = exposed(blurred(scene(size=384), 1), noise=noise)
        assert sharpness(frame) < 0.05 * sharpness(specimen)

    def test_of_a_cheap_sensor_counts_as_flat(self) -> None:
        frame = exposed(np.ones((384, 384, 3), np.float32), noise=2.0)
        assert sharpness(frame) < FLAT_SHARPNESS

    def test_hardly_changes_what_is_measured(self) -> None:
        image = blurred(scene(size=384), 1)
        assert sharpness(exposed(image, noise=3.0)) == pytest.approx(sharpness(exposed(image)), rel=0.1)


class TestLight:
    def test_is_relative_to_the_background(self) -> None:
        out = light(exposed(scene(), 180, gains=(1, 0.5, 0.8)))
        assert out.shape == (192, 192)
        assert out.dtype == np.float32
        assert np.median(out) == pytest.approx(1, abs=0.01)

    def test_is_resampled(self) -> None:
        assert light(exposed(scene()), 0.5).shape == (96, 96)

    def test_of_a_black_frame(self) -> None:
        assert light(np.zeros((20, 30, 3), np.uint8)).max() == 0
