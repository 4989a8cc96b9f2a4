"""The scale of a stage from frames through the focus, against simulated microscopes of known pitch."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from edge import through_focus, weak_object
from edge.lamp import rings
from edge.optics import Objective, Optics, natural_pixel_um
from edge.ring_power import LARGEST_PX, SMALLEST_PX, RingPower, patches_of, ring_power
from edge.simulator.formation import ImageFormer, Imaging, lamp
from edge.simulator.sensor import Exposer, Sensor
from edge.simulator.specimens import make
from edge.through_focus import FEWEST, _evenly, fit
from edge.weak_object import columns_of

OBJECTIVE = Objective(20, 0.4)
OIL = Objective(100, 1.25, 1.515)
OPTICS = Optics(OBJECTIVE, natural_pixel_um(OBJECTIVE))
COLOUR = Sensor()
#: Depths of field per step.
SCALE = 0.05
PLACES = np.arange(-130, 131, 10)
WRONG = 1.3


def spectra_of(
    name: str,
    imaging: Imaging,
    seed: int = 5,
    size: int = 256,
    places: NDArray[np.float64] | None = None,
    optics: Optics = OPTICS,
    sensor: Sensor = COLOUR,
) -> list[RingPower]:
    """Frames at ``places``, else `PLACES`, the focus at place 0, as `ring_power` keeps them."""
    former = ImageFormer(make(name, (size, size), seed), imaging)
    exposer = Exposer(sensor, (size, size), np.random.default_rng(seed))
    defoci = (PLACES if places is None else places) * SCALE
    images = former.images([float(d) for d in defoci], *lamp(imaging, 6.0))
    return [ring_power(exposer.expose(image), optics) for image in images]


@pytest.mark.parametrize(
    ("name", "imaging", "guess"),
    [
        ("tissue", Imaging(na_over_n=0.4, condenser_ratio=0.35), SCALE * WRONG),
        ("debris", Imaging(na_over_n=0.4, thickness_dof=1.0), SCALE / WRONG),
    ],
)
def test_a_wrong_guess_is_put_right(name: str, imaging: Imaging, guess: float) -> None:
    found = fit(PLACES, spectra_of(name, imaging), OPTICS, guess=guess)
    assert found.trusted
    assert found.scale == pytest.approx(SCALE, rel=0.07)
    assert 0.01 < found.sigma < 0.07
    assert found.condenser_ratio == pytest.approx(imaging.condenser_ratio, abs=0.15)


def test_the_direction_of_the_stage_need_not_be_known() -> None:
    imaging = Imaging(na_over_n=0.4, condenser_ratio=0.7, tilt=(-0.1, 0.1))
    found = fit(1000 - PLACES, spectra_of("tissue", imaging), OPTICS, guess=SCALE / 1.2, focus=1000)
    assert found.trusted
    assert found.scale == pytest.approx(SCALE, rel=0.07)
    assert (found.focus - 1000) * SCALE == pytest.approx(0, abs=0.6)


def test_light_that_is_scattered_among_itself_is_allowed_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small things that refract, through oil: the scale is right. By a weak object's theory all frequencies
    together have another, and low ones, which count more where the misfit is large, not.
    """
    optics = Optics(OIL, natural_pixel_um(OIL))
    imaging = Imaging(na_over_n=0.825, condenser_ratio=0.4, tilt=(-0.1, -0.2), spherical_waves=0.16)
    spectra = spectra_of("debris", imaging, seed=8, optics=optics)
    found = fit(PLACES, spectra, optics, guess=SCALE * 1.15)
    assert found.scale == pytest.approx(SCALE, rel=0.01)
    whole = weak_object._scattered
    monkeypatch.setattr(weak_object, "_scattered", lambda *given: tuple(0 * part for part in whole(*given)))
    weak = fit(PLACES, spectra, optics, guess=SCALE * 1.15)
    assert weak.scale == pytest.approx(SCALE, rel=0.01)
    assert weak.misfit > found.misfit + 0.1
    monkeypatch.setattr(through_focus, "_LOW_SIGMA", 1e6)
    assert abs(math.log(fit(PLACES, spectra, optics, guess=SCALE * 1.15).scale / SCALE)) > 0.02


