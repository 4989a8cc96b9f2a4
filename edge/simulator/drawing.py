"""What specimens are drawn with: periodic noise, soft discs, cells, threads."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]


def noise(
    shape: tuple[int, ...],
    rng: np.random.Generator,
    exponent: float,
    stretch: float = 1.0,
    angle: float = 0.0,
) -> Float:
    """Periodic noise with amplitude spectrum ``f ** -(exponent / 2)``, zero mean and unit variance."""
    from scipy import fft

    fy, fx = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None, :]
    u, v = fx * math.cos(angle) + fy * math.sin(angle), -fx * math.sin(angle) + fy * math.cos(angle)
    radius = np.sqrt((u * stretch) ** 2 + v**2 + (1.0 / max(shape)) ** 2)
    spectrum = fft.rfft2(rng.standard_normal(shape).astype(np.float32)) * radius ** (-exponent / 2)
    spectrum[0, 0] = 0
    out = fft.irfft2(spectrum, s=shape)
    return np.asarray(out / out.std(), np.float32)


def soft_step(x: Float, width: float) -> Float:
    """0 far below zero, 1 far above; most of the way within ``width`` of it."""
    return np.asarray(1 / (1 + np.exp(-np.clip(x / width, -30, 30))), np.float32)


def disc(q: Float, height: float = 1.0) -> Float:
    """A disc of radius 1 with an edge about a tenth of it wide."""
    return np.asarray(height * soft_step(1 - q, 0.035), np.float32)


def pale_disc(q: Float, pallor: float, pallor_size: float) -> Float:
    """A disc that is thinner in the middle by ``pallor``, its share of the thickness."""
    return np.asarray(disc(q) * (1 - pallor * np.exp(-((q / pallor_size) ** 2) * 2)), np.float32)


def stamp(
    out: Float,
    y: float,
    x: float,
    radius: float,
    rng: np.random.Generator,
    profile: Callable[[Float], Float],
    elongation: float = 0.12,
) -> None:
    """Add ``profile(r / radius)`` of a slightly wobbly ellipse at (y, x) to ``out``; the edges wrap."""
    height, width = out.shape
    reach = min(math.ceil(radius * (1.4 + elongation)) + 2, height // 2 - 1, width // 2 - 1)
    dy, dx = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float32)
    dy, dx = dy - np.float32(y % 1), dx - np.float32(x % 1)
    angle, axis = rng.uniform(0, math.pi), 1 + elongation * rng.uniform(0, 1)
    u, v = dx * math.cos(angle) + dy * math.sin(angle), -dx * math.sin(angle) + dy * math.cos(angle)
    theta = np.arctan2(v, u)
    wobble = 1 + sum(rng.normal(0, 0.03) * np.cos(k * theta + rng.uniform(0, 6.28)) for k in (2, 3, 4, 5))
    q = (np.hypot(u / axis, v * axis) / (radius * wobble)).astype(np.float32)
    rows = (int(y) + np.arange(-reach, reach + 1)) % height
    cols = (int(x) + np.arange(-reach, reach + 1)) % width
    out[np.ix_(rows, cols)] += profile(q)


def draw_cells(
    shape: tuple[int, int],
    rng: np.random.Generator,
    count: int,
    radius: tuple[float, float],
    elongation: float,
) -> Float:
    out = np.zeros(shape, np.float32)
    for _ in range(count):
        depth = rng.uniform(0.5, 1.2)
        y, x, r = rng.uniform(0, shape[0]), rng.uniform(0, shape[1]), rng.uniform(*radius)
        stamp(out, y, x, r, rng, partial(disc, height=depth), elongation)
    return out


def thread(shape: tuple[int, int], rng: np.random.Generator) -> Float:
    """A curved thread across the field: the distance to a sine, as a soft band."""
    from scipy import ndimage

    yy, xx = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    across, along = shape
    if rng.random() < 0.5:
        yy, xx = xx, yy
        along, across = shape
    wave = across * (rng.uniform(0.2, 0.8) + 0.12 * np.sin(2 * math.pi * (xx / along + rng.uniform())))
    width = rng.uniform(1.0, 3.0)
    band = (np.abs(yy - wave) < width).astype(np.float32)
    return np.asarray(ndimage.gaussian_filter(band, 0.7), np.float32)


def per_area(shape: tuple[int, int], per_128_px_square: float) -> int:
    return max(1, round(per_128_px_square * shape[0] * shape[1] / 128**2))
