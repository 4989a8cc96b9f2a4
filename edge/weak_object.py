"""Image spectra of an object through the focus: partially coherent transfer of both diffracted beams, and
of scattered light that beats with scattered light.

What it is for, and the theory, are in `edge.through_focus`. Frequencies ``freq`` ``(C, 2)`` are in NA over
the reference wavelength.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.lamp import disc, rings, smear
from edge.optics import REFERENCE_WAVELENGTH_UM

__all__ = ["COLOURS", "COMA", "FOCUS", "RATIO", "SCALE", "SPHERICAL", "THICKNESS", "TILT", "columns_of"]

Array = NDArray[np.float64]
Complex = NDArray[np.complex64]

#: Parameters: log scale, focus, condenser ratio, tilt, spherical, coma, thickness; in white light the focal
#: shifts of red and blue too, in depths of field.
SCALE, FOCUS, RATIO, TILT, SPHERICAL, COMA, THICKNESS, COLOURS = 0, 1, 2, 3, 5, 6, 8, 9
_SOURCE = (2, 3, 4)
_SMEARING = (SCALE, FOCUS, RATIO)
_SOURCE_POINTS = 37
#: Condenser ratios whose transfer stands for that of scattered light among itself.
_SCATTERED = (1.0, 0.7)
_SOFT_EDGE = 0.12  # of the pupil, so that its edge has a derivative


@dataclass(frozen=True)
class _Light:
    """A colour: ``wavelength`` over the reference, and which parameter its focal shift is, if any."""

    wavelength: float
    shift: int | None = None


# The colour channels' (`edge.simulator.formation.CHANNEL_WAVELENGTHS_UM`).
_RED = _Light(0.61 / REFERENCE_WAVELENGTH_UM, COLOURS)
_GREEN = _Light(0.54 / REFERENCE_WAVELENGTH_UM)
_BLUE = _Light(0.465 / REFERENCE_WAVELENGTH_UM, COLOURS + 1)


def columns_of(
    p: Array, x: Array, freq: NDArray[np.float32], s2: np.float32, columns: int, slopes: bool
) -> tuple[Complex, Complex]:
    """The columns ``(C, N, columns)`` that span an object's spectra; with ``slopes``, the derivatives
    too, ``(P, C, N, columns)``, else none of them. ``x`` ``(N,)``: defocus before scale and focus.

    ``columns`` 2: a weak object of one layer. 6: of two, for either diffracted side the sum of the layers and
    their difference, and what the light that it scatters makes among itself. 10: in white light, which adds
    red and blue images of one layer; ``p`` is longer by their shifts.
    """
    parts = [_weak(p, x, freq, s2, (1, -1), 1 if columns == 2 else 2, slopes)]
    if columns > 2:
        parts += [_scattered(p, x, freq, s2, ratio, slopes) for ratio in _SCATTERED]
    if columns == 10:
        parts += [_weak(p, x, freq, s2, (1, -1), 1, slopes, light) for light in (_RED, _BLUE)]
    return np.concatenate([span for span, _ in parts], axis=2), np.concatenate([m for _, m in parts], axis=3)


def _scattered(
    p: Array, x: Array, freq: NDArray[np.float32], s2: np.float32, ratio: float, slopes: bool
) -> tuple[Complex, Complex]:
    """One column: two scattered beams beat, whose directions fill the pupil or a disc of it, whatever lamp
    there is. So it is the transfer of a wide one on the axis (of incoherent light, where ``ratio`` is 1).
    """
    wide = p.copy()
    wide[[RATIO, TILT, TILT + 1, THICKNESS]] = ratio, 0, 0, 0
    span, moved = _weak(wide, x, freq, s2, (1,), 1, slopes)
    if slopes:
        moved[[*_SOURCE, THICKNESS]] = 0
    return span, moved


def _weak(
    p: Array,
    x: Array,
    freq: NDArray[np.float32],
    s2: np.float32,
    sides: tuple[int, ...],
    layers: int,
    slopes: bool,
    light: _Light = _GREEN,
) -> tuple[Complex, Complex]:
    """The columns of a weak object: for each of ``sides`` the sum of ``layers``, and their difference."""
    growth = math.exp(p[SCALE])
    z = _defocus(p, x, light).astype(np.float32)
    out: list[Complex] = []
    moves: list[Complex] = []
    for side in sides:
        turn, weight, waves = _beams(p, freq, s2, side, light)
        moving = _SOURCE if slopes else ()
        near = [(1e-2, *_beams(_moved(p, k, 1e-2), freq, s2, side, light)[:2]) for k in moving]
        angle = z[None, :, None] * turn[:, None, :]
        phase = np.empty(angle.shape, np.complex64)
        np.cos(angle, out=phase.real)
        np.sin(angle, out=phase.imag)
        half = np.float32(p[THICKNESS] / 2)
        sums: list[Any] = []
        for layer in range(layers):
            sums += _layer_weights(layer, half, turn, weight, waves, near, slopes)
        values = phase @ np.stack(sums, axis=2).astype(np.complex64)
        count = len(sums) // layers
        for layer in range(layers):
            v = values[:, :, layer * count : (layer + 1) * count]
            out.append(v[:, :, 0] if side == 1 else v[:, :, 0].conj())
            if slopes:
                along = 1j * v[:, :, 1]
                source = [v[:, :, 6 + 2 * k] + 1j * z * v[:, :, 7 + 2 * k] for k in range(3)]
                wave = [v[:, :, k] for k in (2, 3, 4, 5)]
                shifts = [along if light.shift == k else 0 * along for k in range(COLOURS, len(p))]
                every = [along * (growth * (x - p[FOCUS])), -growth * along, *source, *wave, *shifts]
                moved = np.stack(every).astype(np.complex64)
                moves.append(moved if side == 1 else moved.conj())
    left = _smear(p, x, freq, s2, light)
    sharp: Complex = np.stack(out, axis=2)
    span: Complex = sharp * left[:, :, None]
    if not slopes:
        return span, np.zeros((0, *span.shape), np.complex64)
    moved_span: Complex = np.stack(moves, axis=3) * left[:, :, None]
    for k in _SMEARING if light.shift is None else (*_SMEARING, light.shift):
        change = (_smear(_moved(p, k, 1e-3), x, freq, s2, light) - left) / np.float32(1e-3)
        moved_span[k] += sharp * change[:, :, None]
    return span, moved_span


def _defocus(p: Array, x: Array, light: _Light) -> Array:
    """``(N,)`` depths of field that ``light`` is out of focus."""
    shift = 0.0 if light.shift is None else p[light.shift]
    return np.asarray(math.exp(p[SCALE]) * (x - p[FOCUS]) + shift, np.float64)


def _smear(
    p: Array, x: Array, freq: NDArray[np.float32], s2: np.float32, light: _Light
) -> NDArray[np.float32]:
    """``(C, N)``: what is left of the patches' contrast where a source point is its disc of the lamp."""
    radius = disc(p[RATIO], _points() * p[RATIO] + p[TILT : TILT + 2], math.sqrt(s2))
    z = np.abs(_defocus(p, x, light))
    frequency = np.hypot(freq[:, 0], freq[:, 1])
    return np.asarray(smear(frequency[:, None], radius * z[None, :]), np.float32)