def test_a_monochrome_camera_sees_all_colours() -> None:
    """Blue has its focus a depth of field away: taken for green light alone, the same frames tell a scale
    that is twice as far off.
    """
    imaging = Imaging(na_over_n=0.4, condenser_ratio=0.5, chromatic_dof=(0.4, 0.0, -1.0))
    spectra = spectra_of("tissue", imaging, sensor=Sensor(grey=True))
    assert all(each.grey for each in spectra)
    found = fit(PLACES, spectra, OPTICS, guess=SCALE * 1.15)
    assert found.scale == pytest.approx(SCALE, rel=0.05)
    assert found.sigma > 0.03
    green = fit(PLACES, [replace(each, grey=False) for each in spectra], OPTICS, guess=SCALE * 1.15)
    assert abs(math.log(green.scale / SCALE)) > max(0.06, 2 * abs(math.log(found.scale / SCALE)))


def test_only_three_equal_channels_are_grey() -> None:
    frame = np.repeat(noise(1)[:, :, :1], 3, axis=2)
    assert ring_power(frame, OPTICS).grey
    frame[17, 20, 2] ^= 1
    assert not ring_power(frame, OPTICS).grey


def test_many_frames_at_uneven_places_tell_the_scale() -> None:
    """Three noisy frames near each of 27 places: the scale within 5 %, of frames not evenly apart."""
    imaging = Imaging(na_over_n=0.4, condenser_ratio=0.35)
    many = np.concatenate([PLACES + shift for shift in (-3, 0, 2)]).astype(float)
    found = fit(many, spectra_of("tissue", imaging, places=many), OPTICS, guess=SCALE * WRONG)
    assert found.trusted
    assert found.scale == pytest.approx(SCALE, rel=0.05)
    assert found.focus * SCALE == pytest.approx(0, abs=0.5)


def test_places_between_are_told_by_their_neighbours() -> None:
    """What turns no faster than the theory allows is found again at the even places."""
    x = np.sort(np.random.default_rng(2).uniform(-6, 6, 80))
    even, weights = _evenly(x)
    assert weights.shape == (len(even), 80)
    np.testing.assert_allclose(np.diff(even), 0.5)
    for turning in (0.0, 1.5, 4.0):
        wave = np.exp(1j * turning * x)
        inner = slice(2, -2)
        np.testing.assert_allclose((weights @ wave)[inner], np.exp(1j * turning * even)[inner], atol=0.1)


def test_few_places_stay_as_they_are() -> None:
    even, weights = _evenly(PLACES * SCALE)
    np.testing.assert_array_equal(even, PLACES * SCALE)
    np.testing.assert_array_equal(weights, np.eye(len(PLACES)))


def test_coarse_structure_is_signal_enough() -> None:
    """Nothing but noise above 0.45 NA/λ: fewer than a tenth of all patches show anything."""
    spectra = spectra_of("tissue", Imaging(na_over_n=0.4, condenser_ratio=0.35))
    patches = patches_of(spectra[0].size_px)
    fine = np.repeat(np.hypot(*patches.freq.T) > 0.45, np.diff(patches.first))
    assert np.mean(np.hypot(*patches.freq[patches.even].T) < 0.45) < 0.1
    rng = np.random.default_rng(7)
    coarse = []
    for each in spectra:
        grain = rng.standard_normal((2, len(fine))) * math.sqrt(each.noise / 2)
        coarse.append(replace(each, spectrum=np.where(fine, grain[0] + 1j * grain[1], each.spectrum)))
    found = fit(PLACES, coarse, OPTICS, guess=SCALE * 1.15)
    assert found.trusted
    assert found.scale == pytest.approx(SCALE, rel=0.07)


