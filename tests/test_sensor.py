"""The camera's arithmetic: level, noise, encoding, colour, shading, saturation, and the same bytes again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.simulator.sensor import Exposer, Sensor

SHAPE = (120, 160)
#: A sensor that adds nothing of its own: no noise worth a level, no shading, linear.
IDEAL = Sensor(background=0.5, full_well_e=1e9, read_noise_e=0.0, gamma=1.0, vignetting=0.0)


def light(level: float = 1.0) -> NDArray[np.float32]:
    return np.full((*SHAPE, 3), level, np.float32)


def expose(sensor: Sensor, intensity: NDArray[np.float32], seed: int = 0) -> NDArray[np.uint8]:
    return Exposer(sensor, SHAPE, np.random.default_rng(seed)).expose(intensity)


class TestLevel:
    @pytest.mark.parametrize("background", [0.05, 0.5, 0.9])
    @pytest.mark.parametrize("gamma", [1.0, 1.8, 2.2])
    @pytest.mark.parametrize("level", [0.3, 1.0])
    def test_is_the_share_of_full_scale_under_the_encoding(
        self, background: float, gamma: float, level: float
    ) -> None:
        frame = expose(replace(IDEAL, background=background, gamma=gamma), light(level))
        assert frame.shape == (*SHAPE, 3)
        assert frame.dtype == np.uint8
        assert abs(frame.mean() - 255 * (level * background) ** (1 / gamma)) <= 1.0

    @pytest.mark.parametrize("full_well_e", [1500.0, 20000.0])
    def test_noise_does_not_move_it(self, full_well_e: float) -> None:
        frame = expose(replace(IDEAL, full_well_e=full_well_e, read_noise_e=8.0), light())
        assert frame.mean() == pytest.approx(127.5, abs=0.6)

    def test_saturates_and_does_not_wrap(self) -> None:
        noisy = replace(IDEAL, full_well_e=1000.0, read_noise_e=12.0)
        assert expose(noisy, light(50.0)).min() == 255
        assert expose(IDEAL, light(0.0)).max() == 0
        assert expose(noisy, light(0.0)).max() < 40, "noise below black is black, not white"

    def test_keeps_rising_with_light(self) -> None:
        ramp = light() * np.linspace(0, 2.2, SHAPE[1], dtype=np.float32)[None, :, None]
        assert (np.diff(expose(replace(IDEAL, gamma=2.2), ramp)[0, :, 0].astype(int)) >= 0).all()


class TestNoise:
    @pytest.mark.parametrize(
        ("full_well_e", "read_noise_e", "level"),
        [(1500, 0, 1.0), (1500, 0, 0.25), (6000, 0, 1.0), (3000, 30, 0.25), (3000, 60, 1.0)],
    )
    def test_is_shot_noise_and_read_noise(
        self, full_well_e: float, read_noise_e: float, level: float
    ) -> None:
        frame = expose(replace(IDEAL, full_well_e=full_well_e, read_noise_e=read_noise_e), light(level))
        electrons = 0.5 * level * full_well_e
        expected = (electrons + read_noise_e**2) * (255 / full_well_e) ** 2 + 1 / 12  # 8 bits round
        assert frame.astype(float).var() == pytest.approx(expected, rel=0.05)

    def test_is_white(self) -> None:
        frame = expose(replace(IDEAL, full_well_e=1500.0), light()).astype(float)
        frame -= frame.mean()
        for other in (np.roll(frame, 1, axis=0), np.roll(frame, 1, axis=1), np.roll(frame, 1, axis=2)):
            assert abs((frame * other).mean()) < 0.03 * frame.var()

    def test_frames_differ_from_one_to_the_next(self) -> None:
        exposer = Exposer(replace(IDEAL, full_well_e=1500.0), SHAPE, np.random.default_rng(0))
        one, two = (exposer.expose(light()).astype(float) for _ in range(2))
        assert abs(np.corrcoef(one.ravel(), two.ravel())[0, 1]) < 0.1

    def test_a_seed_gives_the_same_frames_bit_for_bit(self) -> None:
        sensor = Sensor(jpeg_quality=80)
        runs = []
        for seed in (5, 5, 6):
            exposer = Exposer(sensor, SHAPE, np.random.default_rng(seed))
            runs.append([exposer.expose(light(level)) for level in (0.5, 1.0)])
        np.testing.assert_array_equal(runs[0], runs[1])
        assert (runs[0][1] != runs[2][1]).any()

    def test_leaves_its_input_alone(self) -> None:
        intensity = light(0.7)
        expose(Sensor(), intensity)
        assert (intensity == np.float32(0.7)).all()


class TestColour:
    def test_white_balance_scales_each_channel(self) -> None:
        frame = expose(replace(IDEAL, white_balance=(0.8, 1.0, 1.2)), light())
        np.testing.assert_allclose(frame.mean(axis=(0, 1)), 127.5 * np.array([0.8, 1.0, 1.2]), atol=1.0)

    def test_channels_stay_in_order(self) -> None:
        intensity = light() * np.array([0.2, 0.6, 1.4], np.float32)
        for quality in (0, 95):
            mean = expose(replace(IDEAL, jpeg_quality=quality), intensity).mean(axis=(0, 1))
            np.testing.assert_allclose(mean, 127.5 * np.array([0.2, 0.6, 1.4]), atol=2.0)

    def test_a_monochrome_camera_has_one_brightness(self) -> None:
        intensity = light() * np.array([0.2, 0.6, 1.3], np.float32)
        frame = expose(replace(IDEAL, grey=True, full_well_e=2000.0), intensity)
        assert frame.shape == (*SHAPE, 3)
        np.testing.assert_array_equal(frame[..., 0], frame[..., 1])
        np.testing.assert_array_equal(frame[..., 0], frame[..., 2])
        assert frame.mean() == pytest.approx(127.5 * 0.7, abs=1.0)


class TestShading:
    def test_takes_its_share_in_the_corners_and_nothing_in_the_middle(self) -> None:
        frame = expose(replace(IDEAL, background=0.8, vignetting=0.2), light()).astype(float)
        assert frame[58:62, 78:82].mean() == pytest.approx(0.8 * 255, abs=1.5)
        for corner in (frame[0, 0], frame[0, -1], frame[-1, 0], frame[-1, -1]):
            np.testing.assert_allclose(corner, 0.8 * 0.8 * 255, atol=1.5)
        np.testing.assert_allclose(frame[0, 80], 0.9 * 0.8 * 255, atol=1.5)


class TestJpeg:
    def test_is_near_the_frame_and_not_it(self) -> None:
        rng = np.random.default_rng(0)
        coarse = np.kron(rng.uniform(0.3, 1.5, (15, 20, 1)), np.ones((8, 8, 1)))
        intensity = np.repeat(coarse, 3, axis=2).astype(np.float32)
        plain = expose(IDEAL, intensity).astype(float)
        error = [np.abs(expose(replace(IDEAL, jpeg_quality=q), intensity) - plain).mean() for q in (95, 60)]
        noisy = replace(IDEAL, full_well_e=1500.0)
        raw, coded = expose(noisy, intensity), expose(replace(noisy, jpeg_quality=75), intensity)
        assert error[0] < error[1] < 6
        assert 0 < np.abs(coded.astype(float) - raw).mean() < 10


class TestRandomCameras:
    def test_a_seed_gives_the_same_camera(self) -> None:
        one, two, other = (Sensor.random(np.random.default_rng(seed)) for seed in (1, 1, 2))
        assert one == two
        assert one != other

    def test_span_what_is_sold_and_no_more(self) -> None:
        drawn = [Sensor.random(np.random.default_rng(seed)) for seed in range(300)]
        assert all(0.05 <= sensor.background <= 1 for sensor in drawn)
        assert all(1500 <= sensor.full_well_e <= 20000 for sensor in drawn)
        assert all(0 <= sensor.vignetting <= 0.25 for sensor in drawn)
        assert all(sensor.gamma >= 1 for sensor in drawn)
        assert all(sensor.jpeg_quality == 0 or 75 <= sensor.jpeg_quality <= 95 for sensor in drawn)
        assert {sensor.grey for sensor in drawn} == {True, False}
        assert 0.1 < np.mean([sensor.jpeg_quality > 0 for sensor in drawn]) < 0.4
