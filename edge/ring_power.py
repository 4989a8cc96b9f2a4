"""What the wave theory needs of a frame: its spectrum, at patches of frequencies that lie evenly.

`edge.through_focus` fits it. Frequencies are in ``NA / wavelength_ref``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from edge.optics import PIXELS_PER_RESOLUTION, Optics

__all__ = ["LARGEST_PX", "SMALLEST_PX", "Patches", "RingPower", "patches_of", "ring_power"]

Array = NDArray[np.float64]
Complex = NDArray[np.complex64]

#: Side of the central window that is looked at, in pixels of the model's sampling, at most and at least.
LARGEST_PX, SMALLEST_PX = 384, 128
#: Patches of frequencies: steps of f², breadth along the ring, span of f.
_F2_STEP, _BREADTH, _F_MIN, _F_MAX = 0.03, 0.1, 0.17, 1.45
#: Every so many are kept, and of those below this frequency.
_EVERY, _EVERY_LOW, _LOW_BELOW = 4, 2, 0.8
_NOISE_F2 = (4.2, 6.0)  # beyond the cut-off of every colour there is noise only


@dataclass(frozen=True)
class RingPower:
    """What is kept of a frame. ``spectrum``: ``(M,)`` complex64 of the windowed green channel over its mean,
    at the modes of all patches on all rings, white noise having the power ``noise``. ``size_px``: the window.
    ``grey``: all three channels were the same, as a monochrome camera's are, which sees all colours as one.
    """

    spectrum: Complex
    noise: float
    size_px: int
    grey: bool = False


@dataclass(frozen=True)
class Patches:
    """``freq``: ``(C, 2)`` (x, y) of each patch; ``modes``: ``(M,)`` places in the flat half-plane spectrum,
    by patches; ``first``: ``(C + 1,)`` where each begins; ``noise_modes``: beyond the cut-off. ``(C,)``:
    whether one is ``low``, and whether it is of those that lie ``even`` over all frequencies.
    """

    freq: Array
    modes: NDArray[np.int64]
    first: NDArray[np.int64]
    noise_modes: NDArray[np.int64]
    low: NDArray[np.bool_]
    even: NDArray[np.bool_]


def ring_power(frame: NDArray[np.uint8], optics: Optics) -> RingPower:
    """What `edge.through_focus.fit` needs of ``frame`` ``(H, W, 3)`` uint8 RGB: the spectrum of its middle,
    at the model's sampling.

    Raises ValueError where the frame is smaller than `SMALLEST_PX` at that sampling.
    """
    from scipy import fft

    green = _resampled(frame, optics.model_scale)
    size = min(LARGEST_PX, *green.shape) // 2 * 2
    if size < SMALLEST_PX:
        raise ValueError(f"frame of {min(green.shape)} px at the model's sampling: {SMALLEST_PX} are needed")
    top, left = (green.shape[0] - size) // 2, (green.shape[1] - size) // 2
    inner = green[top : top + size, left : left + size]
    taper = np.hanning(size + 1)[:-1].astype(np.float32)
    window = taper[:, None] * taper[None, :]
    contrast = inner / max(float(inner.mean()), 1.0) - 1
    spectrum = fft.rfft2(contrast * window).ravel() / np.float32(math.sqrt(float((window**2).sum())))
    patches = patches_of(size)
    noise = float(np.mean(np.abs(spectrum[patches.noise_modes]) ** 2))
    grey = bool((frame == frame[..., :1]).all())
    return RingPower(np.asarray(spectrum[patches.modes], np.complex64), noise, size, grey)


def _resampled(frame: NDArray[np.uint8], scale: float) -> NDArray[np.float32]:
    """The middle of the green channel, ``(h, w)`` float32, at exactly ``scale`` times its size."""
    from scipy import ndimage

    want = math.ceil(LARGEST_PX / scale) + 2
    top, left = max(0, (frame.shape[0] - want) // 2), max(0, (frame.shape[1] - want) // 2)
    green = frame[top : top + want, left : left + want, 1].astype(np.float32)
    if abs(scale - 1) < 1e-3:
        return green
    if scale < 1:  # what the coarser grid cannot hold must not fold back
        green = ndimage.gaussian_filter(green, 0.35 * math.sqrt(1 / scale**2 - 1))
    height, width = (int((n - 1) * scale) + 1 for n in green.shape)
    grid = np.meshgrid(np.arange(height) / scale, np.arange(width) / scale, indexing="ij")
    return np.asarray(ndimage.map_coordinates(green, grid, order=3, mode="nearest"), np.float32)


@lru_cache(maxsize=4)
def patches_of(size: int) -> Patches:
    """Small patches of the half plane of a window of ``size`` px, evenly spaced in f² and along the rings:
    every `_EVERY`-th of them, and at low frequencies every `_EVERY_LOW`-th.
    """
    fx, fy = np.fft.rfftfreq(size) * PIXELS_PER_RESOLUTION, np.fft.fftfreq(size) * PIXELS_PER_RESOLUTION
    x, y = (a.ravel() for a in np.meshgrid(fx, fy))
    f2 = x**2 + y**2
    use = np.flatnonzero((f2 > _F_MIN**2) & (f2 < _F_MAX**2) & ~((x == 0) & (y < 0)))
    ring = ((f2[use] - _F_MIN**2) / _F2_STEP).astype(int)
    mid = np.sqrt(_F_MIN**2 + (ring + 0.5) * _F2_STEP)
    sectors = np.maximum(np.round(math.pi * mid / _BREADTH), 4)
    angle = np.arctan2(y[use], x[use]) / math.pi + 0.5
    name = ring * 1000 + np.minimum(angle * sectors, sectors - 1).astype(int)
    names, which = np.unique(name, return_inverse=True)
    low = (mid < _LOW_BELOW) & (which % _EVERY_LOW == _EVERY_LOW - 1)
    kept = np.flatnonzero(low | (which % _EVERY == _EVERY - 1))
    order = kept[np.argsort(which[kept], kind="stable")]
    edges = np.flatnonzero(np.diff(which[order], prepend=-1, append=len(names)))
    centre = [(x[use[order[a:b]]].mean(), y[use[order[a:b]]].mean()) for a, b in pairwise(edges)]
    noise = np.flatnonzero((f2 > _NOISE_F2[0]) & (f2 < _NOISE_F2[1]))
    begin = order[edges[:-1]]
    even = which[begin] % _EVERY == _EVERY - 1
    return Patches(np.array(centre), use[order], edges, noise, low[begin], even)