def noise(seed: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    return np.clip(rng.normal(170, 4, (256, 256, 3)), 0, 255).astype(np.uint8)


def test_noise_alone_is_not_trusted_and_the_guess_stays() -> None:
    found = fit(PLACES, [ring_power(noise(k), OPTICS) for k in range(len(PLACES))], OPTICS, guess=0.07)
    assert not found.trusted
    assert found.scale == 0.07
    assert found.sigma == 0.17


def test_an_even_field_is_not_trusted() -> None:
    flat = ring_power(np.full((256, 256, 3), 170, np.uint8), OPTICS)
    assert not fit(PLACES, [flat] * len(PLACES), OPTICS, guess=SCALE).trusted


def test_few_frames_are_not_trusted() -> None:
    flat = ring_power(noise(1), OPTICS)
    assert not fit(PLACES[: FEWEST - 1], [flat] * (FEWEST - 1), OPTICS, guess=SCALE).trusted


def test_what_does_not_match_is_refused() -> None:
    kept = ring_power(noise(1), OPTICS)
    with pytest.raises(ValueError, match="27 places, 1 spectra"):
        fit(PLACES, [kept], OPTICS, guess=SCALE)
    with pytest.raises(ValueError, match="guess 0"):
        fit(PLACES, [kept] * len(PLACES), OPTICS, guess=0.0)
    with pytest.raises(ValueError, match=f"{SMALLEST_PX} are needed"):
        ring_power(noise(1)[:100, :100], OPTICS)


@pytest.mark.parametrize("scale", [0.5, 1.5])
def test_a_frame_of_other_pixels_gives_the_same_spectrum(scale: float) -> None:
    """A grating of known frequency lands in the same patches whatever the pixels; a large frame is cut."""

    def kept(pixel_um: float) -> RingPower:
        x = np.arange(round(1000 * OPTICS.pixel_um / pixel_um)) - round(500 * OPTICS.pixel_um / pixel_um)
        wave = 120 + 40 * np.cos(2 * math.pi * 0.8 / OPTICS.resolution_um * x * pixel_um)
        frame = np.repeat(np.tile(wave, (len(x), 1))[:, :, None], 3, axis=2).astype(np.uint8)
        return ring_power(frame, replace(OPTICS, pixel_um=pixel_um))

    first, second = kept(OPTICS.pixel_um), kept(OPTICS.pixel_um * scale)
    assert first.size_px == second.size_px == LARGEST_PX
    strong = np.abs(first.spectrum) > 0.3 * np.abs(first.spectrum).max()
    assert np.abs(second.spectrum[strong]) == pytest.approx(np.abs(first.spectrum[strong]), rel=0.15)


@pytest.mark.parametrize("columns", [6, 10])
def test_derivatives_are_those_of_the_columns(columns: int) -> None:
    """By difference quotients; the source's are only as good as the soft edge of the pupil is smooth."""
    p = np.array([0.1, 0.2, 0.5, 0.1, -0.05, 0.05, 0.04, -0.03, 0.7, 0.3, -0.5])[: 9 if columns == 6 else 11]
    x, freq = np.arange(-6, 6.1, 0.8), np.array([[0.3, 0.4], [-0.2, 0.9], [1.1, 0.2]], np.float32)
    slopes = columns_of(p, x, freq, np.float32(0.16), columns, True)[1]
    for k, most in enumerate([0.01, 0.01, 0.12, 0.12, 0.12, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01][: len(p)]):
        step = np.zeros(len(p))
        step[k] = 1e-3
        up, down = (columns_of(p + s * step, x, freq, np.float32(0.16), columns, False)[0] for s in (1, -1))
        assert np.abs((up - down) / 2e-3 - slopes[k]).max() < most * np.abs(slopes[k]).max()


def test_the_source_points_stand_for_all_of_the_lamp(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a few hundred points would have it, far from focus, where the points alone would not."""
    p = np.array([0.0, 0.0, 0.7, 0.05, -0.05, 0.05, 0.04, -0.03, 0.0])
    x, freq = np.array([-9.0, -7.0, 7.0, 9.0]), np.array([[0.3, 0.2], [-0.2, 0.4], [0.6, 0.2]], np.float32)

    def seen(count: int) -> NDArray[np.complex64]:
        monkeypatch.setattr(weak_object, "_points", lambda: rings(count, 0.0).astype(np.float32))
        monkeypatch.setattr(weak_object, "_SOURCE_POINTS", count)
        return columns_of(p, x, freq, np.float32(0.16), 2, False)[0]

    few, many = seen(37), seen(600)
    monkeypatch.setattr(weak_object, "_smear", lambda *given: np.ones((3, 4), np.float32))
    bare = np.abs(seen(37) - many).max()
    assert np.abs(few - many).max() < 0.5 * bare
