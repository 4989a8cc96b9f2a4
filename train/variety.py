"""Specimens that no slide has shown, for training alone: a few photographs teach a network their own texture
and stain by heart, and little of other slides.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.simulator.drawing import Float, disc, noise, per_area, soft_step, stamp
from edge.simulator.specimens import Specimen, specimen_of
from train.recipe import MOSAIC


def mosaic(shape: tuple[int, int], rng: np.random.Generator) -> Specimen:
    """Pieces that cover one another, of every size, three dyes and any refraction: a dead-leaves model.

    Such pictures have the edges and the spectrum of natural ones (Lee, Mumford & Huang, IJCV 41, 2001), and
    what networks learn from them holds elsewhere (Baradad et al., NeurIPS 2021).
    """
    dyes = rng.uniform(0.05, 1.0, (3, 3)).astype(np.float32)
    smallest, largest = rng.uniform(1.5, 4), rng.uniform(20, 60)
    layers = np.zeros((4, *shape), np.float32)  # amounts of the dyes, and of what only refracts
    roughness = rng.uniform(0, 0.6)
    for _ in range(per_area(shape, rng.uniform(15, 90))):
        # sizes of a power law of exponent 3
        radius = smallest / math.sqrt(1 - rng.random() * (1 - (smallest / largest) ** 2))
        cover = np.zeros(shape, np.float32)
        stamp(cover, rng.uniform(0, shape[0]), rng.uniform(0, shape[1]), radius, rng, disc, rng.uniform(0, 2))
        np.clip(cover, 0, 1, out=cover)
        amounts = rng.exponential(0.5, 4) * (rng.random(4) < 0.6)
        layers += (amounts.astype(np.float32)[:, None, None] - layers) * cover
    layers *= np.clip(1 + roughness * noise(shape, rng, rng.uniform(1, 2.5)), 0, None)
    od = np.tensordot(dyes, layers[:3], axes=(0, 0))
    phase = rng.uniform(0.1, 1.5) * (layers[:3].mean(axis=0) + rng.uniform(0, 0.7) * layers[3])
    return specimen_of(MOSAIC, od, phase, rng)


def turned(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """A photograph ``(H, W, 3)`` turned by any angle and stretched by some tenths; its edges are mirrored."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), rng.uniform(0, 360), 1.0)
    stretch = np.diag(np.exp(rng.normal(0, 0.12, 2)))
    centre = np.array([width / 2, height / 2])
    matrix = np.column_stack([stretch @ matrix[:, :2], stretch @ (matrix[:, 2] - centre) + centre])
    mirror = cv2.BORDER_REFLECT_101
    return np.asarray(
        cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=mirror)
    )


def varied(specimen: Specimen, rng: np.random.Generator, other: Callable[[], Specimen]) -> Specimen:
    """``specimen`` stained anew; at times with parts of an ``other`` in it, or refracting otherwise."""
    od, phase = specimen.od, specimen.phase_rad
    if rng.random() < 0.35:
        second = other()
        here = soft_step(
            noise(phase.shape, rng, 3.0) + np.float32(rng.normal(0, 0.5)), rng.choice([0.05, 0.5])
        )
        od, phase = od * here + second.od * (1 - here), phase * here + second.phase_rad * (1 - here)
    od = restained(od, rng)
    if rng.random() < 0.4:
        material = np.tensordot(rng.dirichlet(np.ones(3)), od, axes=1)
        phase = material * rng.uniform(0.1, 2.0) + 0.1 * rng.random() * noise(phase.shape, rng, 2.0)
    phase = phase * np.exp(rng.normal(0, 0.25))
    return specimen_of(specimen.name, od, phase, rng)


def restained(od: Float, rng: np.random.Generator) -> Float:
    """Optical density ``(3, H, W)`` in other colours and another contrast."""
    share = rng.uniform(0, 0.7)
    mixing = (1 - share) * np.eye(3) + share * rng.dirichlet(np.ones(3), 3)
    out = np.tensordot(mixing * np.exp(rng.normal(0, 0.35, (3, 1))), od, axes=1)
    top = max(float(np.percentile(out, 99)), 1e-3)
    return np.asarray((top * (out.clip(0) / top) ** np.exp(rng.normal(0, 0.2))).clip(0, 3), np.float32)
