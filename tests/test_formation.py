"""Image formation against a plain Abbe sum, and against what the physics of a microscope says must hold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.optics import PIXELS_PER_RESOLUTION, REFERENCE_WAVELENGTH_UM
from edge.simulator.formation import (
    CHANNEL_WAVELENGTHS_UM,
    Float,
    ImageFormer,
    Imaging,
    lamp,
    source_points,
)
from edge.simulator.specimens import Specimen, make

#: No aberration and no tilt: nothing tells one side of focus from the other but the specimen's phase.
PERFECT = Imaging(
    condenser_ratio=0.5,
    tilt=(0.0, 0.0),
    spherical_waves=0.0,
    coma_waves=(0.0, 0.0),
    chromatic_dof=(0.0, 0.0, 0.0),
)
GREEN = 1
SCALES = [wavelength / REFERENCE_WAVELENGTH_UM for wavelength in CHANNEL_WAVELENGTHS_UM]


def specimen(
    shape: tuple[int, int], *, od: float = 0.0, phase_rad: float = 0.0, seed: int = 0, name: str = "test"
) -> Specimen:
    """White noise of the given strength in every quantity: nothing smooth hides an error."""
    rng = np.random.default_rng(seed)
    density = (od * rng.random((3, *shape))).astype(np.float32)
    phase = (phase_rad * rng.standard_normal(shape)).astype(np.float32)
    return Specimen(name, density, phase, rng.random(shape).astype(np.float32))


def dot(
    size: int, *, od: float = 0.0, phase_rad: float = 0.0, sigma_px: float = 3.0, ring: int = 0
) -> Specimen:
    """A soft round spot in the middle of the field (the pixel size // 2)."""
    y, x = np.mgrid[:size, :size] - size // 2
    spot = np.exp(-(x**2 + y**2) / (2 * sigma_px**2)).astype(np.float32)
    return Specimen(
        "dot", np.stack([od * spot] * 3), phase_rad * spot, np.full((size, size), 0.5, np.float32)
    )


def symmetric_points(imaging: Imaging, count: int) -> Float:
    """Source points that come in opposite pairs."""
    half: Float = source_points(imaging, count)
    return np.concatenate([half, -half])


def image(sample: Specimen, imaging: Imaging, defocus_dof: float, points: Float) -> Float:
    return np.asarray(ImageFormer(sample, imaging).images([defocus_dof], points)[0])


def naive(sample: Specimen, imaging: Imaging, defocus_dof: float, points: Float) -> NDArray[np.float64]:
    """The Abbe sum as a book writes it: whole planes, double precision, one pupil for each source point.

    A thick specimen goes by split steps: through the upper layer, on to the lower, through that. The
    simulator adds up single and double scattering instead, so the two agree for weak layers.
    """
    height, width = sample.shape
    fy = (np.fft.fftfreq(height) * PIXELS_PER_RESOLUTION)[:, None]
    fx = (np.fft.fftfreq(width) * PIXELS_PER_RESOLUTION)[None, :]
    out = np.zeros((height, width, 3))
    for channel, scale in enumerate(SCALES):
        log_t = -sample.od[channel] / 2 + 1j * sample.phase_rad.astype(float) / scale
        bright = 0
        for px, py in points.astype(float):
            u, v = fx * scale + px, fy * scale + py
            rho2 = u**2 + v**2
            pupil = rho2 <= 1
            waves = imaging.spherical_waves * (6 * rho2**2 - 6 * rho2)
            waves = waves + (3 * rho2 - 2) * (imaging.coma_waves[0] * u + imaging.coma_waves[1] * v)
            waves = waves + imaging.astigmatism_waves * (u**2 - v**2)
            s2 = imaging.na_over_n**2
            sag = 2 * np.pi / scale * (np.sqrt(1 - s2 * np.minimum(rho2, 1)) - 1) / s2
            far = defocus_dof + imaging.chromatic_dof[channel]
            if imaging.thickness_dof == 0:
                spectrum = np.fft.fft2(np.exp(log_t))
            else:
                half = imaging.thickness_dof / 2
                upper, lower = sample.upper_share, 1 - sample.upper_share
                at_lower = np.fft.ifft2(np.fft.fft2(np.exp(log_t * upper)) * np.exp(2j * half * sag))
                spectrum, far = np.fft.fft2(at_lower * np.exp(log_t * lower)), far - half
            seen = spectrum * pupil * np.exp(1j * (2 * np.pi / scale * waves + far * sag))
            out[:, :, channel] += np.abs(np.fft.ifft2(seen)) ** 2
            bright += bool(px**2 + py**2 <= 1)
        out[:, :, channel] /= bright
    return out


class TestAgainstThePlainSum:
    @settings(max_examples=12)
    @given(
        seed=st.integers(0, 10_000),
        shape=st.sampled_from([(32, 32), (32, 48), (41, 33)]),
        defocus_dof=st.floats(-8, 8),
    )
    def test_thin_specimens(self, seed: int, shape: tuple[int, int], defocus_dof: float) -> None:
        rng = np.random.default_rng(seed)
        imaging = replace(Imaging.random(rng), thickness_dof=0.0)
        sample = specimen(shape, od=1.5, phase_rad=1.0, seed=seed)
        points = source_points(imaging, 9, rng)
        expected = naive(sample, imaging, defocus_dof, points)
        np.testing.assert_allclose(
            image(sample, imaging, defocus_dof, points), expected, atol=3e-4, rtol=1e-3
        )

    @pytest.mark.parametrize("defocus_dof", [-3.0, 0.0, 3.0])
    def test_thick_specimens_that_scatter_weakly(self, defocus_dof: float) -> None:
        imaging = replace(Imaging(), thickness_dof=1.4)
        sample = specimen((40, 40), od=0.02, phase_rad=0.01, seed=3)
        points = source_points(imaging, 12)
        expected = naive(sample, imaging, defocus_dof, points)
        thin = naive(sample, replace(imaging, thickness_dof=0.0), defocus_dof, points)
        error = (image(sample, imaging, defocus_dof, points) - expected).std()
        assert error < 0.02 * expected.std()
        assert error < 0.1 * (thin - expected).std(), "the thickness is not seen at all"


class TestEmptyField:
    @given(st.integers(0, 10_000), st.floats(-12, 12))
    @settings(max_examples=25)
    def test_is_one_under_every_microscope(self, seed: int, defocus_dof: float) -> None:
        rng = np.random.default_rng(seed)
        imaging = Imaging.random(rng)
        empty = make("empty", (24, 32), 0)
        got = image(empty, imaging, defocus_dof, source_points(imaging, 12, rng))
        np.testing.assert_allclose(got, 1.0, atol=1e-4)

    def test_is_dark_where_the_lamp_misses_the_pupil(self) -> None:
        empty = make("empty", (32, 32), 0)
        imaging = replace(PERFECT, tilt=(1.8, 0.0), condenser_ratio=0.2)
        np.testing.assert_allclose(image(empty, imaging, 2.0, source_points(imaging, 12)), 0.0, atol=1e-6)
        lit = image(specimen((32, 32), od=1.0), imaging, 2.0, source_points(imaging, 12))
        assert lit.mean() > 0.001, "dark field shows what scatters"

    def test_a_lamp_half_out_of_the_pupil_is_as_bright_as_one_inside_and_then_fades(self) -> None:
        """Exposure is set on the background, but a quarter of the source must be seen for that."""
        inside, outside = np.zeros((1, 2), np.float32), np.full((1, 2), 1.3, np.float32)
        empty = make("empty", (16, 16), 0)
        for seen, level in ((20, 1.0), (10, 1.0), (5, 1.0), (2, 0.4), (0, 0.0)):
            points = np.concatenate([inside] * seen + [outside] * (20 - seen))
            np.testing.assert_allclose(image(empty, PERFECT, 0.0, points), level, atol=1e-5)

    def test_is_dark_where_no_frequency_reaches_the_pupil(self) -> None:
        imaging = replace(PERFECT, tilt=(0.0, 9.0))
        got = image(specimen((32, 32), od=1.0), imaging, 0.0, source_points(imaging, 6))
        np.testing.assert_array_equal(got, 0.0)


class TestEnergy:
    @given(st.integers(0, 10_000), st.floats(-10, 10))
    @settings(max_examples=20)
    def test_no_more_light_arrives_than_the_specimen_lets_through(
        self, seed: int, defocus_dof: float
    ) -> None:
        rng = np.random.default_rng(seed)
        imaging = replace(Imaging.random(rng), tilt=(0.05, 0.0), thickness_dof=0.0)
        sample = specimen((32, 32), od=1.0, phase_rad=0.5, seed=seed)
        got = image(sample, imaging, defocus_dof, source_points(imaging, 9))
        through = np.exp(-sample.od).mean(axis=(1, 2))
        assert (got.mean(axis=(0, 1)) <= through + 1e-4).all()
        assert got.min() >= 0

    def test_defocus_moves_light_but_neither_makes_nor_loses_it(self) -> None:
        sample, points = specimen((32, 32), od=1.0, phase_rad=0.5), source_points(Imaging(), 12)
        stack = ImageFormer(sample, Imaging()).images([-6.0, -1.0, 0.0, 2.5, 9.0], points)
        mean = stack.mean(axis=(1, 2))
        np.testing.assert_allclose(mean, np.broadcast_to(mean[0], mean.shape), rtol=1e-4)
        assert np.ptp(stack.std(axis=(1, 2)), axis=0).min() > 0.01

    def test_smooth_clear_matter_loses_no_light(self) -> None:
        got = image(dot(48, phase_rad=0.8, sigma_px=5), PERFECT, 3.0, source_points(PERFECT, 12))
        np.testing.assert_allclose(got.mean(axis=(0, 1)), 1.0, atol=2e-3)


class TestThickness:
    @pytest.mark.parametrize("defocus_dof", [-4.0, 0.0, 4.0])
    def test_none_is_exactly_the_thin_specimen(self, defocus_dof: float) -> None:
        sample, points = specimen((32, 32), od=1.5, phase_rad=1.0), source_points(Imaging(), 12)
        thin = image(sample, Imaging(thickness_dof=0.0), defocus_dof, points)
        nearly = image(sample, Imaging(thickness_dof=1e-7), defocus_dof, points)
        np.testing.assert_allclose(nearly, thin, atol=1e-4)

    def test_matter_in_one_layer_alone_is_a_thin_specimen_out_of_focus(self) -> None:
        sample, points = specimen((32, 32), od=1.5, phase_rad=1.0), source_points(Imaging(), 12)
        above = replace(sample, upper_share=np.ones((32, 32), np.float32))
        below = replace(sample, upper_share=np.zeros((32, 32), np.float32))
        thick = Imaging(thickness_dof=1.0)
        got, thin = ImageFormer(above, thick), ImageFormer(sample, Imaging())
        np.testing.assert_allclose(got.images([2.0], points), thin.images([2.5], points), atol=1e-4)
        got = ImageFormer(below, thick)
        np.testing.assert_allclose(got.images([2.0], points), thin.images([1.5], points), atol=1e-4)


class TestFocus:
    def test_an_absorbing_specimen_is_sharpest_in_focus(self) -> None:
        defocus_dof = [-6.0, -3.0, -1.5, 0.0, 1.5, 3.0, 6.0]
        points = source_points(PERFECT, 24)
        stack = ImageFormer(dot(48, od=2.0, sigma_px=2), PERFECT).images(defocus_dof, points)
        contrast = stack.std(axis=(1, 2))
        assert (np.diff(contrast[:4], axis=0) > 0).all()
        assert (np.diff(contrast[3:], axis=0) < 0).all()

    def test_a_clear_specimen_has_least_contrast_in_focus(self) -> None:
        stack = ImageFormer(dot(48, phase_rad=0.5, sigma_px=3), PERFECT).images(
            [-2.0, 0.0, 2.0], source_points(PERFECT, 24)
        )
        contrast = stack.std(axis=(1, 2))
        assert (contrast[1] < 0.2 * contrast[0]).all()
        assert (contrast[1] < 0.2 * contrast[2]).all()

    @pytest.mark.parametrize("chromatic_dof", [(1.0, 0.0, -1.5), (-0.5, 0.5, 2.0)])
    def test_each_colour_is_sharpest_at_minus_its_shift(
        self, chromatic_dof: tuple[float, float, float]
    ) -> None:
        imaging = replace(PERFECT, chromatic_dof=chromatic_dof)
        defocus_dof = np.arange(-3, 3.01, 0.25)
        former = ImageFormer(dot(32, od=2.0, sigma_px=1.5), imaging)
        contrast = former.images(list(defocus_dof), source_points(imaging, 12)).std(axis=(1, 2))
        np.testing.assert_allclose(defocus_dof[contrast.argmax(axis=0)], -np.array(chromatic_dof), atol=0.01)


class TestTilt:
    @staticmethod
    def shift_px(tilt: tuple[float, float], defocus_dof: float) -> NDArray[np.float64]:
        """Where the shadow of a dot lies, (x, y) by colour ``(2, 3)`` in pixels from the middle."""
        imaging = replace(PERFECT, condenser_ratio=0.25, tilt=tilt)
        shadow = 1 - image(dot(64, od=1.5, sigma_px=4), imaging, defocus_dof, source_points(imaging, 16))
        middle = np.arange(64) - 32
        weight = shadow.sum(axis=(0, 1))
        x = (shadow * middle[None, :, None]).sum(axis=(0, 1)) / weight
        y = (shadow * middle[:, None, None]).sum(axis=(0, 1)) / weight
        return np.stack([x, y])

    @pytest.mark.parametrize("tilt", [(0.3, 0.0), (0.0, 0.3), (-0.2, 0.2)])
    def test_moves_the_image_sideways_in_proportion_to_defocus(self, tilt: tuple[float, float]) -> None:
        for defocus_dof in (-4.0, -2.0, 0.0, 2.0, 4.0):
            expected_px = defocus_dof * np.array(tilt) * PIXELS_PER_RESOLUTION
            got = self.shift_px(tilt, defocus_dof)[:, GREEN]
            np.testing.assert_allclose(got, expected_px, rtol=0.06, atol=0.1)

    def test_moves_every_colour_alike(self) -> None:
        shift = self.shift_px((0.3, 0.0), 4.0)[0]
        np.testing.assert_allclose(shift, shift[GREEN], rtol=0.02)


class TestWhatTellsTheDirections:
    def test_nothing_does_for_an_absorbing_specimen_in_perfect_optics(self) -> None:
        sample, points = specimen((32, 32), od=2.0), symmetric_points(PERFECT, 8)
        before, after = ImageFormer(sample, PERFECT).images([-3.0, 3.0], points)
        np.testing.assert_allclose(before, after, atol=2e-4)

    @pytest.mark.parametrize(
        "asymmetry",
        [
            {"tilt": (0.2, 0.1)},
            {"spherical_waves": 0.1},
            {"chromatic_dof": (0.3, 0.0, -0.4)},
            {"spherical_waves": 0.05, "coma_waves": (0.1, 0.05)},
        ],
        ids=lambda asymmetry: " ".join(asymmetry),
    )
    def test_imperfect_optics_do(self, asymmetry: dict[str, object]) -> None:
        imaging = replace(PERFECT, **asymmetry)  # type: ignore[arg-type]
        sample, points = specimen((32, 32), od=2.0), symmetric_points(PERFECT, 8)
        points = points + np.asarray(imaging.tilt, np.float32)
        before, after = ImageFormer(sample, imaging).images([-3.0, 3.0], points)
        assert np.abs(before - after).std() > 0.05 * before.std()

    def test_refraction_does(self) -> None:
        sample, points = specimen((32, 32), od=2.0, phase_rad=0.5), symmetric_points(PERFECT, 8)
        before, after = ImageFormer(sample, PERFECT).images([-3.0, 3.0], points)
        assert np.abs(before - after).std() > 0.2 * before.std()

    def test_a_clear_dense_dot_gathers_light_on_one_side_of_focus(self) -> None:
        """A phase delay is a converging lens: bright beyond the specimen as the light goes, dim before it."""
        former = ImageFormer(dot(48, phase_rad=1.0, sigma_px=3), PERFECT)
        before, beyond = former.images([-1.5, 1.5], source_points(PERFECT, 24))[:, 24, 24, GREEN]
        assert beyond > 1.05
        assert before < 0.95


class TestImages:
    def test_a_stack_is_its_images_one_by_one_bit_for_bit(self) -> None:
        former = ImageFormer(specimen((32, 40), od=1.0, phase_rad=0.5), replace(Imaging(), thickness_dof=0.7))
        points = source_points(Imaging(), 9)
        stack = former.images([-2.0, 0.0, 5.0], points)
        assert stack.shape == (3, 32, 40, 3)
        assert stack.dtype == np.float32
        for k, defocus_dof in enumerate((-2.0, 0.0, 5.0)):
            np.testing.assert_array_equal(former.images([defocus_dof], points)[0], stack[k])

    def test_no_defocus_asked_for_is_no_image(self) -> None:
        points = source_points(Imaging(), 9)
        assert ImageFormer(specimen((16, 16)), Imaging()).images([], points).shape == (0, 16, 16, 3)


class TestLamp:
    """A few points, each of which stands for a disc of the lamp, against hundreds that are points."""

    @pytest.mark.parametrize("defocus_dof", [-12.0, -5.0, -1.0, 0.0, 3.0, 8.0])
    @pytest.mark.parametrize("ratio", [0.25, 0.55, 0.8])
    def test_is_as_good_as_many_points(self, ratio: float, defocus_dof: float) -> None:
        imaging = replace(Imaging(), condenser_ratio=ratio)
        sample = make("blood", (96, 96), 3)
        points, disc = lamp(imaging, defocus_dof)
        former = ImageFormer(sample, imaging)
        truth = former.images([defocus_dof], source_points(imaging, 600))[0]
        error = (former.images([defocus_dof], points, disc)[0] - truth).std() / truth.std()
        ghosts = (former.images([defocus_dof], points)[0] - truth).std() / truth.std()
        assert error < 0.17
        assert ghosts < 0.17 or error < 0.7 * ghosts, "the discs are for nothing"

    def test_a_disc_moves_light_but_neither_makes_nor_loses_it(self) -> None:
        former = ImageFormer(specimen((32, 40), od=1.0, phase_rad=0.5), Imaging())
        points = source_points(Imaging(), 19)
        sharp, smeared = former.images([5.0], points)[0], former.images([5.0], points, 0.1)[0]
        np.testing.assert_allclose(smeared.mean(axis=(0, 1)), sharp.mean(axis=(0, 1)), rtol=1e-4)
        assert (smeared.std(axis=(0, 1)) < 0.98 * sharp.std(axis=(0, 1))).all()

    def test_a_disc_spreads_a_point_evenly_over_a_disc_as_large_as_defocus_makes_it(self) -> None:
        """A source point shifts the image by ``d s``: a disc of them adds a disc's variance, r² / 4."""
        former = ImageFormer(dot(96, od=0.5, sigma_px=4), PERFECT)
        middle = np.arange(96) - 48.0
        variance = []
        for disc in (0.0, 0.4):
            shadow = 1 - former.images([5.0], np.zeros((1, 2), np.float32), disc)[0, :, :, GREEN]
            along = shadow.sum(axis=0)
            variance.append((along * middle**2).sum() / along.sum())
        expected_px2 = (5.0 * 0.4 * PIXELS_PER_RESOLUTION) ** 2 / 4
        assert variance[1] - variance[0] == pytest.approx(expected_px2, rel=0.1)
