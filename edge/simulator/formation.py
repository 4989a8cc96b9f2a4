"""Partially coherent image formation after Abbe: a sum over condenser source points.

Frequencies are in units of ``NA / wavelength_ref``, lengths in ``wavelength_ref / NA`` (4 pixels each), so
one simulation serves every objective; only ``na_over_n`` (the sine of the half aperture) tells a dry lens
from oil.

Theory of operation
-------------------
A thin specimen has complex transmission ``t(x) = exp(-OD/2 + i phase)``. The spectrum ``T(f)`` of it is taken
once per colour. For a source point ``s`` (direction of one plane wave of the condenser) the spectrum in the
pupil is ``T(f)`` seen through ``P(f + s)``; the image is ``sum_s |IFFT[T(f) P(f + s)]|^2 / sum_s |P(s)|^2``.
Only frequencies inside the shifted pupil contribute, so all but the last transform runs over that box alone.
(Goodman, Introduction to Fourier Optics, ch. 7; Sheppard & Mao, J. Mod. Opt. 35, 1988.)

Defocus of ``d`` depths of field (``z = d n wl / NA^2``) has the exact, not paraxial, phase
``2 pi d (wl_ref / wl) (sqrt(1 - s^2 rho^2) - 1) / s^2`` with ``s = NA / n`` and ``rho`` the pupil radius.
Positive ``d``: the stage has gone past focus in its positive direction. Tilt of the lamp, coma, spherical
aberration and a chromatic focal shift are what tells the two directions apart.

Far from focus a source point moves its image sideways, by ``d s`` in first order. So the images of a finite
number of points would lie beside each other as ghosts; a point stands for a small disc of the lamp, whose
points smear the point's image over a disc ``d`` times as large. All points have the same disc, so their sum
is smeared at once: its spectrum is multiplied by ``2 J1(u) / u``, the transform of a disc of radius ``r``,
with ``u = 2 pi |d| f r``.

A thick specimen is two thin layers a distance apart: light scattered by either is added with that layer's
defocus, light scattered by both with the mean defocus. At no distance this is exactly the thin specimen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.lamp import disc, rings, smear
from edge.optics import PIXELS_PER_RESOLUTION, REFERENCE_WAVELENGTH_UM
from edge.simulator.specimens import Specimen

#: Of the rings of source points, in rad; other than in `edge.weak_object`.
_TURN = 0.27
#: Centre wavelengths of the colour channels (red, green, blue) in µm.
CHANNEL_WAVELENGTHS_UM = (0.61, 0.54, 0.465)

Complex = NDArray[np.complex64]
Float = NDArray[np.float32]


@dataclass(frozen=True)
class Imaging:
    """Everything between lamp and sensor plane. Lengths along z in depths of field, the pupil in units of NA.

    ``condenser_ratio``: condenser NA over objective NA (0.05 to 1). ``tilt``: lamp decentring (x, y) in NA.
    ``spherical_waves`` (Zernike-like ``6 rho^4 - 6 rho^2``), ``coma_waves`` (x, y), ``astigmatism_waves``:
    wave aberrations in reference wavelengths. ``chromatic_dof``: focal shift of red, green, blue, added to
    the defocus, so that a colour is sharpest where the defocus is minus its shift. ``thickness_dof``:
    distance of the two layers of the specimen. ``na_over_n``: sine of the half aperture, below 1.
    """

    condenser_ratio: float = 0.55
    tilt: tuple[float, float] = (0.12, 0.05)
    spherical_waves: float = 0.08
    coma_waves: tuple[float, float] = (0.06, 0.02)
    astigmatism_waves: float = 0.0
    chromatic_dof: tuple[float, float, float] = (0.35, 0.0, -0.45)
    thickness_dof: float = 0.0
    na_over_n: float = 0.4

    @classmethod
    def random(cls, rng: np.random.Generator) -> Imaging:
        """One microscope from the span of DIY optics: lamps off axis, plastic condensers, cheap achromats."""
        tilt, angle = abs(rng.normal(0, 0.13)), rng.uniform(0, 2 * math.pi)
        coma, coma_angle = abs(rng.normal(0, 0.07)), rng.uniform(0, 2 * math.pi)
        blue = rng.normal(-0.35, 0.35)
        return cls(
            condenser_ratio=float(rng.uniform(0.2, 0.85)),
            tilt=(float(tilt * math.cos(angle)), float(tilt * math.sin(angle))),
            spherical_waves=float(rng.normal(0.04, 0.07)),
            coma_waves=(float(coma * math.cos(coma_angle)), float(coma * math.sin(coma_angle))),
            astigmatism_waves=float(rng.normal(0, 0.03)),
            chromatic_dof=(float(rng.normal(0.25, 0.25)), 0.0, float(blue)),
            thickness_dof=float(rng.choice([0.0, rng.uniform(0, 1.5)])),
            na_over_n=float(rng.uniform(0.25, 0.85)),
        )


def source_points(imaging: Imaging, at_least: int, rng: np.random.Generator | None = None) -> Float:
    """``(S, 2)`` float32 source points on the condenser disc in units of NA, S the next of 1, 7, 19, 37 ...

    With ``rng`` their rings are turned, so that no network learns the pattern that a finite number of points
    leaves far from focus.
    """
    turn = _TURN if rng is None else float(rng.uniform(0, 2 * math.pi))
    points = imaging.condenser_ratio * rings(at_least, turn) + np.asarray(imaging.tilt)
    return np.asarray(points, np.float32)


def lamp(imaging: Imaging, defocus_dof: float, rng: np.random.Generator | None = None) -> tuple[Float, float]:
    """The source points that suffice at this defocus or nearer, and the radius of each one's disc (in NA).

    For `ImageFormer.images`. The number grows with the area that the defocus spreads the lamp over.
    """
    ratio = imaging.condenser_ratio
    points = source_points(imaging, round(min(61.0, 9 + 9 * ratio**2 * abs(defocus_dof))), rng)
    return points, disc(ratio, points, imaging.na_over_n)


class ImageFormer:
    """A specimen seen through one microscope; each image costs three small FFTs per source point."""

    def __init__(self, specimen: Specimen, imaging: Imaging) -> None:
        self.specimen, self.imaging = specimen, imaging
        height, width = specimen.shape
        self._freq_y, self._freq_x = (
            np.fft.fftshift(np.fft.fftfreq(n) * PIXELS_PER_RESOLUTION).astype(np.float32)
            for n in (height, width)
        )
        self._spectra = [self._layer_spectra(channel) for channel in range(3)]

    def images(self, defocus_dof: Sequence[float], points: Float, disc: float = 0.0) -> Float:
        """Linear intensities ``(Z, H, W, 3)`` float32, one for each defocus in depths of field.

        An empty field is 1. ``points``: ``(S, 2)`` float32 source points in units of NA, each the middle of a
        disc of the lamp with radius ``disc``; see `lamp`.
        """
        height, width = self.specimen.shape
        out = np.zeros((len(defocus_dof), height, width, 3), np.float32)
        for channel, wavelength in enumerate(CHANNEL_WAVELENGTHS_UM):
            scale = wavelength / REFERENCE_WAVELENGTH_UM
            inside_pupil = np.hypot(points[:, 0], points[:, 1]) <= 1.0
            # A lamp tilted beyond the pupil is dark field: its background is then 0, not 1.
            weight = np.float32(1 / max(int(inside_pupil.sum()), len(points) // 4, 1))
            # the lamp's directions are the same for every colour; their frequencies are not
            for point in points / np.float32(scale):
                self._add_point(out[..., channel], point, channel, scale, defocus_dof, weight)
            if disc > 0:
                for k, defocus in enumerate(defocus_dof):
                    shift = abs(defocus + self.imaging.chromatic_dof[channel]) * disc
                    out[k, ..., channel] = self._smeared(out[k, ..., channel], shift)
        return out

    def _smeared(self, image: Float, radius: float) -> Float:
        """``image`` ``(H, W)`` seen from all of a disc of the lamp, which moves it by up to ``radius``."""
        from scipy import fft

        height, width = image.shape
        fx = np.fft.rfftfreq(width).astype(np.float32) * PIXELS_PER_RESOLUTION
        fy = np.fft.fftfreq(height).astype(np.float32) * PIXELS_PER_RESOLUTION
        left = smear(np.hypot(fx[None, :], fy[:, None]), np.float32(radius))
        out = fft.irfft2(fft.rfft2(image) * left, s=image.shape)
        return np.asarray(out, np.float32)

    def _add_point(
        self,
        out: Float,
        point: Float,
        channel: int,
        scale: float,
        defocus_dof: Sequence[float],
        weight: np.float32,
    ) -> None:
        """Add ``weight * |amplitude|^2`` of one source frequency to ``out`` ``(Z, H, W)`` in place."""
        from scipy import fft

        rows, columns = _within(self._freq_y, point[1], scale), _within(self._freq_x, point[0], scale)
        fx = (self._freq_x[columns] + point[0])[None, :] * np.float32(scale)
        fy = (self._freq_y[rows] + point[1])[:, None] * np.float32(scale)
        rho2 = fx**2 + fy**2
        inside = rho2 <= 1.0
        np.minimum(rho2, 1.0, out=rho2)
        sag = self._sag(rho2, scale)
        fixed = _cis(self._aberration_rad(fx, fy, rho2, scale)) * inside
        direct_sag = float(self._sag(np.float32(min(1.0, float(point @ point) * scale**2)), scale))
        focus_shift, half = self.imaging.chromatic_dof[channel], 0.5 * self.imaging.thickness_dof
        layers = [spectrum[rows, columns] * fixed for spectrum in self._spectra[channel]]
        height, width = self.specimen.shape
        for k, defocus in enumerate(defocus_dof):
            total = defocus + focus_shift
            product = layers[0] * _cis(np.float32(total + half) * sag)
            for layer, dz in zip(layers[1:], (half, 0.0), strict=False):
                # every layer scatters the same direct wave, so it takes over the phase of that
                product += layer * _cis(np.float32(total - dz) * sag + np.float32((half + dz) * direct_sag))
            # the box of the pupil goes to the origin: a shifted spectrum, which |amplitude|^2 does not see
            amplitude = fft.ifft(fft.ifft(product, n=height, axis=0), n=width, axis=1)
            out[k] += weight * (amplitude.real**2 + amplitude.imag**2)

    def _layer_spectra(self, channel: int) -> list[Complex]:
        """Shifted spectra: the whole; or upper layer, lower less direct light, light scattered by both."""
        wavelength = CHANNEL_WAVELENGTHS_UM[channel]
        phase = self.specimen.phase_rad * np.float32(REFERENCE_WAVELENGTH_UM / wavelength)
        log_t = (-0.5 * self.specimen.od[channel] + 1j * phase).astype(np.complex64)
        if self.imaging.thickness_dof == 0:
            return [_spectrum(np.exp(log_t))]
        upper = np.exp(log_t * self.specimen.upper_share)
        lower = np.exp(log_t * (1 - self.specimen.upper_share))
        return [_spectrum(upper), _spectrum(lower - 1), _spectrum((upper - 1) * (lower - 1))]

    def _sag(self, rho2: Float | np.float32, scale: float) -> Float:
        """Defocus phase in rad per depth of field."""
        s2 = self.imaging.na_over_n**2
        out: Float = (np.sqrt(1 - np.float32(s2) * rho2) - 1) * np.float32(2 * math.pi / s2 / scale)
        return out

    def _aberration_rad(self, fx: Float, fy: Float, rho2: Float, scale: float) -> Float:
        im = self.imaging
        waves = np.float32(im.spherical_waves) * (6 * rho2**2 - 6 * rho2)
        waves += (3 * rho2 - 2) * (np.float32(im.coma_waves[0]) * fx + np.float32(im.coma_waves[1]) * fy)
        waves += np.float32(im.astigmatism_waves) * (fx**2 - fy**2)
        return waves * np.float32(2 * math.pi / scale)


def _within(freq: Float, shift: float, scale: float) -> slice:
    """The rising frequencies that a pupil of radius 1 about ``-shift`` reaches."""
    inside = np.flatnonzero(np.abs(freq + np.float32(shift)) * scale <= 1.0)
    return slice(int(inside[0]), int(inside[-1]) + 1) if len(inside) else slice(0, 0)


def _spectrum(transmission: Complex) -> Complex:
    from scipy import fft

    return np.asarray(np.fft.fftshift(fft.fft2(transmission)), np.complex64)


def _cis(phase_rad: Float) -> Complex:
    out = np.empty(phase_rad.shape, np.complex64)
    np.cos(phase_rad, out=out.real)
    np.sin(phase_rad, out=out.imag)
    return out