def _layer_weights(
    layer: int, half: np.float32, turn: Any, weight: Any, waves: Any, near: list[Any], slopes: bool
) -> list[Any]:
    """Weights ``(C, S)`` of the beams' phases: for the value, and for what the derivatives are made of.

    ``layer`` 0 for the sum of two layers ``half`` a thickness to either side, 1 for their difference.
    """
    trig, other = (np.cos, np.sin) if layer == 0 else (np.sin, np.cos)
    here = trig(half * turn)
    value = weight * here
    if not slopes:
        return [value]
    thicker = weight * other(half * turn) * turn * np.float32(-0.5 if layer == 0 else 0.5)
    out = [value, value * turn, *(1j * value * wave for wave in waves), thicker]
    for step, turn_there, weight_there in near:
        out += [(weight_there * trig(half * turn_there) - value) / np.float32(step)]
        out += [value * (turn_there - turn) / np.float32(step)]
    return out


def _moved(p: Array, k: int, step: float) -> Array:
    out = p.copy()
    out[k] += step
    return out


def _beams(
    p: Array, freq: NDArray[np.float32], s2: np.float32, side: int, light: _Light
) -> tuple[Any, Any, Any]:
    """Of each patch and source point ``(C, S)``: phase per dof and complex weight; ``(3, C, S)`` waves.

    All relative to the direct beam. The waves are the derivatives of phase by spherical aberration and coma.
    """
    source = (_points() * p[RATIO] + p[TILT : TILT + 2]).astype(np.float32)
    pupil = source[None] + np.float32(side * light.wavelength) * freq[:, None]
    direct2, rho2 = (source**2).sum(-1), (pupil**2).sum(-1)
    inside = _inside(direct2)
    edge = _inside(rho2) * inside
    rad = np.float32(2 * math.pi / light.wavelength)
    waves = (_waves(pupil, rho2) - _waves(source, direct2)[:, None]) * rad
    aberration = np.tensordot(p[[SPHERICAL, COMA, COMA + 1]].astype(np.float32), waves, 1)
    weight = (edge * np.exp(1j * aberration)).astype(np.complex64) / max(float(inside.sum()), 1.0)
    return (_sag(rho2, s2) - _sag(direct2, s2)) * rad, weight, waves


def _inside(rho2: Any) -> Any:
    """1 in the pupil, 0 outside, with a smooth edge."""
    share = np.clip((1 - np.sqrt(rho2)) / _SOFT_EDGE + 0.5, 0, 1)
    return share * share * (3 - 2 * share)


def _sag(rho2: Any, s2: np.float32) -> Any:
    """Defocus phase in reference wavelengths per depth of field (Sheppard & Mao 1988: not paraxial)."""
    root = np.sqrt(np.maximum(1 - s2 * np.minimum(rho2, 1.15), 1e-3))
    return (root - 1) / s2


def _waves(q: Any, rho2: Any) -> Any:
    """Phase in waves per wave of spherical aberration and of coma in x and y."""
    coma = 3 * rho2 - 2
    return np.stack([6 * rho2**2 - 6 * rho2, coma * q[..., 0], coma * q[..., 1]])


@lru_cache(maxsize=1)
def _points() -> NDArray[np.float32]:
    """``(S, 2)`` points of the unit disc."""
    return np.asarray(rings(_SOURCE_POINTS, 0.0), np.float32)
