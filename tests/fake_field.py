"""A specimen and microscope so small that a whole focus stack is computed in no time."""

from __future__ import annotations

import math

import cv2
import numpy as np

from edge.simulator.fields import LEVEL, Field
from edge.simulator.formation import Imaging
from edge.simulator.specimens import Specimen

#: A plane or more in each part of the real grid.
GRID = np.array([-12.0, -8.0, -4.0, -1.0, 0.0, 1.0, 4.0, 8.0, 12.0])
IMAGING = Imaging()


def specimen(seed: int = 0, size: int = 32, od: float = 0.5) -> Specimen:
    """White noise that absorbs and refracts."""
    rng = np.random.default_rng(seed)
    shape = (size, size)
    density = (od * rng.random((3, *shape))).astype(np.float32)
    phase = (0.2 * rng.standard_normal(shape)).astype(np.float32)
    return Specimen("noise", density, phase, rng.random(shape).astype(np.float32))


def pattern(size: int = 96, seed: int = 0) -> np.ndarray:
    """``(size, size)`` float32 transmission: dark spots on a field of 1, sharp."""
    rng = np.random.default_rng(seed)
    image = np.ones((size, size), np.float32)
    for _ in range(40):
        centre = tuple(rng.integers(0, size, 2).tolist())
        cv2.circle(image, centre, int(rng.integers(2, 6)), float(rng.uniform(0.3, 0.7)), -1, cv2.LINE_AA)
    return image


def blurred_planes(grid: np.ndarray, size: int = 96) -> list[np.ndarray]:
    """The pattern in and out of focus: for each defocus ``(size, size)`` float32."""
    sharp = pattern(size)
    return [cv2.GaussianBlur(sharp, (0, 0), math.hypot(0.8, 0.8 * float(d))) for d in grid]


def blurred_field() -> Field:
    """A focus stack of the pattern, blurred alike on both sides."""
    grid = np.concatenate([-np.arange(16.0, 0.0, -0.5), np.arange(0.0, 16.1, 0.5)])
    planes = np.stack(blurred_planes(grid))[..., None] * np.full(3, LEVEL)
    return Field(planes.astype(np.uint16), grid)


def empty_field() -> Field:
    """Nothing but light."""
    return Field(np.full((2, 96, 96, 3), LEVEL, np.uint16), np.array([-16.0, 16.0]))
