"""Tiles: where they are cut, which are kept, and that exposure, colour and magnification drop out."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from edge import tiles, view
from edge.simulator.sensor import Exposer, Sensor

SIZE_PX = 64
Light = NDArray[np.float64]


def texture(height: int, width: int, seed: int = 0, *, contrast: float = 0.1) -> Light:
    """Grains of about four pixels, `contrast` deviation about 0.7 of the background, ``(H, W)`` in 0.2 to 1.

    One strip at the border is clear background, so that the brightest pixels are the empty field.
    """
    noise = np.random.default_rng(seed).standard_normal((height, width))
    grains = cv2.GaussianBlur(noise, (0, 0), 3.0)
    out = np.clip(0.7 + contrast * grains / grains.std(), 0.2, 1.0)
    out[:8] = 1.0
    return np.asarray(out, np.float64)


def frame_of(light: Light, gains: tuple[float, float, float] = (240, 240, 240)) -> tiles.Frame:
    return np.asarray(np.rint(light[:, :, None] * np.array(gains)), np.uint8)


def blank(sensor: Sensor, seed: int, shape: tuple[int, int] = (384, 512)) -> tiles.Frame:
    """What the sensor says of an empty field."""
    rng = np.random.default_rng(seed)
    return Exposer(sensor, shape, rng).expose(np.ones((*shape, 3), np.float32))


class TestExtract:
    @settings(max_examples=25)
    @given(
        height=st.integers(20, 200),
        width=st.integers(20, 300),
        most=st.integers(0, 12),
        seed=st.integers(0, 99),
    )
    def test_what_comes_out(self, height: int, width: int, most: int, seed: int) -> None:
        frame = frame_of(texture(height, width, seed))
        untouched = frame.copy()
        found = tiles.extract(frame, 1.0, size_px=SIZE_PX, most=most)
        count = min(most, max(1, height // SIZE_PX) * max(1, width // SIZE_PX))
        assert len(found) == count
        assert found.pixels.shape == (count, SIZE_PX, SIZE_PX, 3)
        assert found.pixels.dtype == np.float32
        assert np.abs(found.pixels).max(initial=0.0) <= 1.0
        assert found.information.shape == (count,)
        assert (found.information >= 1.0).all()
        assert (np.diff(found.information) <= 0).all(), "the most informative tile comes first"
        assert found.corners.shape == (count, 2)
        assert len({(int(y), int(x)) for y, x in found.corners}) == count
        limit = [max(height, SIZE_PX) - SIZE_PX, max(width, SIZE_PX) - SIZE_PX]
        assert (found.corners >= 0).all()
        assert (found.corners <= limit).all()
        np.testing.assert_array_equal(frame, untouched)

    def test_tiles_reach_the_borders_and_do_not_overlap(self) -> None:
        found = tiles.extract(frame_of(texture(150, 230)), 1.0, size_px=SIZE_PX, most=99)
        rows, columns = sorted(set(found.corners[:, 0])), sorted(set(found.corners[:, 1]))
        assert rows == [0, 150 - SIZE_PX]
        assert columns == [0, 83, 230 - SIZE_PX]

    def test_a_frame_of_one_tile_is_cut_in_the_middle(self) -> None:
        found = tiles.extract(frame_of(texture(100, 120)), 1.0, size_px=SIZE_PX, most=9)
        np.testing.assert_array_equal(found.corners, [[18, 28]])

    def test_a_tile_is_the_frame_at_its_corner(self) -> None:
        light = texture(192, 256, 5)
        found = tiles.extract(frame_of(light), 1.0, size_px=SIZE_PX, most=99)
        for pixels, (y, x) in zip(found.pixels, found.corners, strict=True):
            here = light[y : y + SIZE_PX, x : x + SIZE_PX]
            assert np.corrcoef(pixels.mean(axis=2).ravel(), here.ravel())[0, 1] > 0.999

    def test_the_richest_place_comes_first_and_clear_places_not_at_all(self) -> None:
        light = np.full((3 * SIZE_PX, 4 * SIZE_PX), 0.7)
        for row, column, contrast in ((0, 1, 0.04), (2, 3, 0.1)):
            y, x = row * SIZE_PX + 16, column * SIZE_PX + 16
            patch = texture(40, 32, row, contrast=contrast)[8:]
            light[y : y + 32, x : x + 32] = 0.7 + patch - patch.mean()
        found = tiles.extract(frame_of(light), 1.0, size_px=SIZE_PX, most=9)
        np.testing.assert_array_equal(found.corners, [[2 * SIZE_PX, 3 * SIZE_PX], [0, SIZE_PX]])

    @pytest.mark.parametrize(("height", "width"), [(384, 384), (257, 391)])
    def test_information_is_the_contrast_between_two_blurs(self, height: int, width: int) -> None:
        """As it would come out at full size, in double precision and by another library."""
        light = texture(height, width, contrast=0.15)[:, :, None] * np.linspace(0.9, 1, width)[:, None]
        frame = frame_of(light[:, :, 0])
        found = tiles.extract(frame, 1.0, size_px=128, most=9, at_least=9)
        mean = frame.mean(axis=2) / view.background_of(frame).mean()
        fine = ndimage.gaussian_filter(mean, 2.0, mode="mirror")
        band = fine - ndimage.gaussian_filter(fine, 14.0, mode="mirror")
        noise = view.noise_sigma(view.brightness(frame, view.background_of(frame)))
        threshold = max(0.004, 2 * noise / (2 * math.sqrt(math.pi) * 2.0))
        wanted = [band[y : y + 128, x : x + 128].std() / threshold for y, x in found.corners]
        assert len(found) >= 6
        assert found.information == pytest.approx(wanted, rel=0.03)

    def test_shading_is_taken_off_before_it_is_blurred(self) -> None:
        y, x = np.mgrid[-1:1:96j, -1:1:130j].astype(np.float32)
        lamp = 1 + 0.3 * x - 0.2 * y + 0.1 * x * y - 0.4 * x * x + 0.05 * y * y
        assert tiles._quadratic(lamp) == pytest.approx(lamp, abs=1e-5)
        cubic = lamp + x**3
        terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1).reshape(-1, 6).astype(float)
        nearest = terms @ np.linalg.lstsq(terms, cubic.ravel(), rcond=None)[0]
        assert tiles._quadratic(cubic).ravel() == pytest.approx(nearest, abs=1e-5)

    def test_the_same_frame_gives_the_same_tiles(self) -> None:
        frame = frame_of(texture(200, 200))
        one, two = (tiles.extract(frame, 1.3, size_px=SIZE_PX, most=5) for _ in range(2))
        np.testing.assert_array_equal(one.pixels, two.pixels)
        np.testing.assert_array_equal(one.corners, two.corners)

    def test_each_channel_has_mean_zero_and_the_brightness_a_quarter_deviation(self) -> None:
        found = tiles.extract(frame_of(texture(192, 256)), 1.0, size_px=SIZE_PX, most=6)
        inner = found.pixels[np.abs(found.pixels).max(axis=(1, 2, 3)) < 1]
        assert len(inner)
        np.testing.assert_allclose(inner.mean(axis=(1, 2)), 0.0, atol=1e-5)
        np.testing.assert_allclose(
            inner.mean(axis=3).std(axis=(1, 2)), 1 / tiles.SIGMAS_FULL_SCALE, rtol=1e-3
        )

    def test_the_stain_of_a_tile_drops_out_but_not_the_difference_between_its_colours(self) -> None:
        light = np.repeat(texture(192, 256)[:, :, None], 3, axis=2)
        light[8:, :, 1] *= 0.5  # a red stain takes half the green
        frame = np.asarray(np.rint(240 * light), np.uint8)
        found = tiles.extract(frame, 1.0, size_px=SIZE_PX, most=12)
        below = found.pixels[found.corners[:, 0] > 0]
        np.testing.assert_allclose(below.mean(axis=(1, 2)), 0.0, atol=2e-3)
        contrast = below.std(axis=(1, 2))
        np.testing.assert_allclose(contrast[:, 1] / contrast[:, 0], 0.5, rtol=0.02)

    def test_faint_tiles_are_not_blown_up(self) -> None:
        light = texture(192, 256, contrast=0.01)
        light[:8] = 0.7
        frame = frame_of(light)
        found = tiles.extract(frame, 1.0, size_px=SIZE_PX, most=12)
        contrast = 0.01 / (view.background_of(frame)[0] / 240)
        expected = contrast / tiles.CONTRAST_FLOOR / tiles.SIGMAS_FULL_SCALE
        assert found.pixels.mean(axis=3).std() == pytest.approx(expected, rel=0.1)

    @pytest.mark.parametrize(
        "gains", [(120, 120, 120), (240, 180, 130), (90, 140, 200)], ids=["dark", "warm", "cold"]
    )
    def test_exposure_and_white_balance_drop_out(self, gains: tuple[float, float, float]) -> None:
        light = texture(192, 256)
        plain = tiles.extract(frame_of(light), 1.0, size_px=SIZE_PX, most=12)
        other = tiles.extract(frame_of(light, gains), 1.0, size_px=SIZE_PX, most=12)
        by_corner = {(int(y), int(x)): k for k, (y, x) in enumerate(other.corners)}
        order = [by_corner[int(y), int(x)] for y, x in plain.corners]
        # 0.02 of full scale is one level of the darkest channel
        np.testing.assert_allclose(other.pixels[order], plain.pixels, atol=0.025)
        np.testing.assert_allclose(other.information[order], plain.information, rtol=0.03)

    @pytest.mark.parametrize("scale", [0.5, 0.25])
    def test_a_finer_camera_gives_the_same_tiles(self, scale: float) -> None:
        light = texture(192, 256)
        size = round(light.shape[1] / scale), round(light.shape[0] / scale)
        finer = np.clip(cv2.resize(light, size, interpolation=cv2.INTER_CUBIC).astype(np.float64), 0, 1)
        plain = tiles.extract(frame_of(light), 1.0, size_px=SIZE_PX, most=12)
        other = tiles.extract(frame_of(finer), scale, size_px=SIZE_PX, most=12)
        by_corner = {(int(y), int(x)): k for k, (y, x) in enumerate(other.corners)}
        order = [by_corner[int(y), int(x)] for y, x in plain.corners]
        assert np.corrcoef(other.pixels[order].ravel(), plain.pixels.ravel())[0, 1] > 0.995

    @pytest.mark.parametrize("full_well_e", [1500.0, 3000.0, 6000.0, 20000.0])
    @pytest.mark.parametrize("gamma", [1.0, 2.2])
    def test_an_empty_field_has_no_tile_at_any_noise(self, full_well_e: float, gamma: float) -> None:
        for seed, read_noise_e in enumerate((2.0, 12.0)):
            sensor = Sensor(full_well_e=full_well_e, read_noise_e=read_noise_e, gamma=gamma)
            found = tiles.extract(blank(sensor, seed), 1.0, size_px=128, most=99)
            assert len(found) == 0, f"information {found.information} of noise alone"
            assert found.pixels.shape == (0, 128, 128, 3)
            assert found.corners.shape == (0, 2)

    @pytest.mark.parametrize("level", [0, 7, 255])
    def test_a_flat_frame_has_no_tile(self, level: int) -> None:
        flat = np.full((200, 200, 3), level, np.uint8)
        assert len(tiles.extract(flat, 1.0, size_px=SIZE_PX, most=9)) == 0

    @pytest.mark.parametrize("contrast", [0.5, 0.05])
    def test_contrast_is_that_of_all_tiles_without_their_noise(self, contrast: float) -> None:
        frame = frame_of(texture(192, 256, contrast=contrast))
        every = tiles.extract(frame, 1.0, size_px=SIZE_PX, most=999, at_least=999)
        wanted = 0.5 * np.log((every.information.astype(np.float64) ** 2).mean() - 0.4**2)
        assert every.contrast == pytest.approx(wanted, abs=1e-6)
        assert tiles.extract(frame, 1.0, size_px=SIZE_PX, most=1).contrast == every.contrast

    def test_a_blank_frame_has_the_least_contrast(self) -> None:
        found = tiles.extract(blank(Sensor(), 1), 1.0, size_px=128, most=9)
        seen = tiles.extract(frame_of(texture(192, 256, contrast=0.05)), 1.0, size_px=SIZE_PX, most=9)
        assert math.log(0.2) <= found.contrast < -1 < seen.contrast

    def test_noise_raises_the_bar(self) -> None:
        light = texture(192, 256, contrast=0.03)
        noise = np.random.default_rng(1).normal(0, 0.05, light.shape)
        quiet_tiles = tiles.extract(frame_of(light), 1.0, size_px=SIZE_PX, most=12)
        loud_tiles = tiles.extract(
            frame_of(np.clip(light + noise, 0.0, 1.0).astype(np.float64)), 1.0, size_px=SIZE_PX, most=12
        )
        assert loud_tiles.information[0] < quiet_tiles.information[0] / 2

    @pytest.mark.parametrize(
        "frame",
        [
            np.zeros((64, 64), np.uint8),
            np.zeros((64, 64, 1), np.uint8),
            np.zeros((64, 64, 4), np.uint8),
            np.zeros((2, 64, 64, 3), np.uint8),
            np.zeros((64, 64, 3), np.uint16),
            np.zeros((64, 64, 3), np.float32),
        ],
        ids=lambda frame: f"{frame.shape} {frame.dtype}",
    )
    def test_refuses_another_shape_or_dtype(self, frame: tiles.Frame) -> None:
        with pytest.raises(ValueError, match=r"\(H, W, 3\) uint8 is needed"):
            tiles.extract(frame, 1.0, size_px=SIZE_PX, most=9)


class TestResample:
    @given(st.integers(1, 90), st.integers(1, 90), st.floats(0.1, 4.0))
    def test_size(self, height: int, width: int, scale: float) -> None:
        out = view.resample(np.zeros((height, width, 3), np.uint8), scale, smallest_px=16)
        factor = scale if abs(scale - 1) > 0.02 else 1.0
        expected = [max(16, round(side * factor)) for side in (height, width)]
        assert out.shape == (*expected, 3)
        assert out.dtype == np.uint8

    @pytest.mark.parametrize("scale", [1.0, 0.985, 1.015])
    def test_nearly_right_is_left_alone(self, scale: float) -> None:
        frame = frame_of(texture(80, 90))
        assert view.resample(frame, scale, smallest_px=64) is frame

    @pytest.mark.parametrize("scale", [0.5, 2.0])
    def test_keeps_the_level_and_the_order_of_the_channels(self, scale: float) -> None:
        frame = np.full((40, 40, 3), (200, 120, 30), np.uint8)
        out = view.resample(frame, scale, smallest_px=1)
        assert (out == np.array([200, 120, 30])).all()

    def test_a_small_frame_is_mirrored_up(self) -> None:
        frame = np.random.default_rng(0).integers(0, 256, (20, 50, 3), np.uint8)
        out = view.resample(frame, 1.0, smallest_px=64)
        assert out.shape == (64, 64, 3)
        np.testing.assert_array_equal(out[:20, :50], frame)
        np.testing.assert_array_equal(out[20:40, :50], frame[::-1])
        np.testing.assert_array_equal(out[40:60, :50], frame)
        np.testing.assert_array_equal(out[:20, 50:], frame[:, :-15:-1])

    @pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf])
    def test_refuses_a_scale_that_is_none(self, scale: float) -> None:
        frame = np.zeros((64, 64, 3), np.uint8)
        with pytest.raises(ValueError, match="a factor above 0 is allowed"):
            view.resample(frame, scale, smallest_px=16)
        with pytest.raises(ValueError, match="a factor above 0 is allowed"):
            tiles.extract(frame, scale, size_px=16, most=1)


class TestBackground:
    def test_is_the_empty_field_in_each_channel(self) -> None:
        frame = frame_of(texture(192, 256), (240, 180, 130))
        np.testing.assert_array_equal(view.background_of(frame), [240, 180, 130])

    def test_ignores_a_few_glints(self) -> None:
        frame = np.full((120, 120, 3), 100, np.uint8)
        frame[30:45, 60:75] = 255  # 1.6 % of the frame
        assert view.background_of(frame).tolist() == [100, 100, 100]


class TestQuantize:
    @given(
        scale=st.floats(1 / 127, 0.02),
        zero_point=st.integers(-20, 20),
        value=st.floats(-1, 1, width=32),
    )
    def test_there_and_back_is_half_a_step_off_at_most(
        self, scale: float, zero_point: int, value: float
    ) -> None:
        q = tiles.quantize(np.array([value], np.float32), scale, zero_point)
        assert q.dtype == np.int8
        back = (float(q[0]) - zero_point) * scale
        low, high = (-128 - zero_point) * scale, (127 - zero_point) * scale
        assert abs(back - min(max(value, low), high)) <= scale * 0.5001

    def test_saturates_and_does_not_wrap(self) -> None:
        values = np.array([-9.0, -1.0, 0.0, 1.0, 9.0], np.float32)
        assert tiles.quantize(values, 1 / 100, 0).tolist() == [-128, -100, 0, 100, 127]
        assert tiles.quantize(values, 1 / 100, 60).tolist() == [-128, -40, 60, 127, 127]

    def test_keeps_the_shape(self) -> None:
        assert tiles.quantize(np.zeros((2, 4, 4, 3), np.float32), 0.01, 3).shape == (2, 4, 4, 3)


class TestNoiseSigma:
    @pytest.mark.parametrize("sigma", [0.002, 0.01, 0.05])
    def test_measures_white_noise_over_edges_and_shading(self, sigma: float) -> None:
        rng = np.random.default_rng(7)
        light = np.linspace(0.5, 1.0, 200)[:, None] * np.linspace(0.8, 1.0, 240)
        light[:, 120:] -= 0.3
        light[40:80, 30:90] += 0.2
        light += rng.normal(0, sigma, light.shape)
        assert view.noise_sigma(light.astype(np.float32)) == pytest.approx(sigma, rel=0.05)

    def test_a_smooth_picture_has_none(self) -> None:
        assert view.noise_sigma(texture(100, 100).astype(np.float32)) < 0.003
